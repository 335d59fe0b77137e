"""Several conversations side by side: one client, a thread for each key, a socket and a process for each key.

Streams of different keys run at the same time; two streams of one key would queue in the order in which they came. A
client may be shared by threads, and by nothing that was forked.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

from _provider import Item, Provider, errors_in_one_line, provider

from pixir_actors import Client, Settings
from pixir_actors.simulator import Reply, TurnContext

TOPICS = ("alpha", "beta", "gamma", "delta", "epsilon", "zeta")
TURNS = 3


def simulated_model(turn: TurnContext) -> Reply:
    """Take about a fifth of a second for an answer."""
    return Reply.text(f"You said: {turn.text}", deltas=4).paced(0.02)


def converse(client: Client, there: Provider, topic: str) -> float:
    """Run one conversation; return the seconds it took."""
    started = time.monotonic()
    history: list[Item] = []
    for number in range(TURNS):
        history.append({"role": "user", "content": f"Say one word about {topic}, not one you have used. ({number})"})
        # A key may be a tuple: here a tenant's name and the conversation's.
        with client.stream(("example", topic), there.request(history)) as stream:
            for _ in stream:
                pass
            stream.raise_for_failure()
        history += stream.output
    return time.monotonic() - started


def main() -> None:
    """Run all conversations at once, and show what the connections say of themselves."""
    # Without expose_keys a status shows digests: keys often hold names of customers.
    with provider(simulated_model) as there, Client.embedded(settings=Settings(expose_keys=True)) as client:
        started = time.monotonic()
        with ThreadPoolExecutor(len(TOPICS)) as pool:
            seconds = list(pool.map(lambda topic: converse(client, there, topic), TOPICS))
        elapsed = time.monotonic() - started
        for topic in TOPICS:
            (status,) = client.status(("example", topic))
            print(
                f"{status.key:24} pid {status.pid:<8} {status.turns} turns, {status.delta_turns} as deltas,"
                f" {status.sockets} socket, {status.saved_bytes} bytes saved"
            )
        print(f"{len(TOPICS)} conversations of {sum(seconds):.1f} s in all took {elapsed:.1f} s")


if __name__ == "__main__":
    with errors_in_one_line():
        main()
