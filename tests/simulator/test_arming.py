"""Which fault is used when."""

from __future__ import annotations

import re
from typing import Any

import pytest

from pixir_actors.simulator import FAULTS, Fault, Reply, Simulator
from pixir_actors.simulator.arming import FaultBox, Where
from pixir_actors.simulator.fault import Phase


def used(
    box: FaultBox, phase: Phase, connection: int = 0, request: int | None = None, *, single: bool = True
) -> list[str]:
    names: list[str] = []

    def attempt(fault: Fault) -> bool:
        names.append(fault.name)
        return True

    box.use(phase, attempt, Where(connection, "websocket", request), single=single)
    return names


def test_a_fault_applies_once_or_so_many_times_or_always() -> None:
    box = FaultBox([FAULTS["slow_accept"](), FAULTS["error_503"](times=2), FAULTS["error_429"](times=None)])
    assert [used(box, "upgrade"), used(box, "upgrade")] == [["slow_accept"], []]
    assert [used(box, "request", request=n) for n in range(4)] == [["error_503"]] * 2 + [["error_429"]] * 2


def test_single_takes_the_first_and_leaves_the_others_armed() -> None:
    box = FaultBox([FAULTS["cut_mid_text"](), FAULTS["cut_after_terminal"]()])
    assert used(box, "stream") == ["cut_mid_text"]
    assert [fault.name for fault in box.armed()] == ["cut_after_terminal"]


def test_all_that_fit_are_used_when_not_single() -> None:
    box = FaultBox([FAULTS["fragment"](), FAULTS["split_every_byte"]()])
    assert used(box, "framing", single=False) == ["fragment", "split_every_byte"]


def test_a_fault_that_does_not_fit_stays_armed() -> None:
    box = FaultBox([FAULTS["cut_mid_text"]()])
    box.use("stream", lambda fault: False, Where(0, "websocket"))
    assert len(box.armed()) == 1


def test_selectors_choose_the_connection_and_the_request() -> None:
    box = FaultBox()
    box.arm(FAULTS["slow_accept"](on_connection=1))
    box.arm(FAULTS["error_503"](on_request=2))
    assert used(box, "upgrade", 0) == []
    assert used(box, "upgrade", 1) == ["slow_accept"]
    assert used(box, "request", request=1) == []
    assert used(box, "request", request=2) == ["error_503"]


@pytest.mark.parametrize(
    ("nonsense", "named"),
    [
        (FAULTS["not_found"], "FAULTS['not_found'] is a factory: call it"),
        ("not_found", "a str is no fault"),
        (None, "a NoneType is no fault"),
    ],
)
def test_what_is_no_fault_is_refused_where_it_is_armed(nonsense: Any, named: str) -> None:
    box = FaultBox()
    refused = pytest.raises(TypeError, match=re.escape(named))
    with refused:
        box.arm(nonsense)
    with refused:
        Simulator().inject(nonsense)
    with refused:
        Simulator(faults=[nonsense])
    with refused:
        Reply.text("hi").with_faults(nonsense)
    assert box.armed() == []


def test_the_way_is_chosen_too_and_a_fault_can_be_taken() -> None:
    box = FaultBox([FAULTS["slow_accept"](on_via="http"), FAULTS["refuse_upgrade"]()])
    assert box.take("upgrade", Where(0, None)) is None
    assert str(box.take("upgrade", Where(0, "websocket"))) == "Fault(refuse_upgrade)"
    assert str(box.take("upgrade", Where(0, "http"))) == "Fault(slow_accept)"
    assert (box.take("upgrade", Where(0, "http")), box.armed()) == (None, [])
