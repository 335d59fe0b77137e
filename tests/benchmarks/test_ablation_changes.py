"""Each change can be switched off where it acts, and on again; turns work without it."""

from __future__ import annotations

import gc
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from benchmarks.ablation.cases import METRICS, PROBES
from benchmarks.ablation.changes import CHANGES, NOISE, Change, known
from benchmarks.ablation.switch import BOOTSTRAP, NoSuchTarget, found, in_guardians, replace
from benchmarks.asks import Ask
from benchmarks.peers.ours import Actors
from pixir_actors.actors import messages as m
from pixir_actors.core import payload
from pixir_actors.dispatch.dispatcher import LEAST_REMEMBERED, Dispatcher
from pixir_actors.settings import Settings
from pixir_actors.system import embedded
from tests.benchmarks.tally import counted, counting
from tests.dispatch.fakes import FakeLink, Town

NONE, FEWER, MORE = "none", "fewer", "more"
WITNESSES = {
    # what is called, in whichever process, and how often while the change is off
    "delta-parsing": ("pixir_actors.core.payload:_decode", MORE),
    "encoded-once": ("pixir_actors.core.payload:_decode", MORE),
    "dictionary-copies": ("dataclasses:replace", MORE),
    "bulk-frames": ("pixir_actors.transport.frames:MessageReader.texts", NONE),
    "channel-requests": ("pixir_actors.actors.connection:submission_from", NONE),
    "lingering": ("pixir_actors.actors.shell:ShellActor._dispatch", MORE),
    "short-rounds": ("pixir_actors.system.rounds:_only_waits", NONE),
    "poll": ("pixir_actors.system.polling:DefaultSelector.select", NONE),
    "alarms-replaced": ("pixir_actors.system.rounds:_takes_the_place_of", NONE),
    "masking-in-c": ("pixir_actors.transport.masking:translated", MORE),
    "read-in-place": ("pixir_actors.channel.frame:Decoder._reserve", NONE),
    "pieces": ("pixir_actors.core.text:Pieces.__init__", NONE),
    "heartbeat-apart": ("pixir_actors.core.heartbeat:Heartbeat.__init__", NONE),
    "board": ("pixir_actors.actors.board:Slot.write", NONE),
    "plain-forks": ("pixir_actors.system.forks:Fork.start", NONE),
    "method-cache-cleared": ("sys:_clear_type_cache", NONE),
    "frozen-forks": ("gc:freeze", FEWER),
    "newest-first": ("pixir_actors.system.signed:find_newest_first", NONE),
    "made-plainly": ("pixir_actors.system.signed:make_plainly", NONE),
    "no-tether": ("pixir_actors.system.tether:Tether._wait_for_the_end", MORE),
}
ASKS = [*[Ask()] * 8, Ask(load=100_000), Ask()]


def calls(change: Change, url: str, path: Path) -> Counter[str]:
    """Return what is called for some turns with a change switched off."""
    with counting(str(path), sorted({target for target, _ in WITNESSES.values()})), change.off():
        peer = Actors(url)
        try:
            assert len(peer.play("a", ASKS)) == len(ASKS)
            for key in "bcd":  # a process that ends as it begins may miss a call: a few of them
                peer.play(key, [Ask()])
        finally:
            peer.close()
    return counted(path)


@pytest.fixture(scope="module")
def ordinary(url: str, tmp_path_factory: pytest.TempPathFactory) -> Counter[str]:
    return calls(NOISE, url, tmp_path_factory.mktemp("tally") / "calls")


@pytest.mark.processes
@pytest.mark.parametrize("name", WITNESSES)
def test_a_change_that_is_switched_off_is_off_where_it_acts_and_turns_work(
    name: str, url: str, ordinary: Counter[str], tmp_path: Path
) -> None:
    target, how = WITNESSES[name]

    off, on = calls(CHANGES[name], url, tmp_path / "calls")[target], ordinary[target]

    assert {NONE: off == 0 < on, FEWER: off < on, MORE: off > on}[how], f"{target}: {off} calls without it, {on} with it"


def test_without_starting_remembered_the_supervisor_is_asked_again_by_who_has_more_than_256_keys() -> None:
    def asked() -> int:
        link = FakeLink()
        Town(link).names.extend(f"c-{number}" for number in range(2, 1000))
        dispatcher = Dispatcher(link)
        keys = [m.EnsureStarted.of(1, f"key-{number}", Settings()) for number in range(LEAST_REMEMBERED + 20)]
        for key in keys:
            dispatcher.connection(key)
        # Only now do their channels come up.
        link.alive.update(f"c-{number}" for number in range(1000))
        for key in keys:
            dispatcher.connection(key)
        return len(link.asked)

    remembered = asked()
    with CHANGES["starting-remembered"].off():
        forgotten = asked()

    assert remembered == LEAST_REMEMBERED + 20
    assert forgotten > remembered + LEAST_REMEMBERED


@pytest.mark.parametrize("change", [*CHANGES.values(), NOISE], ids=lambda change: change.name)
def test_a_change_is_put_back_as_it_was(change: Change) -> None:
    def there() -> list[Any]:
        places = [found(target) for target in (*change.former(), BOOTSTRAP)]
        return [vars(owner)[name] for owner, name in places]

    before = there()
    with change.off():
        within = there()

    assert all(one is not other for one, other in zip(before, within, strict=True))
    assert all(one is other for one, other in zip(before, there(), strict=True))


@pytest.mark.parametrize("change", [*CHANGES.values(), NOISE], ids=lambda change: change.name)
def test_what_a_change_is_measured_by_is_measured(change: Change) -> None:
    assert known(change.name) is change
    assert change.what and change.measured
    for case, metrics in change.measured.items():
        assert case in PROBES and set(metrics) <= set(METRICS)
    if change.profiled is not None:
        case, process = change.profiled
        assert case in change.measured and hasattr(PROBES[case], process)


def test_each_change_is_seen_to_be_off() -> None:
    assert set(CHANGES) == set(WITNESSES) | {"starting-remembered"}


@pytest.mark.parametrize(
    "target",
    [
        "pixir_actors.core.payload:_gone",
        "pixir_actors.gone:parse",
        "pixir_actors.actors.board:Gone.take",
        "pixir_actors.system.signed:SignedBase.shutdown",  # its base's, not its own
    ],
)
def test_what_is_not_there_cannot_be_replaced_and_nothing_else_is(target: str) -> None:
    before = payload._grown

    with pytest.raises(NoSuchTarget, match=target):
        replace({"pixir_actors.core.payload:_grown": None, target: None})

    assert payload._grown is before


def test_a_guardian_that_begins_in_another_way_is_not_taken_for_one_without_the_change(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(embedded, "BOOTSTRAP", "pass")

    with pytest.raises(NoSuchTarget, match="BOOTSTRAP"):
        in_guardians("pass")


def test_a_process_freezes_what_it_has_and_its_forks_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    frozen: list[str] = []
    monkeypatch.setattr(gc, "freeze", lambda: frozen.append("frozen"))
    freeze = CHANGES["frozen-forks"].former()["gc:freeze"]

    freeze()
    monkeypatch.setattr("benchmarks.ablation.former.os.getpid", lambda: 1)
    freeze()

    assert frozen == ["frozen"]
