"""What the server did with one turn of a random conversation, told apart by its bearer; and what the turn may say of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from pixir_actors import Delivery, ErrorCode, StreamError
from pixir_actors.simulator import HttpRequest, Received, Simulator

FOR_THE_CALLER: Final = (401, 403)
"""Refusals of an upgrade after which HTTP has nothing to gain."""


@dataclass(frozen=True)
class Dealings:
    """All that reached the server of one turn.

    Attributes:
        upgrades: Statuses of the upgrades that were refused to it.
        posts: The HTTP requests it sent.
        received: Its requests, whichever way they came; one that met a refusal at the door is none.
        runs: How often it ran.
    """

    upgrades: list[int]
    posts: list[HttpRequest]
    received: list[Received]
    runs: int

    @classmethod
    def of(cls, sim: Simulator, name: str, token: str) -> Dealings:
        """Look up a turn by its name, which its requests bear, and by its token, which its upgrades bear."""
        bearer = f"Bearer {token}"
        received = [one for one in sim.requests if one.payload["metadata"]["turn"] == name]
        indexes = {one.index for one in received}
        return cls(
            [one.status for one in sim.handshakes if not one.accepted and one.header("Authorization") == bearer],
            [one for one in sim.http_requests if one.header("Authorization") == bearer],
            received,
            sum(turn.request_index in indexes for turn in sim.turns),
        )

    @property
    def turned_away(self) -> list[HttpRequest]:
        """The HTTP requests that met a refusal at the door."""
        return [post for post in self.posts if post.request_index is None]

    def refused(self, error: StreamError) -> bool:
        """Say whether this failure is the refusal of an upgrade that the server did refuse."""
        return error.code is ErrorCode.WEBSOCKET_HANDSHAKE_FAILED and error.details.get("status") in self.upgrades

    def contradictions(self, way: str, values: Mapping[str, Any]) -> Iterator[str]:
        """Compare the evidence of a turn that ended with what reached the server; yield what does not agree."""
        attempts = len(self.received) + len(self.turned_away)
        if attempts != values["delivery_attempts"]:
            yield f"the evidence says {values['delivery_attempts']} attempts, the server saw {attempts}"
        over_http = values["active_transport"] == "http_sse"
        if over_http != bool(self.posts):
            yield f"the evidence says {values['active_transport']}, the server saw {len(self.posts)} POSTs"
        if (way == "auto" and over_http) != ("fallback_reason" in values):
            yield f"over {values['active_transport']} by {way!r}, and the fallback is {values.get('fallback_reason')}"
        if self.received and not self.turned_away:
            last = self.received[-1]
            truth = (last.wire_bytes, "previous_response_id" in last.payload)
            said = (values["wire_bytes"], values["used_previous_response_id"])
            if truth != said:
                yield f"the evidence says {said}, the server saw {truth}"
        yield from self.wrong_ways(way)

    def wrong_ways(self, way: str) -> Iterator[str]:
        """Yield what went a way that the caller had not allowed, or that had nothing to gain."""
        if way == "websocket" and self.posts:
            yield "it went over HTTP, and only the WebSocket was allowed"
        if way == "http" and (self.upgrades or any(one.via == "websocket" for one in self.received)):
            yield "it went over the WebSocket, and HTTP was wanted"
        if way == "auto" and self.posts and any(status in FOR_THE_CALLER for status in self.upgrades):
            yield f"it went over HTTP after the upgrade was refused with {self.upgrades}"

    def misjudged(self, error: StreamError) -> str | None:
        """Return how the verdict of a failure is wrong, or None."""
        if error.delivery in (Delivery.NOT_SENT, Delivery.REJECTED) and self.runs:
            return f"it ran, and its caller was told {error.delivery}: {error}"
        if error.delivery is Delivery.NOT_SENT and self.received:
            return f"it was received, and its caller was told not_sent: {error}"
        return None
