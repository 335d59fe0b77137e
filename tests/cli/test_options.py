"""Where the options of a command come from, and what is said of one that cannot be used."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from pixir_actors.cli import catalog
from pixir_actors.cli.options import (
    Command,
    Option,
    WrongUsage,
    declare,
    read_config,
    resolve,
    setting,
)
from pixir_actors.cli.reader import choice, whole
from pixir_actors.settings import ALLOWED, Settings

Write = Callable[[str], Path]

SIZE = Option(name="size", help="how large", read=whole(1, 9), default=5)
COLOUR = Option(name="colour", help="which", read=choice("Red", "Blue"), shared=True)
LOUD = Option(name="loud", help="whether", read=None)
ONCE = Option(name="once", help="now", read=None, momentary=True)
PAINT = Command(name="paint", summary="", description="", options=(SIZE, COLOUR, LOUD, ONCE, catalog.CONFIG), settings=True)
OTHER = Command(name="other", summary="", description="", options=(COLOUR,))
COMMANDS = (PAINT, OTHER)


def resolved(*words: str, **environ: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    declare(parser, PAINT.options)
    given = parser.parse_args(words)
    given.option = []
    return resolve(PAINT, given, dict(os.environ) | environ, COMMANDS)


def test_without_anything_the_default_counts() -> None:
    chosen = resolved()
    assert (chosen.size, chosen.colour, chosen.loud, chosen.once) == (5, None, None, None)
    assert chosen.settings == Settings()


def test_the_file_counts_before_the_default_the_environment_before_the_file_and_a_flag_before_all(config: Write) -> None:
    config("[paint]\nsize = 6\nloud = true")
    assert (resolved().size, resolved().loud) == (6, True)
    environ = {"PIXIR_ACTORS_SIZE": "7", "PIXIR_ACTORS_LOUD": "no"}
    assert (resolved(**environ).size, resolved(**environ).loud) == (7, False)
    chosen = resolved("--size", "8", "--loud", **environ)
    assert (chosen.size, chosen.loud) == (8, True)
    assert resolved("--no-loud").loud is False


def test_an_empty_variable_is_none() -> None:
    assert resolved(PIXIR_ACTORS_SIZE="").size == 5


def test_what_stands_before_the_first_table_holds_for_all_commands_and_a_command_s_own_table_wins(config: Write) -> None:
    config('colour = "red"\n[other]\ncolour = "blue"')
    assert resolved().colour == "Red"
    config('colour = "red"\n[paint]\ncolour = "blue"')
    assert resolved().colour == "Blue"


def test_the_file_may_lie_elsewhere(tmp_path: Path) -> None:
    path = tmp_path / "my.toml"
    path.write_text("[paint]\nsize = 3")
    assert resolved("--config", str(path)).size == 3
    assert resolved(PIXIR_ACTORS_CONFIG=str(path)).size == 3


def test_a_file_that_was_named_must_be_there(tmp_path: Path) -> None:
    missing = str(tmp_path / "no.toml")
    for chosen in (lambda: resolved("--config", missing), lambda: resolved(PIXIR_ACTORS_CONFIG=missing)):
        with pytest.raises(WrongUsage, match=r"no\.toml: there is no such config file"):
            chosen()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[paint]\nsice = 1", r"\[paint\] sice is not known: allowed are colour, loud, size"),
        ("[pant]\nsize = 1", r"\[pant\] is not known: allowed are \[other\], \[paint\], \[settings\]"),
        ("size = 1", r"size is not known before the first table: allowed are colour"),
        ("[paint]\nonce = true", r"\[paint\] once is not known"),
        ("[settings]\nidle_timeuot = 1", r"\[settings\] idle_timeuot is not known: allowed are .*idle_timeout"),
        ("[settings]\nidle_timeout = -1", r"\[settings\] idle_timeout: allowed is a number of seconds"),
        ("[paint]\nsize = 12", r"\[paint\] size: allowed is a whole number from 1 to 9"),
        ("[paint]\nsize = [1]", r"\[paint\] size: allowed is a text or a number"),
        ("[paint]\nloud = 3", r"\[paint\] loud: allowed is true or false"),
        ("colour = 'green'", r"colour: allowed is Red or Blue"),
        ("size = 1\nsize = 2\n\n", "this is no TOML: .*line 2"),
    ],
)
def test_what_cannot_be_used_is_named_with_its_place_and_with_what_is_allowed(config: Write, text: str, said: str) -> None:
    path = config(text)
    with pytest.raises(WrongUsage, match=said) as caught:
        resolved()
    assert str(caught.value).startswith(f"{path}: ")


def test_a_table_of_another_command_is_checked_as_well(config: Write) -> None:
    config("[other]\nsize = 1")
    with pytest.raises(WrongUsage, match=r"\[other\] size is not known: allowed are colour"):
        resolved()


def test_a_file_that_is_no_text_or_no_file_is_told(config: Write) -> None:
    path = config("")
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(WrongUsage, match=r"this is no TOML$"):
        read_config(path, COMMANDS)
    with pytest.raises(WrongUsage, match="cannot be read: Is a directory"):
        read_config(path.parent, COMMANDS)


@pytest.mark.parametrize(
    ("words", "environ", "said"),
    [
        (["--size", "canary"], {}, "--size: allowed is a whole number from 1 to 9"),
        ([], {"PIXIR_ACTORS_SIZE": "canary"}, r"\$PIXIR_ACTORS_SIZE: allowed is a whole number"),
        ([], {"PIXIR_ACTORS_LOUD": "canary"}, r"\$PIXIR_ACTORS_LOUD: allowed is 1, true"),
        ([], {"PIXIR_ACTORS_IDLE_TIMEOUT": "canary"}, r"\$PIXIR_ACTORS_IDLE_TIMEOUT: allowed is a number.* or none for no"),
        ([], {"PIXIR_ACTORS_EXPOSE_KEYS": "canary"}, r"\$PIXIR_ACTORS_EXPOSE_KEYS: allowed is true or false"),
    ],
)
def test_a_value_that_cannot_be_used_is_not_repeated(words: list[str], environ: dict[str, str], said: str) -> None:
    with pytest.raises(WrongUsage, match=said) as caught:
        resolved(*words, **environ)
    assert "canary" not in str(caught.value)
    assert caught.value.__context__ is None


def test_a_variable_that_nothing_reads_is_told_without_its_value(capsys: pytest.CaptureFixture[str]) -> None:
    resolved(PIXIR_ACTORS_IDLE_TIMOT="canary")
    said = "pixir-actors: not known, and without effect: $PIXIR_ACTORS_IDLE_TIMOT; did you mean PIXIR_ACTORS_IDLE_TIMEOUT?\n"
    assert capsys.readouterr().err == said
    resolved(PIXIR_ACTORS_SERVICE_HOST="canary", PIXIR_ACTORS_A="canary")
    assert capsys.readouterr().err.endswith(": $PIXIR_ACTORS_A, $PIXIR_ACTORS_SERVICE_HOST\n")


def test_a_variable_that_something_reads_is_not_told(capsys: pytest.CaptureFixture[str]) -> None:
    names = [source for command in catalog.COMMANDS for option in command.options for source in option.sources]
    names += [f"PIXIR_ACTORS_{name.upper()}" for name in ALLOWED]
    names += [f"PIXIR_ACTORS_{name}" for name in ("RUNTIME_DIR", "COOKIE_FILE", "CONFIG", "COOKIE", "MY_KEY")]
    given = argparse.Namespace(api_key_env="PIXIR_ACTORS_MY_KEY")
    environ = dict.fromkeys(names, "") | {"HOME": "/nowhere"}
    resolve(catalog.DOCTOR, given, environ, catalog.COMMANDS)
    assert capsys.readouterr().err == ""


def test_settings_come_from_flags_then_the_environment_then_the_file(config: Write) -> None:
    config("[settings]\nidle_timeout = 10\nqueue_limit = 3\nproxy = 'none'\nca_file = 'x.pem'")
    environ = {"PIXIR_ACTORS_IDLE_TIMEOUT": "20", "PIXIR_ACTORS_CA_FILE": "y.pem"}
    assert resolved(**environ).settings == Settings(idle_timeout=20.0, queue_limit=3, ca_file="y.pem")


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("idle_timeout", "60", 60),
        ("idle_timeout", "1.5", 1.5),
        ("idle_timeout", "none", None),
        ("idle_timeout", "None", None),
        ("idle_timeout", "off", None),
        ("max_connection_age", "auto", "auto"),
        ("max_connection_age", "OFF", None),
        ("queue_limit", "4", 4),
        ("retry_ambiguous", "true", True),
        ("retry_ambiguous", "off", False),
        ("retry_ambiguous", "yes", True),
        ("retry_ambiguous", "No", False),
        ("retry_ambiguous", "1", True),
        ("retry_ambiguous", "0", False),
        ("queue_limit", "0", 0),
        ("idle_timeout", "1", 1),
        ("identity", "12", "12"),
        ("identity", "true", "true"),
        ("transport", "auto", "auto"),
    ],
)
def test_the_text_of_a_setting_is_read_as_the_setting_wants_it(name: str, text: str, value: object) -> None:
    assert setting(name, text) == value
    assert type(setting(name, text)) is type(value)
    assert ALLOWED[name].check(setting(name, text))


@pytest.mark.parametrize(("text", "value"), [("1", True), ("yes", True), ("TRUE", True), ("0", False), ("no", False)])
def test_a_setting_that_is_a_switch_is_read_in_the_environment_as_a_flag_s_is(text: str, value: bool) -> None:
    assert resolved(PIXIR_ACTORS_EXPOSE_KEYS=text).settings.expose_keys is value


def test_the_port_leads_to_the_places_of_the_admin_that_was_started_with_it() -> None:
    given = argparse.Namespace(port="1234")
    chosen = resolve(catalog.STOP, given, {"HOME": "/nowhere"}, catalog.COMMANDS)
    assert chosen.places.runtime_file.name == "admin-1234.json"
