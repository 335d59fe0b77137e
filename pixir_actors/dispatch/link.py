"""How a client's process reaches the actors: questions, and sources of frames.

`RemoteLink` talks to a multi-process system from many threads; `local.LocalLink` runs everything in the caller's thread.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from pixir_actors.channel.frame import Frame
from pixir_actors.channel.inbox import Loss
from pixir_actors.channel.listener import Listener
from pixir_actors.core.text import Piece
from pixir_actors.dispatch.questions import Questions


class Source(Protocol):
    """Where the frames of one request come from; `channel.inbox.Inbox` is one."""

    @property
    def lost(self) -> Loss | None:
        """How the channel ended, if it did before the request."""

    @property
    def started(self) -> bool:
        """Whether a frame has come."""

    def take(self, timeout: float | None = None) -> list[Frame] | None:
        """Return the frames that have come, at least one, the caller's to keep; or None after `timeout` seconds."""

    def bind(self, connection_id: str) -> None:
        """Say which connection the frames come from."""

    def close(self) -> None:
        """Want no more frames."""

    def drop(self) -> None:
        """As `close`, for destructors: waits for nothing, not even a lock."""


class LoopSource(Source, Protocol):
    """A source that can be read without waiting, and says when; `channel.inbox.Inbox` is one."""

    on_ready: Callable[[], None] | None
    """Called, in any thread, when there is something new."""

    @property
    def to_resume(self) -> bool:
        """Whether there is more to be had after `resume`."""

    def take_ready(self) -> list[Frame] | None:
        """Return the frames that have come, or None; waits for nothing, not even a lock."""

    def resume(self, *, wait: bool = True) -> bool:
        """Let more frames come; without `wait`, say whether no other thread was in the way of that."""


class Link(Protocol):
    """The way to one actor system."""

    kind: str
    """How the client reaches its system, in a word."""
    channel: str | None
    owns_system: bool
    """Whether the system ends with the client."""

    def number(self) -> int:
        """Return a number that this link has not given out yet."""

    def ask(
        self, address: Any, question: Any, *, timeout: float, give_up: Callable[[], bool] = lambda: False
    ) -> Any | None:
        """Send a question and return its answer; None after `timeout` seconds, when nobody is there, or on `give_up`."""

    def supervisor(self, *, again: bool = False) -> Any:
        """Return the supervisor's address; `again` asks the system anew, because the known one did not answer."""

    def restart(self, supervisor: Any) -> bool:
        """End a system whose supervisor, known by this address, answers nothing any more, and start it anew.

        Returns:
            False where that is not this link's to do, or cannot be done.
        """

    def open(self, request_id: int, *, max_buffered_bytes: int) -> Source:
        """Return where the frames of a request will come from; call before the request is submitted."""

    def connected(self, connection_id: str) -> bool:
        """Say whether that connection is known to be alive without asking."""

    def send(self, connection_id: str, *parts: Piece, request_id: int = 0) -> bool:
        """Send an encoded frame, whole or in its parts, over the connection's channel; False where there is none.

        Never blocks.

        Args:
            connection_id: Of the connection.
            parts: The frame.
            request_id: Of the request that it submits: its source is lost with the very channel that it goes over.
        """

    def met(self, connection_id: str, address: Any) -> None:
        """Take note of a connection's address."""

    def close(self) -> None:
        """Let go of everything but the actor system. Idempotent."""


class RemoteLink(Questions):
    """To a multi-process system. Thread-safe.

    Args:
        actor_system: On `multiprocTCPBase`, or the signed base of `system.signed`.
        directory: Where the event channel's socket is made; None: where temporary files go.

    Raises:
        SystemStartFailed: No listener, or no supervisor.
    """

    kind = "over"
    owns_system = False

    def __init__(self, actor_system: Any, *, directory: str | None = None) -> None:
        super().__init__(actor_system)
        self._listener = Listener(directory=directory)
        self.channel: str | None = self._listener.path
        try:
            self.supervisor()
        except BaseException:
            self._listener.close()
            raise

    def restart(self, supervisor: Any) -> bool:
        return False  # others use it, too

    def open(self, request_id: int, *, max_buffered_bytes: int) -> Source:
        return self._listener.open(request_id, max_buffered_bytes=max_buffered_bytes)

    def connected(self, connection_id: str) -> bool:
        return self._listener.connected(connection_id)

    def send(self, connection_id: str, *parts: Piece, request_id: int = 0) -> bool:
        return self._listener.send(connection_id, *parts, request_id=request_id)

    def met(self, connection_id: str, address: Any) -> None:
        pass

    def close(self) -> None:
        super().close()
        self._listener.close()
