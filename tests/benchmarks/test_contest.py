"""One tiny run of everything: that it works, not how fast."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import orjson
import pytest

from benchmarks import __main__ as program
from benchmarks import contest
from benchmarks.asks import Ask
from benchmarks.cases.base import Case
from benchmarks.cases.registry import CASES
from benchmarks.contest import Contest, Failed, Participant, server
from benchmarks.peers.base import Incomplete, Record
from benchmarks.peers.registry import CEILING, OURS, PEERS, PLAIN, Entry
from benchmarks.progress import Progress
from benchmarks.results import METRICS, Results
from benchmarks.scale import SCALES
from benchmarks.targets import TARGETS

pytestmark = pytest.mark.processes


def run(cases: list[str], peers: list[str]) -> tuple[Results, list[str]]:
    results, said = Results(), list[str]()
    Contest(cases, peers, 2, "tiny", said.append).run(results)
    return results, said


def peers_in(results: Results, case: str) -> set[str]:
    return {peer for place in results.places(case) for peer in results.values[place]}


@pytest.mark.timeout(240)
def test_every_case_measures_us_and_plain_websocket_client() -> None:
    results, said = run(list(CASES), [OURS, PLAIN, "full replay", CEILING])

    assert results.notes == []
    for case in CASES:
        assert {OURS, PLAIN} <= peers_in(results, case)
        assert any(line.startswith(case) for line in said)
    assert peers_in(results, "burst") == {OURS, PLAIN, CEILING}
    assert peers_in(results, "loop") == {OURS, PLAIN, "full replay"}
    assert {place[2] for place in results.values} == set(METRICS)
    found = {place[2]: len(values) for place, peers in results.values.items() for values in peers.values()}
    assert {metric for metric, count in found.items() if count != 2} == {"idle_first"}, "one value a round"


def test_deltas_are_continued_and_cost_fewer_bytes_than_full_replay() -> None:
    results, _ = run(["loop"], [OURS, PLAIN, "full replay"])

    def value(metric: str, peer: str) -> float:
        spread = results.spread(("loop", "", metric), peer)
        assert spread
        return spread.middle

    assert value("continued", OURS) == value("continued", PLAIN) == 100
    assert value("continued", "full replay") == 0
    assert value("wire", OURS) == value("wire", PLAIN) < value("wire", "full replay")
    assert value("growth", OURS) < value("growth", "full replay")


def test_a_peer_that_fails_falls_out_of_the_case_alone_and_the_others_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    # Ended, as it were, by somebody else: the next case has a process of its own.
    posted = Participant.post

    def post(self: Participant, **order: Any) -> None:
        if order.get("case") == "burst" and not results.notes:
            self.stop(0)
            raise Failed("its process has ended: killed")
        posted(self, **order)

    monkeypatch.setattr(Participant, "post", post)
    results = Results()

    Contest(["burst", "turns"], [PLAIN, CEILING], 2, "tiny", lambda said: None).run(results)

    assert results.notes == [f"{PLAIN} fell out of the case burst: its process has ended: killed"]
    assert peers_in(results, "burst") == {CEILING}
    assert peers_in(results, "turns") == {PLAIN, CEILING}


def test_what_a_peer_s_process_says_of_an_error_is_noted() -> None:
    with server() as url, Participant.of(url, PLAIN, "tiny") as participant:
        participant.post(do="begin", case="no such case")
        with pytest.raises(Failed, match="KeyError: 'no such case'"):
            participant.answer(20, lambda: None)


def test_who_takes_too_long_is_ended() -> None:
    with server() as url, Participant.of(url, PLAIN, "tiny") as participant:
        with pytest.raises(Failed, match="not done within 0 s"):
            participant.answer(0, lambda: None)
        with pytest.raises(Failed, match="its process has ended"):
            participant.post(do="begin", case="burst")


def test_the_peers_take_turns_and_each_round_begins_with_another_one() -> None:
    said: list[str] = []
    live: dict[str, Any] = {name: Recorder(name, said) for name in "abc"}

    contest._Round(CASES["burst"], live, Results(), lambda said: None).case(3)

    turns = [one.removeprefix("measure ") for one in said if one.startswith("measure ")]
    assert "".join(turns) == "abcbcacab"


def test_who_is_alone_has_ended_before_the_others_begin_and_a_round_later_the_reverse(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    said: list[str] = []
    live: dict[str, Any] = {name: Recorder(name, said) for name in "abc"}
    for name, value in (("anew", True), ("alone", {"a"}), ("stages", ("measure", "idle")), ("at_once", {"idle"})):
        monkeypatch.setattr(CASES["burst"], name, value)

    contest._Round(CASES["burst"], live, Results(), lambda said: None).case(2)

    alone = ["restart a", "begin a", "measure a", "idle a", "end a"]
    first, second = (
        [f"{what} {name}" for what in ("restart", "begin", "measure", "idle", "end") for name in order]
        for order in ("bc", "cb")
    )
    assert said[: len(alone + first + second + alone)] == [*alone, *first, *second, *alone]


class Recorder:
    """A participant that does nothing but say what it was told."""

    def __init__(self, name: str, said: list[str]) -> None:
        self._name = name
        self._said = said

    def restart(self) -> None:
        self._said.append(f"restart {self._name}")

    def post(self, do: str, stage: str = "", **order: Any) -> None:
        self._said.append(f"{stage or do} {self._name}")

    def answer(self, bound: float, tick: Any) -> tuple[list[Any], list[str]]:
        return [], []


def test_a_process_that_is_started_anew_has_ended_first_and_knows_of_nothing() -> None:
    with server() as url, Participant.of(url, PLAIN, "tiny") as participant:
        before = participant._process
        participant.post(do="begin", case="burst")
        participant.answer(20, lambda: None)

        participant.restart()

        assert before.poll() == 0
        participant.post(do="run", stage="measure", number=0)
        with pytest.raises(Failed, match="has no attribute 'measure'"):
            participant.answer(20, lambda: None)


def test_a_process_is_ended_once_as_another_may_have_its_number_then(monkeypatch: pytest.MonkeyPatch) -> None:
    with server() as url, Participant.of(url, PLAIN, "tiny") as participant:
        participant.stop(20)
        monkeypatch.setattr("benchmarks.contest.os.killpg", lambda *ended: pytest.fail("it has ended before"))
        participant.stop(20)


def test_a_turn_with_a_missing_delta_is_no_measurement() -> None:
    record = Record(Ask(deltas=2))
    record.begin()
    record.seen("one")

    with pytest.raises(Incomplete, match="1 of 2 deltas"):
        record.finish()


def test_the_program_leaves_out_who_is_not_installed_and_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setitem(PEERS, "stranger", Entry(("nowhere", "None"), "no-such-distribution"))
    monkeypatch.setattr(sys, "argv", ["benchmarks", "--tiny"])
    values = tmp_path / "values.json"

    code = program.main(
        ["--tiny", "--case", "burst", "--peer", PLAIN, "stranger", "--rounds", "1", "--json", str(values)]
    )

    said = capsys.readouterr()
    assert code == 0
    assert "stranger is left out: no-such-distribution is not installed" in said.out
    assert "A burst of 2,000 events" in said.out and "0 s  burst" in said.err
    results = Results.from_json(orjson.loads(values.read_bytes()))
    assert results.facts["command"] == "python -m benchmarks --tiny"
    assert results.spread(("burst", "", "event_rate"), PLAIN)


def test_progress_writes_one_line_per_case_into_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    progress = Progress()

    for said in ("burst, starting: a", "burst, round 1", "turns, starting: a"):
        progress.tick(said)
    progress.clear()

    assert [line.split()[-1] for line in capsys.readouterr().err.splitlines()] == ["burst", "turns"]


@pytest.mark.parametrize("case", CASES.values())
def test_a_case_says_what_it_is(case: type[Case]) -> None:
    assert case.title and case.bound > 0
    assert all(hasattr(case, stage) for stage in case.stages)
    assert case.at_once <= set(case.stages)
    assert case.alone <= set(PEERS)


def test_each_target_is_held_against_five_rounds_at_least() -> None:
    rounds = SCALES["full"].rounds

    assert all(min(rounds, CASES[target.place[0]].rounds or rounds) >= 5 for target in TARGETS)
