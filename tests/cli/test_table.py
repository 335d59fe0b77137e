"""The table of connections: readable at a glance, at any width."""

from __future__ import annotations

from dataclasses import fields

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pixir_actors.cli.table import COLUMNS, GAP, IMPORTANCE, Snapshot, as_json, details, fit, head, overview
from pixir_actors.status import ConnectionStatus, SystemStatus
from tests.cli.fakes import connection, runtime, system


def snapshot(*connections: ConnectionStatus, **of_system: object) -> Snapshot:
    return Snapshot(runtime(), system(connections=len(connections), **of_system), connections)


def lines(*connections: ConnectionStatus, width: int | None = None, height: int | None = None) -> list[str]:
    return [line.plain for line in overview(snapshot(*connections), width=width, height=height)]


def test_the_table_says_what_there_is_to_know() -> None:
    busy = connection(
        "aaaaaaaaaaaa", state="streaming", queue_length=2, last_reset_reason="output_mismatch", next_wakeup_s=None
    )
    assert lines(connection(), busy) == [
        "pid 42  port 1900  version 0.1.0  up 3h12m  2 connections  0 refusals",
        "",
        "KEY           STATE      MODEL      AGE  TURNS  DELTA    SAVED  QUEUE  LAST RESET       WAKES IN",
        "aaaaaaaaaaaa  streaming  gpt-5.5  3m12s      4    75%  12.3 kB      2  output_mismatch         -",
        "97d0d24dd07f  idle       gpt-5.5  3m12s      4    75%  12.3 kB      0  -                     21s",
    ]


def test_at_80_columns_the_less_important_ones_are_left_out() -> None:
    shown = lines(connection(last_reset_reason="no_previous_response", model="gpt-5.5-codex-max"), width=80)
    assert shown[2].split("  ")[0] == "KEY" and "WAKES IN" not in shown[2]
    assert all(name in shown[2] for name in ("STATE", "TURNS", "DELTA", "SAVED", "AGE"))
    assert max(map(len, shown)) <= 80


def test_texts_are_shortened_before_a_column_goes() -> None:
    everything = lines(connection(last_reset_reason="previous_response_not_found"))
    width = len(everything[2])
    shorter = lines(connection(last_reset_reason="previous_response_not_found"), width=width - 5)
    assert "WAKES IN" in shorter[2] and "…" in shorter[3]


@given(st.integers(1, 200), st.lists(st.integers(1, 40), min_size=len(COLUMNS), max_size=len(COLUMNS)))
def test_a_table_fits_its_terminal(width: int, wanted: list[int]) -> None:
    asked = {column.title: max(size, len(column.title)) for column, size in zip(COLUMNS, wanted, strict=True)}
    chosen = fit(dict(asked), width)
    total = sum(chosen.values()) + GAP * (len(chosen) - 1)
    assert total <= width or set(chosen) == set(IMPORTANCE[:2])
    assert set(chosen) == set(IMPORTANCE[: len(chosen)])
    assert all(chosen[title] <= asked[title] for title in chosen)


def test_every_column_has_its_importance() -> None:
    assert {column.title for column in COLUMNS} == set(IMPORTANCE)


def test_what_runs_comes_first_then_what_failed_then_what_was_used_last() -> None:
    rows = lines(
        connection("old", idle_s=90),
        connection("gone", state="disconnected", idle_s=1),
        connection("new", idle_s=1),
        connection("failed", state="degraded"),
        connection("opens", state="connecting"),
        connection("runs", state="streaming"),
    )
    assert [row.split()[0] for row in rows[3:]] == ["runs", "opens", "failed", "new", "old", "gone"]


def test_a_low_terminal_counts_what_it_does_not_show() -> None:
    shown = lines(*(connection(f"k{n:02}", idle_s=n) for n in range(30)), height=10)
    assert len(shown) == 10
    assert shown[-1] == "and 24 more connections"


def test_without_connections_it_says_how_one_comes_to_be() -> None:
    assert lines()[-1] == "no connections yet: `pixir-actors stream KEY TEXT --model MODEL` opens one"


def test_the_head_says_that_the_admin_drains_and_that_strangers_knocked() -> None:
    (line,) = head(snapshot(draining=True, refusals=1))
    assert line.plain.endswith("0 connections  1 refusal  draining")
    assert any("red" in str(span.style) for span in line.spans)


def test_the_head_is_broken_between_facts() -> None:
    assert all(line.cell_len <= 30 for line in head(snapshot(), width=30))


def test_a_model_moves_no_cursor_and_wide_letters_count_twice() -> None:
    shown = lines(connection(model="\x1b[2J模型"), connection("bbbbbbbbbbbb"))
    assert "\x1b" not in "".join(shown)
    assert shown[4].index("3m12s") == shown[3].index("3m12s") + 2


@pytest.mark.parametrize(
    ("key", "shown"),
    [("97d0d24dd07f", "session-1 (digest 97d0d24dd07f)"), ("'session-1'", "session-1"), ("session-1", "session-1")],
)
def test_the_details_name_the_key_that_was_asked_for_and_its_digest(key: str, shown: str) -> None:
    assert details(connection(key), typed="session-1")[0].plain == f"key           {shown}"


def test_the_details_name_all_that_a_connection_tells() -> None:
    text = "\n".join(
        line.plain for line in details(connection(last_error="websocket_closed", replays=1, degraded_for_s=4.2))
    )
    for part in (
        "97d0d24dd07f",
        "4711",
        "api.openai.com",
        "75% as a delta",
        "1.0 kB of 13.3 kB, 12.3 kB saved",
        "1 replay",
        "4.2s",
    ):
        assert part in text
    assert "websocket_closed" in text


def test_the_document_has_every_field_and_no_proof() -> None:
    document = orjson.loads(orjson.dumps(as_json(snapshot(connection()))))
    assert {field.name for field in fields(SystemStatus)} == set(document["system"])
    assert {field.name for field in fields(ConnectionStatus)} | {"saved_bytes"} == set(document["connections"][0])
    assert document["admin"]["pid"] == 42
    assert "canary-proof" not in str(document)


@pytest.mark.parametrize("width", [1, 5, 20])
def test_the_narrowest_terminal_still_gets_key_and_state(width: int) -> None:
    assert lines(connection(), width=width)[-2].split() == ["KEY", "STATE"]
