"""What comes into a connection, taken apart: requests from callers, messages from the provider."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from pixir_actors.actors.messages import Submit
from pixir_actors.channel.sender import ChannelUnavailable
from pixir_actors.core import fingerprint, payload, server_event
from pixir_actors.core.secret import Secret
from pixir_actors.core.state import Purpose, TurnRequest
from pixir_actors.errors import Delivery, ErrorCode, Failure, InvalidRequest
from pixir_actors.request import Headers
from pixir_actors.settings import Settings
from pixir_actors.transport.base import Target

_MALFORMED: Final = "is malformed: build it with Submit.of"


class Intake:
    """Takes in the requests of one connection. What one has in common with the one before it is not looked at again."""

    def __init__(self) -> None:
        self._parsed: payload.Parsed | None = None
        self._identity: tuple[Secret[Headers], str | None] | None = None
        self._fingerprint = self._bearer = ""

    def prepare(self, submit: Submit) -> Prepared:
        """Decode and check a request.

        Raises:
            InvalidRequest: An actor sent what `Submit.of` would not have built.
        """
        if not _has_its_types(submit):
            raise InvalidRequest("Submit", _MALFORMED)
        try:
            parsed = payload.parse(submit.body.reveal(), self._parsed)
            endpoint = fingerprint.endpoint(submit.url.reveal(), allow_plaintext=submit.settings.allow_plaintext)
            self._identify(submit.headers, submit.settings.identity)
        except (TypeError, ValueError, AttributeError) as error:
            if isinstance(error, InvalidRequest):
                raise
            raise InvalidRequest("Submit", _MALFORMED) from None
        self._parsed = parsed
        return Prepared(submit, parsed, endpoint, self._fingerprint, self._bearer)

    def _identify(self, headers: Secret[Headers], identity: str | None) -> None:
        if self._identity != (headers, identity):
            self._identity = None
            self._bearer = fingerprint.bearer(headers.reveal())
            self._fingerprint = fingerprint.fingerprint(headers.reveal(), identity)
            self._identity = headers, identity


@dataclass(frozen=True, slots=True)
class Prepared:
    """A `Submit`, decoded and checked by `Intake.prepare`."""

    submit: Submit
    parsed: payload.Parsed
    endpoint: str = field(repr=False)
    fingerprint: str = field(repr=False)
    bearer: str = field(repr=False)

    def turn_request(self, number: int, *, now: float, jitter: float) -> TurnRequest:
        """Return the request as the machine sees it; `number` names it there."""
        return TurnRequest(
            request_id=number,
            payload=self.parsed.payload,
            body=self.parsed.text,
            endpoint=self.endpoint,
            fingerprint=self.fingerprint,
            key=self.submit.key.reveal(),
            limits=self.submit.settings,
            received_at=now,
            jitter=jitter,
            bearer=self.bearer,
            purpose=self.submit.purpose,
            grown=self.parsed.grown,
        )


def target_of(submit: Submit) -> Target:
    """Return where the socket for a request goes to, and how."""
    settings = submit.settings
    return Target(
        endpoint=fingerprint.endpoint(submit.url.reveal(), allow_plaintext=True),
        headers=submit.headers,
        ca_file=settings.ca_file,
        proxy=submit.proxy,
        step_timeout=settings.connect_timeout,
        max_message_bytes=settings.max_message_bytes,
        send_timeout=settings.send_timeout,
    )


def refusal(error: InvalidRequest | ChannelUnavailable) -> Failure:
    """Return why a request was not taken in, as its sender is told."""
    if isinstance(error, InvalidRequest):
        return Failure.of(error.code, Delivery.NOT_SENT, field=error.field, problem=error.problem)
    return Failure.of(ErrorCode.CONNECTION_LOST, Delivery.NOT_SENT, reason=f"channel_{error.reason}")


def _has_its_types(submit: Any) -> bool:
    """Say whether what is used long after the request was taken, where nobody could refuse it, is what it should be."""
    return (
        _is_secret(submit.key, str)
        and _is_secret(submit.headers, tuple)
        and (submit.proxy is None or _is_secret(submit.proxy, str))
        and isinstance(submit.request_id, int)
        and 0 < submit.request_id < 2**64
        and isinstance(submit.channel, str | None)
        and isinstance(submit.settings, Settings)
        and isinstance(submit.purpose, Purpose)
    )


def _is_secret(value: Any, kind: type) -> bool:
    return isinstance(value, Secret) and isinstance(value.reveal(), kind)


def parse_events(raw: list[bytes]) -> tuple[list[server_event.ServerEvent], bool]:
    """Return the events before the first message that is not JSON, and whether there was one."""
    events: list[server_event.ServerEvent] = []
    for message in raw:
        try:
            event = server_event.parse(message)
        except server_event.MalformedEvent:
            return events, True
        if event is not None:
            events.append(event)
    return events, False
