"""A host whose plain Thespian writes all that is logged, at DEBUG, to a file: one thing of each kind happens, then it ends.

    logging_host PATH TOKEN PROMPT KEY
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from pathlib import Path
from typing import Any

from thespian.actors import ActorSystem

from pixir_actors import Client, Data, Request, Settings, StreamError
from pixir_actors.actors.messages import StopAll
from pixir_actors.simulator import FAULTS, Reply, Simulator, TurnContext
from tests.conftest import until, within
from tests.robustness.programs import free_port

FORMAT = "%(levelname)s|%(name)s|%(message)s"


def definitions(path: str) -> dict[str, Any]:
    return {
        "version": 1,
        "formatters": {"plain": {"format": FORMAT}},
        "handlers": {"file": {"class": "logging.FileHandler", "filename": path, "formatter": "plain"}},
        "root": {"handlers": ["file"], "level": "DEBUG"},
        "disable_existing_loggers": False,
    }


def script(turn: TurnContext) -> Reply:
    if turn.text.startswith("slow"):
        return Reply.text("word " * 50, deltas=50).paced(0.02)
    return Reply.text(turn.text, deltas=40)


class Host:
    """The program's one client, and what it does with it."""

    def __init__(self, client: Client, sim: Simulator, path: Path, *, token: str, prompt: str) -> None:
        self.client, self.sim, self.path, self.token, self.prompt = client, sim, path, token, prompt

    def ask(self, *texts: str) -> Request:
        items = [{"role": "user", "content": f"{text} {self.prompt}"} for text in texts]
        url = f"{self.sim.base_url}/responses?token={self.token}"
        headers = {"Authorization": f"Bearer {self.token}", "X-Other": self.token}
        return Request(url, headers, {"model": "m", "input": items})

    def fails(self, key: object, *texts: str, **options: Any) -> None:
        with contextlib.suppress(StreamError):
            self.client.respond(key, self.ask(*texts), **options)
            raise AssertionError("it was to fail")

    def logged(self, text: str, *, times: int = 1) -> None:
        """Wait until it stands in the log: records are messages as well."""
        assert until(lambda: self.path.read_text().count(text) >= times, 10), text

    def live(self, key: str) -> None:
        """Have one of each happen: an answer, a delta, a refusal of each kind, an end of each kind."""
        client = self.client
        self.client.respond((key, 1), self.ask("one"))
        self.sim.inject(FAULTS["error_429"]())
        self.fails((key, 1), "one")
        self.sim.inject(FAULTS["refuse_upgrade"](503, {"X-Echo": self.token}, self.prompt))
        self.fails((key, 2), "one")
        client.close((key, 2))
        with client.stream((key, 1), self.ask("slow")) as stream:
            self.streams(stream)
            self.fails((key, 3), "one", max_connections=1)
            client.close((key, 1))
            with contextlib.suppress(StreamError):
                list(stream)
        client.respond((key, 4), self.ask("one"))
        self.logged("turn ended", times=2)  # a record on its way would die with its process
        [status] = client.status((key, 4))
        os.kill(status.pid, signal.SIGKILL)
        client.respond((key, 4), self.ask("one"))
        with client.stream((key, 4), self.ask("slow")) as stream:
            self.streams(stream)
            link = client._link
            answer = link.ask(link.supervisor(), StopAll(link.number(), within=20.0), timeout=within(30))
            assert answer is not None
            list(stream)

    def streams(self, stream: Any) -> None:
        next(event for event in stream if isinstance(event, Data))


def main(path: str, token: str, prompt: str, key: str) -> None:
    system = ActorSystem("multiprocTCPBase", {"Admin Port": free_port()}, definitions(path), transientUnique=True)
    try:
        with Simulator(script) as sim, Client.over(system, settings=Settings(degraded_for=0.01)) as client:
            host = Host(client, sim, Path(path), token=token, prompt=prompt)
            host.live(key)
            host.logged("drain ended")
            host.logged("reason=drained")
    finally:
        system.shutdown()


if __name__ == "__main__":
    main(*sys.argv[1:])
