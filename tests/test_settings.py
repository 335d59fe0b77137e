"""Every option: its default, its bounds, its refusal.

Covers C55 and X15 (nonsense is refused, None switches off), C12 (an option given per request wins), the options of design
section 3 and "settings out of range".
"""

from __future__ import annotations

import math
import pickle
from collections.abc import Callable
from dataclasses import fields
from typing import Any

import pytest

from pixir_actors.errors import InvalidSettings
from pixir_actors.settings import ALLOWED, FOREVER, MIB, Settings

DEFAULTS = {
    "connect_timeout": 30,
    "send_timeout": 30,
    "first_event_timeout": 180,
    "idle_timeout": 180,
    "queue_timeout": None,
    "timeout": None,
    "keepalive_interval": 25,
    "pong_timeout": 20,
    "idle_close_after": 1800,
    "degraded_for": 5,
    "degraded_max": 60,
    "max_connection_age": "auto",
    "queue_limit": 16,
    "max_connections": 1000,
    "max_request_bytes": 15 * MIB,
    "max_message_bytes": 64 * MIB,
    "max_buffered_bytes": 64 * MIB,
    "ca_file": None,
    "proxy": None,
    "allow_plaintext": False,
    "identity": None,
    "transport": "websocket",
    "retry_ambiguous": False,
    "expose_keys": False,
}
DURATIONS = [
    "connect_timeout",
    "send_timeout",
    "first_event_timeout",
    "idle_timeout",
    "queue_timeout",
    "timeout",
    "keepalive_interval",
    "pong_timeout",
    "idle_close_after",
    "degraded_for",
]
NONSENSE = [0, 0.0, -1, "5", True, math.nan, math.inf, -math.inf, 10**400, FOREVER + 1, 0.0009, [], b"1", 1j]


@pytest.mark.parametrize("name", DEFAULTS)
def test_the_default_is_the_designs(name: str) -> None:
    assert getattr(Settings(), name) == DEFAULTS[name]


def test_every_field_has_bounds_and_a_docstring_of_its_own() -> None:
    assert {field.name for field in fields(Settings)} == set(ALLOWED)
    assert set(DEFAULTS) <= set(ALLOWED)


@pytest.mark.parametrize("value", NONSENSE, ids=repr)
@pytest.mark.parametrize("name", [*DURATIONS, "degraded_max", "max_connection_age"])
def test_a_duration_that_makes_no_sense_is_refused(name: str, value: Any) -> None:  # C55, X15
    with pytest.raises(InvalidSettings) as caught:
        Settings(**{name: value})

    assert (caught.value.field, caught.value.value) == (name, value) or value != value
    assert "0.001 to 31536000" in caught.value.allowed


@pytest.mark.parametrize("name", [*DURATIONS, "max_connection_age"])
def test_a_duration_can_be_switched_off(name: str) -> None:
    assert getattr(Settings(**{name: None}), name) is None


def test_the_ceiling_of_the_window_cannot_be_switched_off() -> None:
    with pytest.raises(InvalidSettings):
        Settings(degraded_max=None)  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [0.001, 1, FOREVER])
@pytest.mark.parametrize("name", [*DURATIONS, "degraded_max", "max_connection_age"])
def test_the_bounds_of_a_duration_are_allowed(name: str, value: float) -> None:
    assert getattr(Settings(**{name: value}), name) == value


COUNTS = {
    "queue_limit": (0, 10_000),
    "max_connections": (1, 100_000),
    "max_request_bytes": (1, 100 * MIB),
    "max_message_bytes": (1024, 1024 * MIB),
    "max_buffered_bytes": (1024, 16 * 1024 * MIB),
}


@pytest.mark.parametrize("name", COUNTS)
def test_a_count_is_a_whole_number_within_its_bounds(name: str) -> None:
    least, most = COUNTS[name]
    assert getattr(Settings(**{name: least}), name) == least
    assert getattr(Settings(**{name: most}), name) == most
    for wrong in (least - 1, most + 1, 2000.0, "2000", True, None):
        with pytest.raises(InvalidSettings, match=rf"{name}=.* from {least} to {most}"):
            Settings(**{name: wrong})


@pytest.mark.parametrize("name", ["ca_file", "proxy", "identity"])
@pytest.mark.parametrize("wrong", ["", "x" * 4097, "a\0b", 1, b"x"], ids=["empty", "long", "NUL", "int", "bytes"])
def test_a_text_is_neither_empty_nor_endless(name: str, wrong: Any) -> None:
    with pytest.raises(InvalidSettings, match="a text of 1 to 4096 characters, or None"):
        Settings(**{name: wrong})


@pytest.mark.parametrize("name", ["allow_plaintext", "retry_ambiguous", "expose_keys"])
@pytest.mark.parametrize("wrong", [0, 1, None, "yes"])
def test_a_flag_is_true_or_false(name: str, wrong: Any) -> None:
    with pytest.raises(InvalidSettings, match="True or False"):
        Settings(**{name: wrong})


@pytest.mark.parametrize("wrong", ["https", "AUTO", "", None, True])
def test_a_transport_is_one_of_three_words(wrong: Any) -> None:
    assert {Settings(transport=word).transport for word in ("websocket", "auto", "http")} == {"websocket", "auto", "http"}
    with pytest.raises(InvalidSettings, match='"websocket" or "auto" or "http"'):
        Settings(transport=wrong)


def test_only_auto_is_a_word_for_an_age() -> None:
    with pytest.raises(InvalidSettings, match='"auto" \\(by host\\)'):
        Settings(max_connection_age="never")  # type: ignore[arg-type]


def test_options_of_a_request_win_and_leave_the_settings_alone() -> None:  # C12
    settings = Settings(timeout=5.0)
    changed = settings.override({"timeout": 7.0, "queue_limit": 1})

    assert (changed.timeout, changed.queue_limit, changed.send_timeout) == (7.0, 1, 30.0)
    assert settings.timeout == 5.0
    assert settings.override({}) is settings


def test_an_option_of_a_request_is_checked_like_any_other() -> None:
    with pytest.raises(InvalidSettings, match="timeout=0 is not valid"):
        Settings().override({"timeout": 0})


@pytest.mark.parametrize("make", [Settings, lambda **options: Settings().override(options)], ids=["made", "overridden"])
def test_an_unknown_option_is_refused_by_name_and_its_value_not_repeated(make: Callable[..., Settings]) -> None:
    with pytest.raises(InvalidSettings) as caught:
        make(api_key="CANARY")

    assert caught.value.field == "api_key"
    assert "idle_timeout" in str(caught.value)
    assert "CANARY" not in str(caught.value) + repr(caught.value)


@pytest.mark.parametrize("make", [Settings, lambda **options: Settings().override(options)], ids=["made", "overridden"])
def test_a_misspelled_option_is_told_what_was_meant_and_not_that_its_value_is_wrong(make: Callable[..., Settings]) -> None:
    with pytest.raises(InvalidSettings) as caught:
        make(idle_timeot=3)

    for error in (caught.value, pickle.loads(pickle.dumps(caught.value))):
        assert str(error) == "idle_timeot is not known; did you mean idle_timeout?"
        assert error.field == "idle_timeot"


def test_a_proxys_password_is_never_shown() -> None:
    assert "CANARY" not in repr(Settings(proxy="http://u:CANARY@h"))
    with pytest.raises(InvalidSettings) as caught:
        Settings(proxy="http://u:CANARY@h\0")

    assert "CANARY" not in str(caught.value) + repr(caught.value)


def test_settings_cross_a_process_and_compare() -> None:
    settings = Settings(timeout=1.0, proxy="http://h")

    assert pickle.loads(pickle.dumps(settings)) == settings
    assert settings != Settings(timeout=1.0)
