"""Each peer that is installed holds the same conversation. Those of the extra `bench` are left out where it is not."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from benchmarks.asks import Ask
from benchmarks.meter import below
from benchmarks.peers import bare
from benchmarks.peers.base import Incomplete, Peer
from benchmarks.peers.registry import CEILING, FLOOR, PEERS
from benchmarks.server.loop import stats
from tests.conftest import until

SAID = ("does not say what to answer", "status=400")
"""In the error of the server, as the peers tell it."""

pytestmark = [
    pytest.mark.processes,
    # what other libraries say of themselves
    pytest.mark.filterwarnings("default"),
]


@pytest.fixture(params=PEERS)
def peer(request: pytest.FixtureRequest, url: str) -> Iterator[Peer]:
    entry = PEERS[request.param]
    if entry.missing:
        pytest.skip(f"{entry.distribution} is not installed")
    made = entry.make(url)
    yield made
    made.close()
    made.close()


def test_a_conversation_of_text_and_tools_is_held_and_continued(
    peer: Peer, url: str, request: pytest.FixtureRequest
) -> None:
    before = stats(url)
    asks = [Ask(), Ask(call=1), Ask(output_of=1, load=500), Ask(deltas=300), Ask(load=20_000)]

    records = peer.play("a", asks)

    after = stats(url)
    assert [record.ask for record in records] == asks
    assert all(record.started < record.first <= record.ended for record in records)
    assert after["requests"] - before["requests"] == len(asks)
    by_itself = 0 if request.node.callspec.params["peer"] in ("full replay", CEILING, FLOOR) else len(asks) - 1
    assert after["continued"] - before["continued"] == by_itself
    peer.shut("a")


def test_a_conversation_starts_over_on_the_connection_that_there_is(peer: Peer, url: str) -> None:
    peer.play("a", [Ask(), Ask(call=1), Ask(output_of=1)])
    before = stats(url)

    peer.start_over("a")
    first = sent_by(peer, url)

    assert stats(url)["continued"] == before["continued"], "it continues nothing"
    peer.start_over("a")
    assert sent_by(peer, url) == first, "and brings nothing of what was said before"
    peer.play("a", [Ask()])
    assert stats(url)["connections"] == before["connections"]


def sent_by(peer: Peer, url: str) -> int:
    """Return how many bytes of requests a turn sends."""
    before = stats(url)
    peer.play("a", [Ask()])
    return int(stats(url)["request_bytes"] - before["request_bytes"])


def test_streams_run_at_once_and_know_the_delay_of_each_event(peer: Peer) -> None:
    if not peer.counts:
        pytest.skip("it does not look at events")
    keys = ["a", "b", "c"]
    peer.together(keys, Ask(), 2)

    records = peer.together(keys, Ask(deltas=10, rate=100), 3)

    assert all(len(record.delays) == 10 and min(record.delays) > 0 for record in records)
    starts, ends = [record.started for record in records], [record.ended for record in records]
    assert max(starts) < min(ends), "at once"


def test_an_answer_that_is_an_error_is_no_measurement(peer: Peer, monkeypatch: pytest.MonkeyPatch) -> None:
    if not peer.counts:
        pytest.skip("it does not look at events")
    monkeypatch.setattr(Ask, "items", lambda self: [])

    with pytest.raises(Exception, match=r"(?s).+") as caught:
        peer.play("a", [Ask()])

    assert isinstance(caught.value, Incomplete) or any(said in str(caught.value) for said in SAID)


def test_a_bare_process_hands_on_what_comes_and_ends_with_who_made_it(url: str) -> None:
    """It shows what a process per key costs, so there is one for each key, and none of them outlives the peer."""
    peer = PEERS[FLOOR].make(url)
    before = set(below(os.getpid()))
    peer.together([f"key-{i}" for i in range(5)], Ask(), 3)
    children = set(below(os.getpid())) - before
    assert len(children) == 5

    # Nothing that it was given keeps another one's socket open: each ends when its own one is closed.
    for conversation in peer._conversations.values():  # type: ignore[attr-defined]
        conversation.socket.close()
    for pid in children:
        assert os.waitpid(pid, 0)[0] == pid


def test_a_bare_process_pings(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bare, "INTERVAL", 0.05)
    peer = PEERS[FLOOR].make(url)
    peer.play("a", [Ask()])
    before = stats(url)["pings"]

    assert until(lambda: stats(url)["pings"] - before >= 3)
    assert peer.play("a", [Ask()])[0].ended, "and a pong is no part of an answer"
    peer.close()
