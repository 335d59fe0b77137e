"""What a caller makes of the frames of one request."""

from __future__ import annotations

import gc
import warnings
from collections import deque
from collections.abc import Callable
from typing import Any

import orjson
import pytest

from pixir_actors.channel.frame import Frame, FrameType, failure_payload, metadata_payload
from pixir_actors.core.server_event import Tag
from pixir_actors.errors import Delivery, ErrorCode, Failure, ProviderError, StreamError
from pixir_actors.events import Data, Metadata, Status
from pixir_actors.stream import Stream

LOST = Failure.of(ErrorCode.CONNECTION_LOST, Delivery.AMBIGUOUS)
SAID_NO = Failure(
    code=ErrorCode.PROVIDER_HTTP_ERROR,
    delivery=Delivery.REJECTED,
    retryable=False,
    status=400,
    error={"code": "bad", "message": "no"},
)


class FakeCall:
    """Gives out frames; counts the cancels."""

    def __init__(self, *script: Frame | BaseException) -> None:
        self.script = deque(script)
        self.cancels: list[bool] = []
        self.abandoned = 0
        self.asked = 0

    def next_frames(self) -> list[Frame]:
        self.asked += 1
        item = self.script.popleft()
        if isinstance(item, BaseException):
            raise item
        return [item]

    def cancel(self, *, callback_failed: bool = False) -> None:
        self.cancels.append(callback_failed)

    def abandon(self) -> None:
        self.abandoned += 1


def data(tag: Tag, **event: Any) -> Frame:
    return Frame(FrameType.DATA, tag, 1, orjson.dumps(event))


def metadata(**values: Any) -> Frame:
    return Frame(FrameType.METADATA, 0, 1, metadata_payload(values))


def delta(text: Any) -> Frame:
    return data(Tag.TEXT_DELTA, type="response.output_text.delta", delta=text)


def item_done(item: Any, index: Any = 0) -> Frame:
    return data(Tag.ITEM_DONE, type="response.output_item.done", item=item, output_index=index)


def terminal(response: Any, type: str = "response.completed") -> Frame:
    return data(Tag.TERMINAL, type=type, response=response)


def message(*texts: str) -> dict[str, Any]:
    content = [{"type": "output_text", "text": text} for text in texts]
    return {"type": "message", "role": "assistant", "content": content}


STATUS = Frame(FrameType.STATUS, 0, 1, b"200")
FINISHED = Frame(FrameType.FINISHED, 0, 1, b"")
CREATED = data(Tag.OTHER, type="response.created")
REASONING = {"type": "reasoning", "id": "rs_1", "summary": []}
TOOL_CALL = {"type": "function_call", "call_id": "call_1", "name": "f", "arguments": "{}"}


def read(*frames: Frame) -> Stream:
    """Return a stream that was read to its end."""
    stream = Stream(FakeCall(*frames, FINISHED))  # type: ignore[arg-type]
    for _ in stream:
        pass
    return stream


def test_frames_become_events_in_their_order() -> None:
    call = FakeCall(metadata(a=1), STATUS, CREATED, delta("x"), terminal({}), metadata(b=2), FINISHED)
    stream = Stream(call)  # type: ignore[arg-type]

    events = list(stream)

    assert events == [
        Metadata({"a": 1}),
        Status(200),
        Data(CREATED.payload),
        Data(delta("x").payload),
        Data(terminal({}).payload),
        Metadata({"b": 2}),
    ]
    assert list(stream) == []
    assert next(stream, None) is None
    assert call.asked == 7, "nobody is asked after the end"


def test_later_evidence_goes_over_earlier() -> None:
    stream = read(metadata(a=1, b=1), metadata(b=2, c=None))

    assert stream.metadata == {"a": 1, "b": 2, "c": None}


# What came out

OUTPUTS: dict[str, tuple[list[Frame], str, list[dict[str, Any]]]] = {
    "the terminal event lists it": (
        [item_done(message("other")), terminal({"output": [REASONING, message("listed")]})],
        "listed",
        [REASONING, message("listed")],
    ),
    "the terminal event lists none": (
        [item_done(REASONING), item_done(message("done"), 1), terminal({"output": []})],
        "done",
        [REASONING, message("done")],
    ),
    "the terminal event has no list": (
        [item_done(TOOL_CALL), terminal({"id": "resp_1"})],
        "",
        [TOOL_CALL],
    ),
    "items came out of order": (
        [item_done(message("b"), 2), item_done(TOOL_CALL, 1), item_done(REASONING, 0), terminal({})],
        "b",
        [REASONING, TOOL_CALL, message("b")],
    ),
    "items came without an index": (
        [item_done(REASONING, None), item_done(TOOL_CALL, "x"), terminal({})],
        "",
        [REASONING, TOOL_CALL],
    ),
    "only text came": (
        [delta("hel"), delta("lo"), terminal({"output": []})],
        "hello",
        [message("hello")],
    ),
    "text came and items too": (
        [delta("hel"), delta("lo"), item_done(message("hello")), terminal({})],
        "hello",
        [message("hello")],
    ),
    "a message has several parts": (
        [terminal({"output": [message("a", "b"), message("c")]})],
        "abc",
        [message("a", "b"), message("c")],
    ),
    "deltas and items that are none": (
        [delta(None), delta(7), item_done("text"), item_done(None), terminal(None)],
        "",
        [],
    ),
    "nothing came": ([], "", []),
    "an error came": ([data(Tag.TERMINAL, type="error", error={})], "", []),
    "parts that are no text": (
        [terminal({"output": [{"type": "message", "content": [{"type": "refusal"}, "x", {"text": 3}]}]})],
        "",
        [{"type": "message", "content": [{"type": "refusal"}, "x", {"text": 3}]}],
    ),
    "content that is no list": ([terminal({"output": [{"type": "message", "content": "text"}]})], "",
                                [{"type": "message", "content": "text"}]),
}  # fmt: skip


@pytest.mark.parametrize("case", OUTPUTS)
def test_text_and_output_are_what_the_model_put_out_where(case: str) -> None:
    frames, text, output = OUTPUTS[case]
    stream = read(*frames)

    assert stream.text == text
    assert stream.output == output


RESPONSES = [
    ([], None),
    ([delta("x")], None),
    ([terminal({"id": "resp_1"})], {"id": "resp_1"}),
    ([terminal({"id": "resp_1"}, "response.incomplete")], {"id": "resp_1"}),
    ([terminal(None)], None),
    ([terminal("text")], None),
    ([data(Tag.TERMINAL, type="error", error={})], None),
]


@pytest.mark.parametrize(("frames", "response"), RESPONSES)
def test_the_response_is_the_terminal_event_s(frames: list[Frame], response: Any) -> None:
    assert read(*frames).response == response


def test_what_has_come_so_far_can_be_had_in_the_middle() -> None:
    stream = Stream(FakeCall(delta("hel"), delta("lo")))  # type: ignore[arg-type]
    assert (stream.text, stream.output, stream.response) == ("", [], None)
    next(stream)
    assert stream.text == "hel"
    stream.cancel()


# Failing


def test_a_failed_response_is_an_event_first_and_an_error_when_it_is_asked_for() -> None:
    call = FakeCall(terminal({"id": "r"}, "response.failed"), Frame(FrameType.FINISHED, 0, 1, failure_payload(SAID_NO)))
    stream = Stream(call)  # type: ignore[arg-type]
    assert len(list(stream)) == 1
    assert stream.response == {"id": "r"}

    for _ in range(2):
        with pytest.raises(ProviderError) as caught:
            stream.raise_for_failure()
        assert (caught.value.status, caught.value.error) == (400, {"code": "bad", "message": "no"})
    assert call.cancels == []


@pytest.mark.parametrize("kind", ["response.completed", "response.incomplete"])
def test_a_response_that_did_not_fail_raises_nothing(kind: str) -> None:
    read(terminal({}, kind)).raise_for_failure()


@pytest.mark.parametrize("ending", [Frame(FrameType.FAILED, 0, 1, failure_payload(LOST)), StreamError(LOST)])
def test_an_end_without_a_terminal_event_is_raised_once(ending: Any) -> None:
    call = FakeCall(delta("x"), ending)
    with Stream(call) as stream:  # type: ignore[arg-type]
        next(stream)
        with pytest.raises(StreamError) as caught:
            next(stream)
        assert caught.value.failure == LOST
        assert list(stream) == []
        stream.raise_for_failure()
    assert call.cancels == [], "it has ended by itself"


# Leaving


def test_leaving_early_cancels_once() -> None:
    call = FakeCall(delta("x"), delta("y"))
    with Stream(call) as stream:  # type: ignore[arg-type]
        next(stream)
    stream.cancel()

    assert call.cancels == [False]
    assert list(stream) == []


def test_leaving_at_the_end_cancels_nothing() -> None:
    call = FakeCall(delta("x"), FINISHED)
    with Stream(call) as stream:  # type: ignore[arg-type]
        assert len(list(stream)) == 1

    assert call.cancels == []


def test_an_exception_in_the_block_cancels_and_goes_through() -> None:
    call = FakeCall(delta("x"))
    with pytest.raises(ZeroDivisionError), Stream(call) as stream:  # type: ignore[arg-type]
        next(stream)
        _ = 1 / 0

    assert call.cancels == [False]


def test_an_interrupt_while_waiting_cancels_as_well() -> None:
    """Ctrl-C comes where a program spends its time: in the wait for the next event."""
    call = FakeCall(delta("x"), KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt), Stream(call) as stream:  # type: ignore[arg-type]
        for _ in stream:
            pass

    assert call.cancels == [False]


def test_a_cancel_says_whether_the_caller_s_own_code_failed() -> None:
    call = FakeCall()
    Stream(call).cancel(callback_failed=True)  # type: ignore[arg-type]

    assert call.cancels == [True]


def dropped(call: FakeCall, use: Callable[[Stream], object]) -> list[type[Warning]]:
    """Make a stream, use it, drop it; return what was warned about."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        stream = Stream(call)  # type: ignore[arg-type]
        use(stream)
        del stream
        gc.collect()
    return [one.category for one in caught]


@pytest.mark.parametrize(
    ("use", "warned"),
    [
        (lambda stream: None, [ResourceWarning]),
        (lambda stream: next(stream), [ResourceWarning]),
        (lambda stream: list(stream), []),
        (lambda stream: stream.cancel(), []),
        (lambda stream: stream.__exit__(None, None, None), []),
    ],
    ids=["unread", "half read", "read", "cancelled", "left"],
)
def test_a_stream_that_is_dropped_under_way_is_warned_about_and_lets_go_of_what_came(
    use: Callable[[Stream], object], warned: list[Any]
) -> None:
    call = FakeCall(delta("x"), FINISHED)

    assert dropped(call, use) == warned
    assert call.abandoned == len(warned)
    assert not warned or call.cancels == [], "a destructor must not wait for an answer"
