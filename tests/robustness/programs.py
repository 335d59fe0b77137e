"""Programs that the tests kill.

    embedded URL        a host with a system of its own, in the middle of a stream: prints the pids of its system
    host                a host that runs a plain actor system for others: prints its admin port, ends with its stdin
    caller PORT URL KEY a program that joins it and streams: prints "reading" in the middle, goes on reading
    stuck PORT URL KEY  the same, but it stops reading
    verbose URL TOKEN PROMPT KEY   a host whose Thespian logs all it can: a turn, a failure, a message that raises
"""

from __future__ import annotations

import socket
import sys
import time

from thespian.actors import Actor, ActorSystem, PoisonMessage

from pixir_actors import Client, Data, PixirError, Request, Settings
from pixir_actors.actors.messages import Submit


def request(url: str) -> Request:
    return Request(url, {"Authorization": "Bearer k"}, {"model": "m", "input": [{"role": "user", "content": "go on"}]})


def embedded(url: str) -> None:
    with Client.embedded() as client, client.stream("k", request(url)) as stream:
        for event in stream:
            if isinstance(event, Data):
                print(*client._link.pids(), flush=True)  # type: ignore[attr-defined]
                time.sleep(3600)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def join(port: int) -> ActorSystem:
    return ActorSystem("multiprocTCPBase", {"Admin Port": port}, transientUnique=True)


def host() -> None:
    port = free_port()
    system = join(port)
    try:
        print(port, flush=True)
        sys.stdin.read()
    finally:
        system.shutdown()


def caller(port: str, url: str, key: str, *, stuck: bool = False) -> None:
    with Client.over(join(int(port))) as client, client.stream(key, request(url)) as stream:
        for event in stream:
            if isinstance(event, Data):
                print("reading", flush=True)
                if stuck:
                    time.sleep(3600)


class Clumsy(Actor):
    """An actor of the host's that raises on every message, so that Thespian logs it and sends it back."""

    def receiveMessage(self, message: object, sender: object) -> None:
        raise RuntimeError("clumsy")


def verbose(url: str, token: str, prompt: str, key: str) -> None:
    system = join(free_port())
    items = [{"role": "user", "content": prompt}]
    asked = Request(url, {"Authorization": f"Bearer {token}"}, {"model": "m", "input": items})
    try:
        with Client.over(system) as client:
            client.respond(key, asked)
            try:
                client.respond(key, asked, connect_timeout=0.001, identity="another")
            except PixirError as error:
                print(error, flush=True)
            poison = system.ask(system.createActor(Clumsy), Submit.of(1, key, asked, Settings()), 5)
            print(poison if isinstance(poison, PoisonMessage) else "no poison", flush=True)
    finally:
        system.shutdown()


if __name__ == "__main__":
    name, *arguments = sys.argv[1:]
    if name == "stuck":
        caller(*arguments, stuck=True)  # type: ignore[misc]
    else:
        {"embedded": embedded, "host": host, "caller": caller, "verbose": verbose}[name](*arguments)  # type: ignore[operator]
