"""A request as a caller states it: URL, headers, body. Pure; nothing is read from the environment."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final
from urllib.parse import SplitResult, urlsplit

import orjson

from pixir_actors.core import unwritable
from pixir_actors.core.finite import is_true_to
from pixir_actors.errors import InvalidRequest

SCHEMES: Final = ("http", "https", "ws", "wss")
_UNFIT_FOR_URLS: Final = re.compile(r"[\x00-\x20\x7f]")
_UNFIT_FOR_HEADERS: Final = re.compile(r"[^\t\x20-\x7e\x80-\xff]")
_TOKEN_CHARACTERS: Final = frozenset("!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
_MAX_HEADER_BYTES: Final = 64 * 1024

Headers = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True, init=False, repr=False)
class Request:
    """One request to a Responses API.

    Args:
        url: `http`, `https`, `ws` or `wss` URL of the responses endpoint; http becomes ws and https becomes wss.
        headers: Mapping, or pairs, of header names and values, sent with the upgrade. Header names are not repeated by us.
        body: The JSON object of a `response.create` (or of an HTTP POST): bytes, text, or a mapping.

    Raises:
        InvalidRequest: The URL has another scheme, no host or a user part; a header has a control character; the body is
            neither bytes nor text nor a mapping. Whether the body is a JSON object is checked when it is sent.
    """

    url: str
    headers: Headers
    body: bytes
    field_names: frozenset[str] | None = field(init=False, repr=False, compare=False)
    """The names of the body's fields, where it was given as a mapping; None where it would have to be parsed for them."""

    def __init__(
        self,
        url: str,
        headers: Mapping[str, str] | Iterable[tuple[str, str]] = (),
        body: bytes | bytearray | str | Mapping[str, Any] = b"{}",
    ) -> None:
        _check_url(url)
        object.__setattr__(self, "url", url)
        object.__setattr__(self, "headers", _checked_headers(headers))
        fields = dict(body) if isinstance(body, Mapping) else None
        object.__setattr__(self, "body", _body_bytes(body) if fields is None else _json(fields))
        object.__setattr__(self, "field_names", None if fields is None else frozenset(fields))

    def __repr__(self) -> str:
        parts = urlsplit(self.url)
        names = ", ".join(name for name, _ in self.headers)
        return f"Request({parts.scheme}://{parts.netloc}{parts.path}, headers=[{names}], body=<{len(self.body)} bytes>)"

    @classmethod
    def responses(
        cls,
        *,
        model: str,
        input: str | list[Any],
        api_key: str | None = None,
        base_url: str = "https://api.openai.com/v1",
        headers: Mapping[str, str] | Iterable[tuple[str, str]] = (),
        **fields: Any,
    ) -> Request:
        """Assemble a request for `POST {base_url}/responses`.

        Args:
            model: Model name.
            input: The whole conversation so far: a list of input items, or a text. The package decides what of it goes
                on the wire.
            api_key: Sent as `Authorization: Bearer`; None sends none. Never empty: a variable that is not set would come out
                as the provider's 401.
            base_url: As the provider's SDK takes it; a query is kept.
            headers: Further headers.
            fields: Further fields of the body (`tools`, `instructions`, `reasoning`, ...). Those that are None are left
                out, because providers refuse an explicit null.

        Raises:
            InvalidRequest: As the constructor.
        """
        _check_url(base_url)
        _check_api_key(api_key)
        parts = urlsplit(base_url)
        url = parts._replace(path=parts.path.rstrip("/") + "/responses").geturl()
        body = {"model": model, "input": input} | {name: value for name, value in fields.items() if value is not None}
        pairs = list(_checked_headers(headers))
        if api_key is not None:
            pairs.append(("Authorization", f"Bearer {api_key}"))
        return cls(url, pairs, body)


def _check_api_key(api_key: object) -> None:
    allowed = "allowed is a text, or None to send no Authorization"
    if api_key is not None and not isinstance(api_key, str):
        raise InvalidRequest("api_key", f"is a {type(api_key).__name__}: {allowed}")
    if api_key is not None and not api_key.strip():
        raise InvalidRequest("api_key", f"is empty: {allowed}")


def _check_url(url: object) -> None:
    if not isinstance(url, str):
        raise InvalidRequest("url", f"is a {type(url).__name__}, not a text")
    _check_url_text(url)


@lru_cache(64)
def _check_url_text(url: str) -> None:
    if _UNFIT_FOR_URLS.search(url):
        raise InvalidRequest("url", "has a space or a control character")
    try:
        parts: SplitResult | None = urlsplit(url)
        _ = urlsplit(url).port
    except ValueError:
        parts = None
    if parts is None:
        # Raised outside the except clause: the parser's message may quote the user part.
        raise InvalidRequest("url", "cannot be parsed: its host or port is malformed")
    _check_parts(parts)


def _check_parts(parts: SplitResult) -> None:
    if parts.scheme not in SCHEMES:
        raise InvalidRequest("url", f"has the scheme {parts.scheme!r}: allowed are {', '.join(SCHEMES)}")
    if not parts.hostname:
        raise InvalidRequest("url", "has no host")
    if parts.username is not None or parts.password is not None:
        raise InvalidRequest("url", "has a user part: credentials belong into headers")


def _checked_headers(headers: object) -> Headers:
    pairs = headers.items() if isinstance(headers, Mapping) else headers
    try:
        listed = [(name, value) for name, value in pairs]  # type: ignore[attr-defined]
    except (TypeError, ValueError) as error:
        raise InvalidRequest("headers", "must be a mapping, or pairs, of texts") from error
    for name, value in listed:
        _check_header(name, value)
    if sum(len(name) + len(value) for name, value in listed) > _MAX_HEADER_BYTES:
        raise InvalidRequest("headers", f"are larger than {_MAX_HEADER_BYTES} bytes")
    return tuple(listed)


def _check_header(name: object, value: object) -> None:
    if not isinstance(name, str) or not isinstance(value, str):
        raise InvalidRequest("headers", "must have names and values that are texts")
    if not name or not _TOKEN_CHARACTERS.issuperset(name):
        raise InvalidRequest("headers", f"have the name {name!r}: allowed are letters, digits and !#$%&'*+-.^_`|~")
    if _UNFIT_FOR_HEADERS.search(value):
        raise InvalidRequest("headers", f"have a control or non-latin-1 character in the value of {name!r}")


def _body_bytes(body: object) -> bytes:
    match body:
        case bytes():
            return body
        case bytearray() | memoryview():
            return bytes(body)
        case str():
            return body.encode("utf-8", "surrogatepass")
        case _:
            raise InvalidRequest("body", f"is a {type(body).__name__}: allowed are bytes, text or a mapping")


def _json(body: dict[str, Any]) -> bytes:
    try:
        text = orjson.dumps(body)
        if is_true_to(text, body):
            return text
    except (TypeError, ValueError):
        pass  # orjson's own text may quote the offending value: raised below, outside, it is not even the context
    raise InvalidRequest("body", unwritable.problem(body))
