"""Every row of the matrix, cold and continued, and the table in docs/faults.md that is made of what was seen."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from pixir_actors import Client
from tests.conftest import within
from tests.faults.matrix import ROWS
from tests.faults.row import Outcome, Row
from tests.faults.stage import Play
from tests.faults.table import table

DOCUMENT = Path(__file__).parents[2] / "docs" / "faults.md"
AT_THE_SAME_TIME = 12
Case = tuple[Row, bool]
CASES: list[Case] = [
    (row, continued)
    for row in ROWS
    for continued, outcome in ((False, row.cold), (True, row.continued))
    if outcome is not None
]


def cases() -> list[Any]:
    return [pytest.param(case, id=name(case)) for case in CASES]


def name(case: Case) -> str:
    row, continued = case
    return f"{row.phase}: {row.fault} ({'continued' if continued else 'cold'})"


class Company:
    """Plays cases side by side, each once, in the order in which they were asked for."""

    def __init__(self, client: Client, pool: ThreadPoolExecutor) -> None:
        self._client, self._pool = client, pool
        self._futures: dict[str, Future[Outcome]] = {}

    def start(self, cases: list[Case]) -> None:
        for case in cases:
            if name(case) not in self._futures:
                play = Play(self._client, case[0], continued=case[1])
                self._futures[name(case)] = self._pool.submit(play.run)

    def seen(self, case: Case) -> Outcome:
        self.start([case])
        return self._futures[name(case)].result(within(90))


@pytest.fixture(scope="module")
def company(request: pytest.FixtureRequest) -> Iterator[Company]:
    """Start the cases of all tests that were chosen, so that each test waits for its own only."""
    ours = [item for item in request.session.items if item.path == request.path and hasattr(item, "callspec")]
    chosen = [item.callspec.params["case"] for item in ours]
    with Client.embedded(namespace=uuid.uuid4().hex) as client, ThreadPoolExecutor(AT_THE_SAME_TIME) as pool:
        company = Company(client, pool)
        company.start(chosen)
        yield company
        pool.shutdown(cancel_futures=True)


@pytest.mark.processes
@pytest.mark.parametrize("case", cases())
def test_a_fault_ends_as_the_matrix_says(company: Company, case: Case) -> None:
    row, continued = case
    assert company.seen(case) == (row.continued if continued else row.cold)


@pytest.mark.processes
def test_the_table_in_the_documentation_is_what_was_seen(company: Company) -> None:
    company.start(CASES)
    seen = {name(case): company.seen(case) for case in CASES}
    text = table([(row, seen.get(name((row, False))), seen.get(name((row, True)))) for row in ROWS])
    if os.environ.get("PIXIR_WRITE_DOCS") == "1":
        DOCUMENT.write_text(text)
    assert DOCUMENT.read_text() == text, "PIXIR_WRITE_DOCS=1 writes it anew"


def test_the_rows_are_many_and_each_has_a_name_of_its_own() -> None:
    names = [(row.phase, row.fault) for row in ROWS]
    assert len(set(names)) == len(names) >= 40
