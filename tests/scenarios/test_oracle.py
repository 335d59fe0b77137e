"""Thousands of random conversations on both ways: what the model saw is what the caller meant, always, mostly by deltas.

PIXIR_ORACLE_SEED is the seed of the first scene (the next ones count up), PIXIR_ORACLE_CONVERSATIONS how many
conversations there are; a difference names the seed that plays its scene again.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

import pytest

from pixir_actors import Client
from tests.scenarios.conversations import CONVERSATIONS, Scene
from tests.scenarios.tally import Tally

SEED = int(os.environ.get("PIXIR_ORACLE_SEED", "1"))
NUMBER = int(os.environ.get("PIXIR_ORACLE_CONVERSATIONS", "2000"))
THREADS = 4
ALWAYS_SEEN = {
    "no_previous_response",
    "model_changed",
    "prefix_mismatch",
    "empty_delta",
    "output_mismatch",
    "endpoint_changed",
    "headers_changed",
    "previous_response_not_found",
    "websocket_failed",
    "response_failed",
    "cancelled",
    "caller_continuation",
    "connection_closed",
    "connection_limit",
    "socket_closed",
}
"""Reset reasons that a run of this size has to meet, or it shows nothing about them."""


def play(client: Client, conversations: int, *, threads: int) -> Tally:
    """Play as many scenes as hold so many conversations, and print what came of it.

    With one thread the client is a local one, whose actors sleep between turns.
    """
    seeds = range(SEED, SEED - (-conversations // CONVERSATIONS))
    total = Tally()
    if threads == 1:
        for seed in seeds:
            total.add(Scene(seed, client, awake=False).run())
    else:
        with ThreadPoolExecutor(threads) as pool:
            for tally in pool.map(lambda seed: Scene(seed, client).run(), seeds):
                total.add(tally)
    print(f"\noracle, seeds {seeds.start} to {seeds.stop - 1}: {total}")
    assert not total.differences, "\n".join(total.differences[:10])
    return total


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_model_sees_what_the_caller_meant_in_thousands_of_conversations(on_threads: Client) -> None:
    total = play(on_threads, NUMBER, threads=THREADS)

    if total.conversations >= 2000:
        assert set(total.reasons) >= ALWAYS_SEEN
        assert total.deltas >= total.turns * 0.25
        assert total.replays >= total.turns * 0.01
        assert total.wire_bytes < total.full_bytes * 0.8
        assert total.over_http >= total.turns * 0.1
        assert set(total.fallbacks) >= {"websocket_handshake_failed", "websocket_closed", "websocket_degraded"}
        assert total.came_back >= total.fallbacks.total() * 0.2


@pytest.mark.parametrize("base", ["on_a_loop", "over", "local"])
def test_the_model_sees_what_the_caller_meant_on_the_other_bases(request: pytest.FixtureRequest, base: str) -> None:
    client: Client = request.getfixturevalue(base)

    total = play(client, min(NUMBER, 100), threads=1 if base == "local" else THREADS)

    assert total.deltas > 0
