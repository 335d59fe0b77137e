"""A `Submit` as it travels over the event channel: no pickle, and the body in one piece.

    0        4          8                                              integers are big-endian
    ┌────────┬──────────┬──────┬──────────┬──────┐
    │ head's │ settings'│ head │ settings │ body │     head and settings are JSON, the body is what it is in `Submit`
    │ length │ length   │      │          │      │
    └────────┴──────────┴──────┴──────────┴──────┘

Both ends are processes of one user and one version of this package, which the greeting makes sure of.
"""

from __future__ import annotations

import struct
from functools import lru_cache
from typing import Any, Final

import orjson

from pixir_actors.actors.messages import Submit
from pixir_actors.channel.frame import FrameType, header
from pixir_actors.core.secret import Secret
from pixir_actors.core.state import Purpose
from pixir_actors.core.text import Piece, parts_of
from pixir_actors.errors import InvalidRequest, InvalidSettings
from pixir_actors.settings import Settings

_LENGTHS: Final = struct.Struct("!II")
_KNOWN_SETTINGS: Final = 64


def submission_frame(submit: Submit) -> tuple[Piece, ...] | None:
    """Return a `Submit` as a frame in parts, those of its body last; its channel is the one that it goes over.

    None for what JSON cannot say, as a path that is not Unicode: such a one travels as a message.
    """
    proxy = None if submit.proxy is None else submit.proxy.reveal()
    try:
        head = orjson.dumps(
            [submit.key.reveal(), submit.url.reveal(), submit.headers.reveal(), proxy, submit.purpose.value]
        )
        settings = _settings_payload(submit.settings)
    except TypeError:
        return None
    body = submit.body.reveal()
    front = b"".join((_LENGTHS.pack(len(head), len(settings)), head, settings))
    return header(FrameType.SUBMIT, submit.request_id, len(front) + len(body)) + front, *parts_of(body)


def submission_from(payload: bytes | bytearray, *, request_id: int, channel: str) -> Submit:
    """Return the `Submit` that a payload stands for; of one that may be changed the body is what is left over.

    Raises:
        InvalidRequest: It stands for none.
    """
    try:
        head_bytes, settings_bytes = _LENGTHS.unpack_from(payload)
        settings_at = _LENGTHS.size + head_bytes
        body_at = settings_at + settings_bytes
        key, url, headers, proxy, purpose = orjson.loads(payload[_LENGTHS.size : settings_at])
        settings = _settings_from(bytes(payload[settings_at:body_at]))
        body = payload[body_at:] if isinstance(payload, bytes) else _without(payload, body_at)
        return Submit(
            request_id=request_id,
            key=Secret(key),
            url=Secret(url),
            headers=Secret(tuple((name, value) for name, value in headers)),
            body=Secret(body),
            settings=settings,
            proxy=None if proxy is None else Secret(proxy),
            channel=channel,
            purpose=Purpose(purpose),
        )
    except (struct.error, ValueError, TypeError, InvalidSettings):
        # Nothing of it is repeated: it may hold a token.
        raise InvalidRequest("Submit", "is malformed: build it with Submit.of") from None


def _without(payload: bytearray, count: int) -> bytearray:
    """Return a payload without its first bytes; it is not moved for that."""
    del payload[:count]
    return payload


@lru_cache(_KNOWN_SETTINGS)
def _settings_payload(settings: Settings) -> bytes:
    return orjson.dumps(settings)


@lru_cache(_KNOWN_SETTINGS)
def _settings_from(payload: bytes) -> Settings:
    fields: dict[str, Any] = orjson.loads(payload)
    return Settings(**fields)
