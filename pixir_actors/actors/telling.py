"""What the machine has to tell a caller, as frames of that caller's channel."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

from pixir_actors.channel.frame import FrameType, failure_payload, metadata_payload, status_payload
from pixir_actors.core import actions as do
from pixir_actors.errors import Delivery, ErrorCode, Failure


def frame_of(action: Any) -> tuple[FrameType, bytes]:
    """Return type and payload of the frame that says it. `Deliver`, which is many frames, is not among these actions."""
    kind, encode = FRAMES[type(action)]
    return kind, encode(action)


def encoded(failure: Failure) -> bytes:
    """Return the payload of a failure, whatever the provider put into its error object."""
    try:
        return failure_payload(failure)
    except TypeError:
        # That object is nested deeper than JSON is written; its facts are in the details.
        return failure_payload(replace(failure, error={}))


_MOVED: Final = failure_payload(Failure.of(ErrorCode.CONNECTION_LOST, Delivery.NOT_SENT, moved=1))

FRAMES: Final[dict[type, tuple[FrameType, Callable[[Any], bytes]]]] = {
    do.Queued: (FrameType.QUEUED, lambda action: status_payload(action.ahead)),
    do.Sending: (FrameType.SENDING, lambda action: status_payload(action.attempt)),
    do.Show: (FrameType.METADATA, lambda action: metadata_payload(action.values)),
    do.ShowStatus: (FrameType.STATUS, lambda action: status_payload(action.code)),
    do.Finish: (FrameType.FINISHED, lambda action: b"" if action.failure is None else encoded(action.failure)),
    do.Fail: (FrameType.FAILED, lambda action: encoded(action.failure)),
    do.Redirect: (FrameType.FAILED, lambda action: _MOVED),
}
