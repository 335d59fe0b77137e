"""The list of commands: complete, and without two meanings for one name."""

from __future__ import annotations

from dataclasses import fields

from pixir_actors.cli import catalog
from pixir_actors.cli.options import PREFIX
from pixir_actors.settings import Settings


def test_no_variable_means_two_things() -> None:
    meanings: dict[str, set[str]] = {PREFIX + field.name.upper(): {field.name} for field in fields(Settings)}
    for command in catalog.COMMANDS:
        for option in command.options:
            for variable in option.sources:
                meanings.setdefault(variable, set()).add(option.name)
    assert {variable: names for variable, names in meanings.items() if len(names) > 1} == {}


def test_no_command_is_called_like_a_table_or_like_an_option_of_all() -> None:
    shared = {option.name for command in catalog.COMMANDS for option in command.options if option.shared}
    assert not {command.name for command in catalog.COMMANDS} & (shared | {"settings"})


def test_every_command_says_what_it_does_how_it_is_used_and_how_it_ends() -> None:
    for command in catalog.COMMANDS:
        if command is not catalog.SIMULATE:  # it has its own help
            assert command.summary and command.description and command.examples
            assert [code for code, _ in command.codes] == sorted({code for code, _ in command.codes})


def test_no_option_takes_a_key() -> None:
    assert not [o.name for command in catalog.COMMANDS for o in command.options if o.name in ("api_key", "token", "bearer")]
