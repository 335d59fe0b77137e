"""Who may come in: what is asked of an upgrade and of a POST alike, before a request is looked at."""

from __future__ import annotations

import hmac
import ssl
from dataclasses import dataclass
from typing import Final

from pixir_actors.simulator.rejection import Rejection

PATH: Final = "/v1/responses"


@dataclass(frozen=True, slots=True)
class Door:
    """What a connection must bring, and how long it may stay.

    Attributes:
        lifetime: In seconds, for WebSockets; the notice comes when no request is in flight.
        max_message_bytes: Bound of a WebSocket message and of an HTTP body.
        sse_done: End an HTTP stream of events with `data: [DONE]`.
    """

    tls: ssl.SSLContext | None
    api_key: str | None
    lifetime: float | None
    max_message_bytes: int
    sse_done: bool = False

    def refusal(self, path: str, authorization: str) -> Rejection | None:
        """Return why this path with this header is not let in (404, 401), or None."""
        if path.partition("?")[0] != PATH:
            return Rejection("not_found", "Not found.", 404)
        wanted = None if self.api_key is None else f"Bearer {self.api_key}"
        if wanted is not None and not hmac.compare_digest(authorization.encode(), wanted.encode()):
            return Rejection("invalid_api_key", "Incorrect API key provided.", 401)
        return None
