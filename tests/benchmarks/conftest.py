"""The benchmarks' server, in a process of its own, as the benchmarks run it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from benchmarks.contest import server


@pytest.fixture(scope="package")
def url() -> Iterator[str]:
    with server() as found:
        yield found
