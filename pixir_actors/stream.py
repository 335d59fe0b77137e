"""One request's events, as its caller receives them.

`Received` is what a stream is made of, whoever waits for it: `Stream` waits on a thread, `aio.AsyncStream` on an event loop.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from types import TracebackType
from typing import Any, Final, Self, TypeVar

import orjson

from pixir_actors.channel.frame import Frame, FrameType, failure_from, metadata_from, status_from
from pixir_actors.core.continuation import text_message
from pixir_actors.core.server_event import Tag
from pixir_actors.dispatch.call import Call
from pixir_actors.errors import Failure, PixirError, exception_from
from pixir_actors.events import Data, Event, Metadata, Status

E = TypeVar("E", bound=PixirError)

_DATA: Final = int(FrameType.DATA)
_TEXT_DELTA: Final = int(Tag.TEXT_DELTA)


class Received:
    """What has come of a request so far.

    Attributes:
        metadata: The evidence so far, later values over earlier ones.
    """

    def __init__(self) -> None:
        self._ended = False
        self._waited_for = False  # whether a task waits for the next event, or was cancelled doing so
        self._outcome = ""  # how it ended, unless that was with a terminal event
        self._frames: Iterator[Frame] = iter(())
        self._failure: Failure | None = None
        self._terminal: bytes | None = None
        self._items: list[bytes] = []
        self._deltas: list[bytes] = []
        self.metadata: dict[str, Any] = {}

    def _event(self, frame: Frame) -> Event | None:
        """Return the frame as an event; None for the last one, which has ended the stream.

        Raises:
            StreamError: The last one says that there was no terminal event.
        """
        frame_type, tag, _, payload = frame
        if frame_type == _DATA:
            # The connection has parsed the event and says what it is; here it is parsed only if somebody asks.
            if tag == _TEXT_DELTA:
                self._deltas.append(payload)
            elif tag == Tag.ITEM_DONE:
                self._items.append(payload)
            elif tag == Tag.TERMINAL:
                self._terminal = payload
            return Data(payload)
        if frame_type == FrameType.METADATA:
            values = metadata_from(payload)
            self.metadata.update(values)
            return Metadata(values)
        if frame_type == FrameType.STATUS:
            return Status(status_from(payload))
        self._ended = True
        if frame_type == FrameType.FAILED:
            raise self._failed(exception_from(failure_from(payload)))
        if payload:
            self._failure = failure_from(payload)
        return None

    def _failed(self, error: E) -> E:
        """End with an error; return it."""
        self._ended, self._outcome = True, f"failed: {getattr(error, 'code', type(error).__name__)}"
        return error

    def _cancelled(self) -> None:
        """End because nobody wants the rest."""
        self._ended, self._outcome = True, "cancelled"

    def _shown(self, label: str, *, begun: bool) -> str:
        """Return a `repr`: the key as status shows it, and how far the request has come."""
        ended = self._outcome or (f"failed: {self._failure.code}" if self._failure else "finished")
        state = ended if self._ended else "running" if begun else "not started"
        return f"<{type(self).__name__} key={label} {state}>"

    def _new_text(self, seen: int) -> str | None:
        """Return the text of the newest delta, if there are more of them than were `seen`."""
        # Which events carry text is known from the connection: no other one is parsed.
        if len(self._deltas) <= seen:
            return None
        delta = orjson.loads(self._deltas[-1]).get("delta")
        return delta if isinstance(delta, str) else None

    @property
    def response(self) -> dict[str, Any] | None:
        """The response object of the terminal event, or None: not ended yet, or ended with an `error` event."""
        if self._terminal is None:
            return None
        response = orjson.loads(self._terminal).get("response")
        return response if isinstance(response, dict) else None

    @property
    def text(self) -> str:
        """The output text received so far."""
        if self._deltas:
            deltas = (orjson.loads(raw).get("delta") for raw in self._deltas)
            return "".join(delta for delta in deltas if isinstance(delta, str))
        return "".join(_text_of(item) for item in self._listed_items())

    @property
    def output(self) -> list[dict[str, Any]]:
        """The output items as received, to be put behind the input of the next request.

        As the terminal event lists them; where it lists none, as they came one by one; where none came, the text as one
        message.
        """
        items = self._listed_items()
        if items:
            return items
        text = self.text
        return [text_message(text)] if text else []

    def _listed_items(self) -> list[dict[str, Any]]:
        listed = (self.response or {}).get("output")
        if isinstance(listed, list) and listed:
            return listed
        done = [orjson.loads(raw) for raw in self._items]
        return [event["item"] for event in sorted(done, key=_output_index) if isinstance(event.get("item"), dict)]

    def _warn_of_drop(self) -> None:
        """Tell whoever forgot a stream; not who was interrupted in the middle of reading it. For destructors."""
        if not self._waited_for:
            warnings.warn("a stream was dropped without being read or cancelled", ResourceWarning, stacklevel=3)

    def raise_for_failure(self) -> None:
        """Raise if the response failed; an incomplete response is no failure.

        Raises:
            ProviderError: The stream ended with `response.failed` or an `error` event.
        """
        if self._failure is not None:
            raise exception_from(self._failure)


class Stream(Received):
    """An iterator over `Metadata`, `Status` and `Data`, in the order in which they happened. Made by `Client.stream`.

    The request is under way from the start. What was read is gone: iterating again yields nothing more. Leaving the `with`
    block early, or an exception in it, cancels it. Used by one thread at a time; `cancel` may be called from any.

    Attributes:
        metadata: The evidence so far, later values over earlier ones.
    """

    def __init__(self, call: Call) -> None:
        super().__init__()
        self._call = call

    def __repr__(self) -> str:
        return self._shown(self._call.label, begun=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.cancel()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Event:
        """Return the next event, waiting for it.

        Raises:
            StopIteration: After the terminal event; also when that was the provider's error: see `raise_for_failure`.
            StreamError: The request ended without a terminal event.
        """
        if self._ended:
            raise StopIteration
        event = self._event(next(self._frames, None) or self._fetch())
        if event is None:
            raise StopIteration
        return event

    def _fetch(self) -> Frame:
        """Wait for frames; return the first one and leave the others to be read."""
        try:
            self._frames = iter(self._call.next_frames())
        except PixirError as error:
            self._failed(error)
            raise
        # Whatever else comes out of waiting (Ctrl-C, above all) has not ended the request: leaving the block cancels it.
        return next(self._frames)

    def text_deltas(self) -> Iterator[str]:
        """Yield the output text as it comes; all other events pass unseen, but for what they leave in the attributes.

        Raises:
            StreamError: As iterating over the stream itself.
        """
        seen = len(self._deltas)
        for _ in self:
            text = self._new_text(seen)
            seen = len(self._deltas)
            if text is not None:
                yield text

    def cancel(self, *, callback_failed: bool = False) -> None:
        """Give the request up if it has not ended. There is no cancel on this wire: the connection's socket is closed.

        Args:
            callback_failed: The caller's own code raised; the next reset reason is `stream_callback_failed` then.

        Returns within about two seconds, whatever has died. Idempotent.
        """
        if not self._ended:
            self._cancelled()
            self._call.cancel(callback_failed=callback_failed)

    def __del__(self) -> None:
        if not getattr(self, "_ended", True):
            self._call.abandon()
            self._warn_of_drop()


def _output_index(event: dict[str, Any]) -> int:
    index = event.get("output_index")
    return index if isinstance(index, int) else 0


def _text_of(item: Any) -> str:
    # an item is whatever the provider lists
    content = item.get("content") if isinstance(item, dict) and item.get("type") == "message" else None
    if not isinstance(content, list):
        return ""
    return "".join(part["text"] for part in content if isinstance(part, dict) and isinstance(part.get("text"), str))
