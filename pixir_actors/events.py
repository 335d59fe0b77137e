"""What a caller receives from a stream, in order: metadata, status, data, and metadata again at the end.

The shape is the reference's (`behaviours.md` C31): `Metadata` is evidence about what really went over the wire, `Status`
is a synthetic 200 (the provider speaks no HTTP on a WebSocket), `Data` is one server event, bytes untouched.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson


@dataclass(frozen=True, slots=True)
class Metadata:
    """Evidence: what was sent and why. A later one is merged over an earlier one (C32, C33)."""

    values: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Status:
    """An HTTP-like status code; 200 once the request is on its way."""

    code: int


@dataclass(frozen=True, slots=True)
class Data:
    """One event of the provider, as the bytes of its JSON text."""

    raw: bytes

    def __repr__(self) -> str:
        return f"Data(<{len(self.raw)} bytes>)"

    def json(self) -> Any:
        """Parse the event. Parsed anew on every call."""
        return orjson.loads(self.raw)

    @property
    def type(self) -> str:
        """The event's `type`, such as "response.output_text.delta"."""
        return str(self.json()["type"])

    @property
    def sse(self) -> bytes:
        """The event as a server-sent event, for passing on to a browser."""
        return b"data: " + self.raw + b"\n\n"


Event = Metadata | Status | Data
