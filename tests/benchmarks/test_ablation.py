"""The run, what it measures, and what it says: on made-up numbers, and on a tiny run."""

from __future__ import annotations

import importlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

from benchmarks.ablation import __main__ as program
from benchmarks.ablation import report, sampling
from benchmarks.ablation.cases import AMOUNTS, METRICS, PROBES, Amounts, Idle, Probe
from benchmarks.ablation.changes import CHANGES, NOISE, Change
from benchmarks.ablation.rounds import WITH, WITHOUT, Measured, Rounds, middles
from benchmarks.ablation.sampling import may_sample, parse, sampled
from benchmarks.meter import cpu_of
from benchmarks.peers.ours import Actors
from benchmarks.results import Sample
from benchmarks.scale import SCALES

MADE_UP = Change("made-up", "it was made up", dict, {"warm": ("turn", "burst")}, ("warm", "connection"))
RAW = """\
<module> (<string>);run (pixir_actors/core/lifecycle.py);evolve (pixir_actors/core/state.py) 7
<module> (<string>);run (pixir_actors/core/lifecycle.py) 2
run (a.py);_Step.set.<locals>.done (pixir_actors/core/lifecycle.py) 1
run (a.py);evolve (pixir_actors/core/state.py) 3
run (a.py);Watch.dispatch (pixir_actors/actors/watch.py) 90
run (a.py);Sender.flush (pixir_actors/channel/sender.py) 90
run (a.py);EpollSelector.select (selectors.py) 90
process 17:"a name" 4
""".splitlines()


def measured() -> Measured:
    found = Measured()
    for number, (without, with_it) in enumerate([(2.0, 1.0), (3.0, 1.0), (1.0, 2.0)]):
        for side, value in ((WITHOUT, without), (WITH, with_it)):
            found.values.add("made-up", side, number, Sample("warm", "turn", value))
    found.values.facts = {"command": "python -m benchmarks.ablation", "cores": "2"}
    return found


def profile(found: Measured, function: str, **values: float) -> None:
    """Add what each side was seen at in two rounds together; the second one has not seen it."""
    for side, value in values.items():
        found.profiles.add("made-up", side, 0, Sample(function, "self", value))
        for number in range(2):
            found.profiles.add("made-up", side, number, Sample("", "look", 1.0))
            found.profiles.add("made-up", side, number, Sample("", "cpu", 500.0 + number))


def test_a_row_has_both_sides_their_ratio_with_its_spread_and_the_rounds_that_were_better() -> None:
    [row] = report.rows(measured(), MADE_UP)

    assert row == (PROBES["warm"].title, "a turn, ms", "2.00", "1.00", "2.00x (0.50..3.00)", "2 of 3")


def test_a_metric_that_was_not_measured_on_one_side_has_no_ratio() -> None:
    found = measured()
    del found.values.values["made-up", "warm", "turn"][WITHOUT]

    [row] = report.rows(found, MADE_UP)

    assert row[2:] == ("", "1.00", "", "0 of 0")


def test_the_functions_that_differ_most_come_first_and_those_that_may_by_chance_do_not_come() -> None:
    found = measured()
    profile(found, "less", without=200, **{"with": 100})
    profile(found, "more", **{"with": 400})
    profile(found, "chance", without=100, **{"with": 110})

    assert [one.function for one in report.differences(found, MADE_UP)] == ["more", "less"]
    more, less = report.differences(found, MADE_UP)
    assert (more.without, more.with_it, more.added) == (0, 200, 200), "the mean of two rounds"
    assert less.deviation == pytest.approx((200 + 100) ** 0.5 / 2)
    assert list(report.profile_rows(found, MADE_UP)) == [
        ("more", "0.00", "200", "+200 ± 10"),
        ("less", "100", "50.0", "-50 ± 9"),
        ("all, by the kernel's clock", "500", "500", "+0"),
    ]


def test_no_more_functions_are_shown_than_can_be_read() -> None:
    found = measured()
    for number in range(20):
        profile(found, f"function {number}", without=1000 + number, **{"with": 0})

    assert [one.function for one in report.differences(found, MADE_UP)][:2] == ["function 19", "function 18"]
    assert len(report.differences(found, MADE_UP)) == report.MOST


def test_without_profiles_there_are_no_rows_of_them() -> None:
    assert list(report.profile_rows(measured(), MADE_UP)) == []


def test_it_is_written_for_a_terminal_and_in_markdown(tmp_path: Path) -> None:
    found = measured()
    found.values.notes.append("something to know")
    profile(found, "core.state.evolve", without=200, **{"with": 100})
    console = Console(record=True, width=200)

    report.show(found, [MADE_UP, NOISE], console)
    report.write(found, [MADE_UP, NOISE], tmp_path / "ablation.md")

    shown, written = console.export_text(), (tmp_path / "ablation.md").read_text()
    for text in (shown, written):
        assert "2.00x (0.50..3.00)" in text and "core.state.evolve" in text and "something to know" in text
        assert NOISE.what not in text, "nothing was measured of it"
    assert "made-up: it was made up" in shown
    assert written.startswith("# What each change is worth\n\nMade by `python -m benchmarks.ablation`.")
    assert "\n## made-up\n\nIt was made up.\n" in written
    assert "| a turn, ms | 2.00 | 1.00 | 2.00x (0.50..3.00) | 2 of 3 |" in written


def test_a_round_is_the_median_of_its_parts() -> None:
    samples = [Sample("", "turn", value) for value in (9.0, 1.0, 2.0)] + [Sample("", "burst", 5.0)]

    assert list(middles(samples, "warm")) == [("warm", "turn", 2.0), ("warm", "burst", 5.0)]


def test_a_profile_counts_the_innermost_function_whatever_called_it_but_where_threads_wait_or_wake_others() -> None:
    assert parse(RAW) == {
        "core.state.evolve": 10,
        "core.lifecycle.run": 2,
        "core.lifecycle._Step.set.done": 1,
        'process 17:"a name"': 4,
    }


def test_the_functions_that_are_left_out_are_there() -> None:
    for name in sampling.WAITS:
        module, *path = name.split(".")
        package = "benchmarks" if module == "peers" else "pixir_actors"
        found: object = importlib.import_module(f"{package}.{module}.{path[0]}")
        for part in path[1:]:
            found = getattr(found, part)


def test_a_running_process_is_looked_at() -> None:
    if reason := may_sample():
        pytest.skip(reason)
    code = "def busy():\n    while True: pass\nprint(flush=True)\nbusy()"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout
            process.stdout.readline()
            looks, each = sampled(process.pid, 100, lambda: spent(process.pid, 0.1))
        finally:
            process.kill()

    assert looks and set(looks) == {"<string>.busy"}
    assert each == 1 / 100 / 5


def spent(pid: int, seconds: float) -> int:
    """Wait until a process has used so much CPU; return as if something had been done five times."""
    until = cpu_of(pid) + seconds
    while cpu_of(pid) < until:
        pass
    return 5


def test_that_nobody_may_look_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampling, "_program", lambda: None)
    assert may_sample() == "py-spy is not installed (extra: bench)"

    monkeypatch.setattr(sampling, "_program", lambda: "false")
    assert may_sample() == "py-spy may not attach to a process here: it does not say why"


@pytest.fixture(scope="module")
def peer(url: str) -> Iterator[Actors]:
    made = Actors(url, Idle.settings)
    yield made
    made.close()


@pytest.mark.processes
@pytest.mark.parametrize("probe", PROBES.values(), ids=PROBES)
def test_a_case_measures_what_changes_are_about(probe: type[Probe], peer: Actors, url: str) -> None:
    case = probe(peer, url, AMOUNTS["tiny"])

    found = {sample.metric: sample.value for sample in case.measure(0)}

    wanted = {metric for change in CHANGES.values() for metric in change.measured.get(probe.name, ())}
    assert wanted <= set(found) <= set(METRICS)
    assert all(value > 0 for metric, value in found.items() if metric not in ("more", "pss"))


@pytest.mark.processes
def test_a_tiny_run_has_both_sides_and_their_profiles(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert program.main(["--tiny", "--change", "dictionary-copies", "--to", str(tmp_path / "ablation.md")]) == 0

    written = (tmp_path / "ablation.md").read_text()
    assert "## dictionary-copies" in written and f"## {NOISE.name}" not in written
    assert "1 of 1" in written or "0 of 1" in written
    assert ("There are no profiles" in written) == (may_sample() is not None)
    assert ("by the kernel's clock |" in written) == (may_sample() is None)
    assert "written: " in capsys.readouterr().out


@pytest.mark.processes
def test_a_side_that_fails_is_noted_and_the_run_goes_on(url: str) -> None:
    found, said = Measured(), list[str]()
    change = Change("unknown", "nobody knows it", dict, {"warm": ("turn",)})

    Rounds(url, [change], "tiny", False, said.append).run(1, found)

    assert found.values.values == {}
    [note] = found.values.notes
    assert note.startswith("unknown, round 1 of 1: warm: its process has ended") and "KeyError: 'unknown'" in note


def test_cases_are_run_to_an_amount_of_their_own(peer: Actors, url: str) -> None:
    assert all(isinstance(amount, Amounts) for amount in AMOUNTS.values())
    with pytest.raises(TypeError):
        PROBES["warm"](peer, url, SCALES["tiny"])
