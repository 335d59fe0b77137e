"""Other places than the simulator to which a request may go."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Iterator
from typing import Final

from pixir_actors.simulator import Simulator


@contextlib.contextmanager
def refused_port() -> Iterator[str]:
    """A port on which nobody listens, and nobody can meanwhile."""
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{reserved.getsockname()[1]}/v1/responses"


@contextlib.contextmanager
def full_port() -> Iterator[str]:
    """A TCP port that answers nothing: its queue of new connections is full."""
    with socket.socket() as listener, contextlib.ExitStack() as stack:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(8):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/v1/responses"


@contextlib.contextmanager
def unknown_name() -> Iterator[str]:
    """A name that no name server is asked for, because it is longer than names may be."""
    yield "https://" + ".".join(["x" * 60] * 5) + ".invalid/v1/responses"


def another_authority(stack: contextlib.ExitStack) -> str:
    other = stack.enter_context(Simulator(tls=True))
    assert other.ca_file is not None
    return other.ca_file


PLACES: Final[dict[str | None, Callable[[], contextlib.AbstractContextManager[str]]]] = {
    "refused": refused_port,
    "full": full_port,
    "unknown": unknown_name,
}
