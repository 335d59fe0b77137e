from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from benchmarks.peers.registry import CEILING, OURS, PLAIN, SDK
from benchmarks.results import Results, Sample, Spread
from benchmarks.table import cell, number, ratio, show, target_rows


@pytest.fixture
def results() -> Results:
    found = Results(facts={"command": "python -m benchmarks", "cores": "2"}, notes=["openai-agents is left out."])
    rates = {OURS: [60_000, 61_000, 62_000], PLAIN: [20_000, 20_000, 20_000], SDK: [10_000, 9_000, 11_000]}
    for peer, values in (rates | {CEILING: [600_000] * 3}).items():
        for at, value in enumerate(values):
            found.add("burst", peer, at, Sample("", "event_rate", value))
    return found


def printed(results: Results) -> str:
    stream = io.StringIO()
    show(results, Console(file=stream, width=200))
    return stream.getvalue()


def test_the_table_shows_medians_and_ratios_with_their_range(results: Results) -> None:
    text = printed(results)

    assert "events, events/s (more is better)" in text
    assert "61,000" in text and "3.05x (3.00..3.10)" in text and "6.00x (5.64..6.78)" in text
    assert "\x1b" not in text, "in a pipe there are no colours"


def test_the_targets_stand_in_a_column_and_in_a_table_of_their_own(results: Results) -> None:
    text = printed(results)

    assert "≥ 3x websocket-client: reached" in text
    assert "≥ 7x openai: not reached" in text
    rows = {(row[0], row[2]): tuple(row[3:]) for row in target_rows(results)}
    assert rows["burst", "≥ 3x websocket-client"] == ("3.05 (3.00..3.10)", "reached")
    assert rows["burst", "≥ 7x openai"] == ("6.00 (5.64..6.78)", "not reached")
    assert {case for case, _ in rows} == {"burst"}, "only those of the cases that were run"


def test_what_is_compared_with_nobody_has_the_range_of_its_values(results: Results) -> None:
    for at, value in enumerate((8.1, 8.3, 8.2)):
        for peer in (OURS, SDK):
            results.add("keys", peer, at, Sample("1,000 keys", "pss", value))

    assert cell(results, ("keys", "1,000 keys", "pss"), OURS) == ("8.20", "(8.10..8.30)")
    assert cell(results, ("keys", "1,000 keys", "pss"), SDK) == ("8.20", "(8.10..8.30)")
    assert cell(results, ("burst", "", "event_rate"), OURS) == ("61,000", "")


def test_a_target_that_some_rounds_miss_says_so(results: Results) -> None:
    results.add("burst", PLAIN, 2, Sample("", "event_rate", 30_000))

    rows = {row[2]: tuple(row[3:]) for row in target_rows(results)}
    assert rows["≥ 3x websocket-client"] == ("3.00 (2.07..3.05)", "reached, not in every round")


def test_a_target_whose_peer_did_not_take_part_is_not_measured(results: Results) -> None:
    del results.values["burst", "", "event_rate"][SDK]

    assert "≥ 7x openai: not measured" in printed(results)


def test_the_notes_and_the_server_s_ceiling_are_said(results: Results) -> None:
    text = printed(results)

    assert "openai-agents is left out." in text
    assert "a reader that does nothing 600,000 events/s; the fastest peer took 10 % of that" in text


def test_nothing_measured_is_no_table() -> None:
    assert printed(Results(notes=["why"])) == "why\n"


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0.00"), (1.234, "1.23"), (12.34, "12.3"), (1234.5, "1,234"), (-5, "-5.00")]
)
def test_numbers_have_the_digits_that_matter(value: float, text: str) -> None:
    assert number(value) == text


def test_one_value_has_no_range() -> None:
    assert ratio(Spread(2, 2, 2, 1)) == "2.00x"
    assert ratio(None) == ""


def test_the_report_is_written_with_its_plots(results: Results, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    from benchmarks.report import write

    path = write(results, tmp_path / "performance.md", busy=results)

    text = path.read_text()
    assert (tmp_path / "performance" / "burst.png").read_bytes().startswith(b"\x89PNG")
    assert "![burst](performance/burst.png)" in text
    assert "| 61,000 | 20,000<br>3.05x (3.00..3.10) |" in text
    assert "on a busy machine" in text and "openai-agents is left out." in text
    assert "`python -m benchmarks`" in text
    assert "![keys]" not in text, "what was not measured has no plot"
