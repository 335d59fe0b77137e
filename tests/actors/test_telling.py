"""What the machine tells a caller: each action is one frame, which says what the action says."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, get_args

import pytest

from pixir_actors.actors.telling import FRAMES, encoded, frame_of
from pixir_actors.channel.frame import FrameType, failure_from, metadata_from, status_from
from pixir_actors.core import actions as do
from pixir_actors.errors import Delivery, ErrorCode, Failure

FAILURE = Failure.of(ErrorCode.QUEUE_FULL, Delivery.NOT_SENT, limit=3)
TOLD: list[tuple[Any, FrameType, Any, Any]] = [
    (do.Queued(1, 2), FrameType.QUEUED, status_from, 2),
    (do.Sending(1, 3), FrameType.SENDING, status_from, 3),
    (do.Show(1, {"a": 1}), FrameType.METADATA, metadata_from, {"a": 1}),
    (do.ShowStatus(1, 429), FrameType.STATUS, status_from, 429),
    (do.Finish(1), FrameType.FINISHED, bytes, b""),
    (do.Finish(1, FAILURE), FrameType.FINISHED, failure_from, FAILURE),
    (do.Fail(1, FAILURE), FrameType.FAILED, failure_from, FAILURE),
]


@pytest.mark.parametrize(("action", "kind", "decode", "said"), TOLD)
def test_an_action_is_one_frame(action: Any, kind: FrameType, decode: Any, said: Any) -> None:
    told, payload = frame_of(action)

    assert told is kind
    assert decode(payload) == said


def test_a_request_that_is_sent_back_was_not_touched() -> None:
    kind, payload = frame_of(do.Redirect(1))

    assert kind is FrameType.FAILED
    moved = failure_from(payload)
    assert (moved.code, moved.delivery, moved.details) == (ErrorCode.CONNECTION_LOST, Delivery.NOT_SENT, {"moved": 1})


def test_every_action_for_a_caller_is_told_but_the_events_which_are_many_frames() -> None:
    for_callers = {kind for kind in get_args(do.Action) if "request_id" in kind.__slots__} - {do.Open, do.Deliver}

    assert set(FRAMES) == for_callers


def test_an_error_that_no_json_can_hold_loses_its_text_and_nothing_else() -> None:
    deep: dict[str, Any] = {}
    for _ in range(600):
        deep = {"a": deep}
    rejected = Failure.of(ErrorCode.PROVIDER_HTTP_ERROR, Delivery.REJECTED, a=1)
    failure = replace(rejected, status=500, error=deep)

    told = failure_from(encoded(failure))

    assert (told.code, told.status, told.details, told.error) == (failure.code, 500, {"a": 1}, {})
