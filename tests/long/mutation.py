"""How the fuzzer spoils what it starts from: bytes as bytes, JSON as JSON, frames by what their heads say."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from random import Random
from typing import Any, Final

import orjson

from tests.transport import peer

DEPTHS: Final = (1, 3, 100, 253, 254, 255, 1000, 1023, 1024, 1025)
NUMBERS: Final = (
    "0", "-0", "-1", "1e999", "-1e999", "1e-999", "NaN", "Infinity", "18446744073709551616", "9" * 400, "0.1", "1" * 20, "01"
)  # fmt: skip
TEXTS: Final = (
    r"\ud800", r"\udc00\ud800", r"\u0000", "\x00", "\\", "\xff", "resp_1", "", "x" * 70_000, "response.completed",
    "Please try again in " + "9" * 400 + "s", "try again in 1.5 minutes", "previous response not found " * 300,
    "previous_response_not_found", "websocket_connection_limit_reached", "\u2028", "-1", "1e400",
)  # fmt: skip
FIELDS: Final = (
    "type", "id", "response", "response_id", "error", "output", "delta", "status", "status_code", "headers", "code", "param",
    "message", "details", "item", "output_index", "content", "text", "role", "name", "arguments", "call_id", "retry-after",
    "retry-after-ms", "summary", "retryable", "retry_after", "delivery", "detail",
)  # fmt: skip
VALUES: Final = (
    "null", "true", "false", "[]", "{}", "[[]]", "[null]", '{"":{}}', '[{"type":5}]', '{"code":[]}', "[1,{}]", '"x"'
)  # fmt: skip
_NAMES: Final = tuple(f'"{name}":' for name in FIELDS)
TOKENS: Final = (
    *(token.encode("latin-1", "replace") for token in (*NUMBERS, *VALUES, *TEXTS[:6], *_NAMES, *'{}[],"\n\r')),
    *(b"data:", b"\r\n\r\n", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xc0\x80", b"\xef\xbb\xbf"),
)
_PLACE: Final = "@place@"


def spoiled(data: bytes, others: Sequence[bytes], rng: Random) -> bytes:
    """Return bytes that one to four mutations have been at, of whatever kind fits."""
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        data = rng.choice(_OF_BYTES)(data, others, rng)
    return data


def spoiled_json(data: bytes, others: Sequence[bytes], rng: Random) -> bytes:
    """Return a JSON text with values, names or nesting changed; now and then with its bytes spoiled as well."""
    if rng.random() < 0.25:
        return spoiled(data, others, rng)
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError:
        return spoiled(data, others, rng)
    for _ in range(rng.choice((1, 1, 2, 3))):
        if isinstance(value, (dict, list)):
            _change(_somewhere(value, rng), rng)
    try:
        text = json.dumps(value)
    except RecursionError:  # it was nested before
        return spoiled(data, others, rng)
    while f'"{_PLACE}"' in text:
        text = text.replace(f'"{_PLACE}"', literal(rng), 1)
    data = text.encode("utf-8", "surrogatepass")
    return spoiled(data, others, rng) if rng.random() < 0.05 else data


def spoiled_frames(data: bytes, others: Sequence[bytes], rng: Random) -> bytes:
    """Return a server's bytes with frames put in, cut up or lied about."""
    for _ in range(rng.choice((1, 1, 2, 3))):
        data = rng.choice((_lie_about_length, _insert_frame, _fragment, *_OF_BYTES))(data, others, rng)
    return data


def literal(rng: Random) -> str:
    """Return a JSON value that nobody expects: a text, because some of them are no Python value."""
    kind = rng.random()
    if kind < 0.3:
        return rng.choice(VALUES)
    if kind < 0.5:
        return rng.choice(NUMBERS)
    if kind < 0.8:
        return '"' + rng.choice(TEXTS) + '"'
    depth = rng.choice(DEPTHS)
    opening, inside, closing = rng.choice((("[", "", "]"), ('{"error":', "1", "}"), ('[{"id":', "[]", "}]")))
    return opening * depth + inside + closing * depth


def pieces(data: bytes, rng: Random) -> list[bytes]:
    """Return the bytes in the pieces in which a network may bring them."""
    kind = rng.random()
    if kind < 0.3 or not data:
        return [data]
    if kind < 0.4 and len(data) < 300:
        return [data[at : at + 1] for at in range(len(data))]
    cuts = sorted(rng.randrange(len(data) + 1) for _ in range(rng.randrange(1, 6)))
    return [data[start:stop] for start, stop in zip([0, *cuts], [*cuts, len(data)], strict=True)]


def _somewhere(value: Any, rng: Random) -> Any:
    """Return the value, or a container within it."""
    while rng.random() < 0.7:
        children = value.values() if isinstance(value, dict) else value
        inner = [child for child in children if isinstance(child, (dict, list))]
        if not inner:
            return value
        value = rng.choice(inner)
    return value


def _change(container: Any, rng: Random) -> None:
    if isinstance(container, list):
        kind = rng.random()
        if kind < 0.5 or not container:
            container.insert(rng.randrange(len(container) + 1), _PLACE)
        elif kind < 0.8:
            container[rng.randrange(len(container))] = _PLACE
        else:
            container.pop(rng.randrange(len(container)))
        return
    names = list(container)
    kind = rng.random()
    if kind < 0.5 and names:
        container[rng.choice(names)] = _PLACE
    elif kind < 0.8 or not names:
        container[rng.choice(FIELDS)] = _PLACE
    elif kind < 0.9:
        container.pop(rng.choice(names))
    else:
        container[rng.choice(FIELDS)] = container.pop(rng.choice(names))


# Bytes


def _flip(data: bytes, _: Sequence[bytes], rng: Random) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 8)) if changed else 0):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _overwrite(data: bytes, _: Sequence[bytes], rng: Random) -> bytes:
    at = rng.randrange(len(data) + 1)
    return data[:at] + rng.choice((b"\0", b"\xff", b"\x7f", b"\x80", b"\r", b"\n", b'"', b"}")) + data[at + 1 :]


def _truncate(data: bytes, _: Sequence[bytes], rng: Random) -> bytes:
    return data[: rng.randrange(len(data) + 1)]


def _cut_out(data: bytes, _: Sequence[bytes], rng: Random) -> bytes:
    start, stop = _span(data, rng)
    return data[:start] + data[stop:]


def _repeat(data: bytes, _: Sequence[bytes], rng: Random) -> bytes:
    start, stop = _span(data, rng)
    return data[:stop] + data[start:stop] * rng.choice((1, 2, 5)) + data[stop:]


def _splice(data: bytes, others: Sequence[bytes], rng: Random) -> bytes:
    other = rng.choice(others)
    start, stop = _span(other, rng)
    at = rng.randrange(len(data) + 1)
    return data[:at] + other[start:stop] + data[at if rng.random() < 0.5 else min(at + stop - start, len(data)) :]


def _insert(data: bytes, _: Sequence[bytes], rng: Random) -> bytes:
    at = rng.randrange(len(data) + 1)
    return data[:at] + rng.choice(TOKENS) + data[at:]


def _nest(data: bytes, _: Sequence[bytes], rng: Random) -> bytes:
    depth = rng.choice(DEPTHS)
    return b"[" * depth + data + b"]" * rng.choice((depth, depth, depth - 1))


def _name_twice(data: bytes, _: Sequence[bytes], rng: Random) -> bytes:
    at = data.find(b"{", rng.randrange(len(data) + 1)) + 1
    pair = f'"{rng.choice(FIELDS)}":{literal(rng)},'.encode("latin-1", "replace")
    return data[:at] + pair + data[at:]


def _span(data: bytes, rng: Random) -> tuple[int, int]:
    start = rng.randrange(len(data) + 1)
    return start, min(len(data), start + rng.choice((1, 2, 8, 64, 1000)))


Mutation = Callable[[bytes, Sequence[bytes], Random], bytes]
_OF_BYTES: Final[tuple[Mutation, ...]] = (
    _flip, _overwrite, _truncate, _cut_out, _repeat, _splice, _insert, _nest, _name_twice
)  # fmt: skip


# Frames


def _lie_about_length(data: bytes, _: Sequence[bytes], rng: Random) -> bytes:
    """Change a frame's head, mostly the first one's: what stands behind it is found by its length only."""
    at = 0
    for _ in range(rng.randrange(4)):
        following = at + 2 + (data[at + 1] & 0x7F if at + 1 < len(data) else 0)
        at = following if following + 1 < len(data) else at
    lie = rng.choice((
        bytes([rng.randrange(128)]), b"\x7e" + rng.randbytes(2), b"\x7f" + rng.randbytes(8), b"\x7f" + b"\xff" * 8,
        b"\x7f\0\0\0\0" + rng.randbytes(4), b"\x7e\0\0", bytes([rng.randrange(128, 256)])
    ))  # fmt: skip
    return data[: at + 1] + lie + data[at + 2 :]


def _insert_frame(data: bytes, _: Sequence[bytes], rng: Random) -> bytes:
    payload = rng.randbytes(rng.choice((0, 1, 2, 5, 125, 126, 300)))
    options = {"fin": rng.random() < 0.8, "rsv": rng.choice((0, 0, 0, 1, 4)), "wide": rng.choice((0, 0, 2, 8))}
    made = peer.frame(rng.choice((0, 1, 2, 8, 9, 10, rng.randrange(16))), payload, mask=rng.random() < 0.05, **options)
    return made + data if rng.random() < 0.5 else data + made


def _fragment(data: bytes, _: Sequence[bytes], rng: Random) -> bytes:
    """Put a message in front that comes in fragments, with control frames between them."""
    parts = []
    for number in range(rng.randrange(2, 6)):
        parts.append(peer.frame(peer.CONT if number else peer.TEXT, rng.randbytes(rng.randrange(40)), fin=False))
        if rng.random() < 0.3:
            parts.append(peer.frame(rng.choice((peer.PING, peer.PONG)), b"p"))
    return b"".join(parts) + peer.frame(peer.CONT, b"", fin=rng.random() < 0.9) + data
