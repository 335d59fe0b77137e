"""What a failure means: whether the request may have run, whether HTTP may help, and what else would.

The verdicts err on one side: what is not certain is `ambiguous`.
"""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import urlsplit

from pixir_actors.core.state import Connection, Phase, Turn
from pixir_actors.errors import Delivery, ErrorCode, Failure

MESSAGE_TOO_BIG: Final = 1009
NOT_FOUND: Final = 404
FALLBACK_CODES: Final = frozenset(
    {
        ErrorCode.WEBSOCKET_CONNECT_FAILED,
        ErrorCode.WEBSOCKET_CONNECT_TIMEOUT,
        ErrorCode.WEBSOCKET_HANDSHAKE_FAILED,
        ErrorCode.WEBSOCKET_CLOSED,
        ErrorCode.WEBSOCKET_READ_FAILED,
        ErrorCode.WEBSOCKET_FAILED,
    }
)
"""Failures that open a degraded window and after which, if nothing ran, HTTP is worth a try; 1009 is another."""
ADVICE: Final[dict[object, str]] = {
    401: "the credentials were refused: send valid ones",
    403: "access was refused: check the account's rights to this endpoint and model",
    404: "there is no WebSocket at this URL: check it, or use transport='auto' or 'http'",
    426: "this endpoint wants HTTP: use transport='auto' or 'http'",
    "ca_file": "ca_file has to be a PEM file with certificates, which the connection's process can read",
    "proxy_unsupported": "proxy has to be an http:// URL",
    "proxy_invalid": "proxy has to be an http:// URL with a host",
    "no_http_client": "the way over HTTP takes an extra: pip install 'pixir_actors[http]' in the environment that the actor"
    " system runs in, which is the admin's where there is one",
}
"""Statuses of refused upgrades, and reasons of other failures, that do not get better by waiting; what to do about each."""
TWICE: Final = "/responses/responses"
"""How the path ends where the base URL had named the endpoint already."""
TOO_BIG_ADVICE: Final = "the request is too large for a WebSocket message: shorten it, or use transport='auto' or 'http'"


def refusal_advice(status: object, endpoint: str) -> str | None:
    """Return what to do about an upgrade to `endpoint` that was refused with `status`; None where waiting may help."""
    wrong_path = status == NOT_FOUND and urlsplit(endpoint).path.endswith(TWICE)
    return asked_for(endpoint) if wrong_path else ADVICE.get(status)


def asked_for(url: str) -> str:
    """Return what to say of a URL that the provider does not know: of its query, which may hold a key, nothing."""
    return f"asked for was {urlsplit(url).path}: a base URL ends in /v1 or the like, not in /responses"


def verdict(connection: Connection, request_id: Any) -> Delivery:
    """Return the verdict over a request that is held, should it end now."""
    turn = connection.turn
    if turn is not None and turn.request.request_id == request_id:
        return overall_verdict(turn, attempt_verdict(turn))
    waits = any(request.request_id == request_id for request in connection.queue)
    # One that does neither has ended here, and its end has not reached its caller.
    return Delivery.NOT_SENT if waits else Delivery.AMBIGUOUS


def attempt_verdict(turn: Turn) -> Delivery:
    """Return the verdict over the current attempt, whose write has begun unless a socket is still being opened."""
    if turn.phase is Phase.OPENING:
        return Delivery.NOT_SENT
    return Delivery.ACCEPTED if turn.accepted else Delivery.AMBIGUOUS


def overall_verdict(turn: Turn, delivery: Delivery) -> Delivery:
    """Return the verdict over the request from that over its newest attempt: one before it may have run or been refused."""
    certain = delivery in (Delivery.NOT_SENT, Delivery.REJECTED)
    if turn.retried and certain:
        return Delivery.AMBIGUOUS
    return Delivery.REJECTED if turn.refused and certain else delivery


def http_may_help(failure: Failure) -> bool:
    """Say whether HTTP has anything to gain: nothing ran, and what stands in the way is not the caller's to mend."""
    if failure.delivery not in (Delivery.NOT_SENT, Delivery.REJECTED):
        return False
    if failure.details.get("close_code") == MESSAGE_TOO_BIG:
        return True
    theirs = failure.details.get("status") in (401, 403) or failure.details.get("reason") in ADVICE
    return failure.code in FALLBACK_CODES and not theirs
