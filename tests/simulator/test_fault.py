"""What a fault is for, and the selectors that every factory takes."""

from __future__ import annotations

from typing import Any

import pytest

from pixir_actors.simulator import FAULTS, Fault
from pixir_actors.simulator.fault import REGISTER


def test_every_registered_fault_is_in_faults_and_faults_cannot_be_changed() -> None:
    assert dict(FAULTS) == REGISTER
    with pytest.raises(TypeError):
        FAULTS["new"] = lambda: None  # type: ignore[index]


def test_the_selectors_are_kept() -> None:
    fault = FAULTS["cut_mid_text"](2, times=None, on_request=3, on_connection=4, on_via="http")
    assert (fault.times, fault.on_request, fault.on_connection, fault.on_via) == (None, 3, 4, "http")


@pytest.mark.parametrize(
    ("on_via", "fits"), [(None, [True, True, True]), ("http", [False, True, False]), ("websocket", [True, False, False])]
)
def test_a_fault_fits_its_way(on_via: Any, fits: list[bool]) -> None:
    ways: tuple[Any, ...] = ("websocket", "http", None)
    assert [Fault("x", "stream", on_via=on_via).fits(way) for way in ways] == fits


@pytest.mark.parametrize("name", ["fragment", "close_with", "ignore_pings"])
def test_a_fault_of_one_way_is_for_it_unasked_and_refuses_the_other(name: str) -> None:
    assert FAULTS[name]().on_via == FAULTS[name](on_via="websocket").on_via == "websocket"
    with pytest.raises(ValueError, match="for 'websocket' only"):
        FAULTS[name](on_via="http")


def test_after_an_upgrade_means_over_websocket() -> None:
    assert FAULTS["stall"]().on_via is None
    assert FAULTS["stall"]("upgrade").on_via == "websocket"
    with pytest.raises(ValueError, match="for 'websocket' only"):
        FAULTS["stall"]("upgrade", on_via="http")


def test_no_way_can_be_chosen_before_it_is_known() -> None:
    with pytest.raises(ValueError, match="before it is known"):
        FAULTS["silent"](on_via="http")


@pytest.mark.parametrize("options", [{"times": 0}, {"on_via": "carrier pigeon"}])
def test_a_selector_that_makes_no_sense_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="allowed are"):
        FAULTS["stall"](**options)
