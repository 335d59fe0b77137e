"""Programs that the tests kill.

    embedded URL        a host with a system of its own, in the middle of a stream: prints the pids of its system
    host                a host that runs a plain actor system for others: prints its admin port, ends with its stdin
    caller PORT URL KEY a program that joins it and streams: prints "reading" in the middle, goes on reading
    stuck PORT URL KEY  the same, but it stops reading
"""

from __future__ import annotations

import socket
import sys
import time

from thespian.actors import ActorSystem

from pixir_actors import Client, Data, Request


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


if __name__ == "__main__":
    name, *arguments = sys.argv[1:]
    if name == "stuck":
        caller(*arguments, stuck=True)  # type: ignore[misc]
    else:
        {"embedded": embedded, "host": host, "caller": caller}[name](*arguments)  # type: ignore[operator]
