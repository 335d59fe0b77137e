"""Where a command's options come from: flags, then the environment, then the config file, then defaults.

The config file is TOML. What stands before its first table holds for every command; a table with a command's name holds
for that one; `[settings]` holds the fields of `Settings`:

    port = 1900
    [stream]
    model = "gpt-5.5"
    [settings]
    idle_timeout = 60

A value that cannot be used is an error which names where it stands and what is allowed, never the value itself: it may be
a key that got into the wrong place.
"""

from __future__ import annotations

import argparse
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final

from pixir_actors.cli.reader import switch
from pixir_actors.cli.terminal import warn
from pixir_actors.errors import InvalidSettings
from pixir_actors.settings import ALLOWED, Settings
from pixir_actors.spelling import hint, nearest, unknown
from pixir_actors.system.places import CONFIG_VARIABLE, COOKIE_VARIABLE, RUNTIME_VARIABLE, Places

PREFIX: Final = "PIXIR_ACTORS_"
OTHER_VARIABLES: Final = frozenset({RUNTIME_VARIABLE, COOKIE_VARIABLE, CONFIG_VARIABLE, PREFIX + "COOKIE"})
"""Variables that no option is read from; the last one is that of the container in examples/service."""
SETTINGS_TABLE: Final = "settings"
MAX_CONFIG_BYTES: Final = 1024 * 1024


class WrongUsage(Exception):
    """What was asked for cannot be understood; the text says where, and what is allowed. Nothing was done."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """One option of a command.

    Attributes:
        name: With underscores: the flag is `--drain-timeout`, the variable PIXIR_ACTORS_DRAIN_TIMEOUT, the name in the
            file `drain_timeout`.
        help: What it means; the help adds the default and the variable.
        read: Turns a text into the value; raises ValueError with what is allowed. None: a switch.
        default: The value if nothing gives one.
        shown: The default in words, where the value does not say it.
        metavar: What the help calls the value.
        variables: Environment variables, the first that is set wins; empty: PIXIR_ACTORS_<NAME>.
        momentary: Belongs to one call: neither the environment nor the file can give it.
        shared: May stand before the first table of the file.
        many: May be given several times; the value is the list of texts. Momentary.
        alone: The value if the flag is given without one; None: it takes one always.
    """

    name: str
    help: str
    read: Callable[[str], Any] | None = str
    default: Any = None
    shown: str | None = None
    metavar: str | None = None
    variables: tuple[str, ...] = ()
    momentary: bool = False
    shared: bool = False
    many: bool = False
    alone: str | None = None

    @property
    def flag(self) -> str:
        """The flag, as it is typed."""
        return "--" + self.name.replace("_", "-")

    @property
    def sources(self) -> tuple[str, ...]:
        """The environment variables that may give it."""
        if self.momentary:
            return ()
        return self.variables or (PREFIX + self.name.upper(),)


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """One command: what its help says and what it takes.

    Attributes:
        name: As it is typed.
        summary: A line for the list of commands.
        description: What it does, for its help.
        options: All but the positional arguments.
        examples: Lines to type.
        codes: Exit codes and what they mean here.
        settings: Whether it takes `Settings` from the environment and the file.
    """

    name: str
    summary: str
    description: str
    options: tuple[Option, ...] = ()
    examples: tuple[str, ...] = ()
    codes: tuple[tuple[int, str], ...] = ()
    settings: bool = False


# Flags.


def declare(parser: argparse.ArgumentParser, options: Iterable[Option]) -> None:
    """Add the flags. Values stay texts, None where not given: `resolve` reads them."""
    for option in options:
        help_text = _help(option)
        if option.read is None:
            action: Any = "store_true" if option.momentary else argparse.BooleanOptionalAction
            parser.add_argument(option.flag, action=action, default=None, help=help_text)
            continue
        more: dict[str, Any] = {"action": "append"} if option.many else {}
        if option.alone is not None:
            more = {"nargs": "?", "const": option.alone}
        metavar = option.metavar or option.name.rpartition("_")[2].upper()
        parser.add_argument(option.flag, metavar=metavar, default=None, help=help_text, **more)


def _help(option: Option) -> str:
    shown = option.shown or ("" if option.default in (None, False) else f"{option.default}")
    facts = [f"default: {shown}"] if shown else []
    facts += [", ".join(f"${name}" for name in option.sources)] if option.sources else []
    text = option.help + (f" ({'; '.join(facts)})" if facts else "")
    return text.replace("%", "%%")


# Values.


def resolve(
    command: Command, given: argparse.Namespace, environ: Mapping[str, str], commands: Iterable[Command]
) -> argparse.Namespace:
    """Return what was given with every option filled in, and two names more: `places` and `settings`.

    Args:
        command: Which one runs.
        given: The parsed flags.
        environ: The environment.
        commands: All there are: the config file is checked as a whole.

    A variable with our prefix that nothing reads is told on standard error, and no more than that: unlike the config file,
    the environment is not ours alone.

    Raises:
        WrongUsage: A value cannot be used, or the config file cannot be read or holds an unknown name.
        InvalidSettings: A value of `Settings` is out of range.
    """
    commands = list(commands)
    named = getattr(given, "config", None)
    path = Path(named).absolute() if named else Places.of(environ).config_file
    tables = read_config(path, commands, must_exist=bool(named or environ.get(CONFIG_VARIABLE)))
    chosen = argparse.Namespace(**vars(given))
    for option in command.options:
        setattr(chosen, option.name, _value(option, given, environ, _File(path, tables, command.name)))
    _warn_of_unknown_variables(environ, commands, getattr(chosen, "api_key_env", None))
    chosen.places = Places.of(environ, port=getattr(chosen, "port", None))
    flags = getattr(given, "option", None) or []
    chosen.settings = _settings(flags, environ, tables, path) if command.settings else Settings()
    return chosen


@dataclass(frozen=True, slots=True)
class _File:
    """The config file, as one command sees it."""

    path: Path
    tables: Mapping[str, Any]
    command: str

    def find(self, option: Option) -> tuple[str, Any] | None:
        """Return where the value of an option stands and what it is, or None."""
        own = self.tables.get(self.command, {})
        if option.name in own:
            return f"{self.path}: [{self.command}] {option.name}", own[option.name]
        if option.shared and option.name in self.tables:
            return f"{self.path}: {option.name}", self.tables[option.name]
        return None


def _value(option: Option, given: argparse.Namespace, environ: Mapping[str, str], file: _File) -> Any:
    flag = getattr(given, option.name, None)
    if option.many:
        return flag or []
    if flag is not None:
        return flag if option.read is None else _read(option.read, flag, option.flag)
    for name in option.sources:
        if environ.get(name):
            return _read(option.read or switch, environ[name], f"${name}")
    found = None if option.momentary else file.find(option)
    return option.default if found is None else _from_file(option, *found)


def _from_file(option: Option, place: str, value: Any) -> Any:
    if option.read is None:
        if not isinstance(value, bool):
            raise WrongUsage(f"{place}: allowed is true or false")
        return value
    if isinstance(value, (bool, list, dict)):
        raise WrongUsage(f"{place}: allowed is a text or a number")
    return _read(option.read, str(value), place)


def _read(read: Callable[[str], Any], text: str, place: str) -> Any:
    try:
        return read(text)
    except ValueError as error:
        allowed = str(error)
    raise WrongUsage(f"{place}: allowed is {allowed}")


# The environment.


def _warn_of_unknown_variables(environ: Mapping[str, str], commands: Iterable[Command], key_variable: str | None) -> None:
    known = {source for command in commands for option in command.options for source in option.sources}
    known |= {PREFIX + name.upper() for name in ALLOWED} | OTHER_VARIABLES | {key_variable or ""}
    strange = sorted(name for name in environ if name.startswith(PREFIX) and name not in known)
    if strange:
        meant = hint(strange[0], (name for name in known if name.startswith(PREFIX))) if len(strange) == 1 else ""
        warn(f"not known, and without effect: {', '.join(f'${name}' for name in strange)}{meant}")


# The config file.


def read_config(path: Path, commands: Iterable[Command], *, must_exist: bool = False) -> dict[str, Any]:
    """Return the tables of the config file, checked; empty if there is none.

    Raises:
        WrongUsage: It cannot be read, is no TOML, or holds a table or a key that is not known.
    """
    try:
        with path.open("rb") as file:
            text = file.read(MAX_CONFIG_BYTES)
    except FileNotFoundError:
        if must_exist:
            raise WrongUsage(f"{path}: there is no such config file") from None
        return {}
    except OSError as error:
        raise WrongUsage(f"{path}: the config file cannot be read: {error.strerror}") from None
    try:
        tables = tomllib.loads(text.decode())
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        where = f": {error}" if isinstance(error, tomllib.TOMLDecodeError) else ""
        raise WrongUsage(f"{path}: this is no TOML{where}") from None
    _check_names(path, tables, list(commands))
    return tables


def _check_names(path: Path, tables: Mapping[str, Any], commands: list[Command]) -> None:
    known = {command.name: {o.name for o in command.options if not o.momentary} for command in commands}
    known[SETTINGS_TABLE] = set(ALLOWED)
    shared = {option.name for command in commands for option in command.options if option.shared}
    for name, value in tables.items():
        if isinstance(value, dict):
            _check_table(path, name, value, known)
        elif name not in shared:
            allowed = _listed(shared) + hint(name, shared)
            raise WrongUsage(f"{path}: {name} is not known before the first table: allowed are {allowed}")


def _check_table(path: Path, name: str, table: Mapping[str, Any], known: Mapping[str, set[str]]) -> None:
    if name not in known:
        allowed = _listed(f"[{each}]" for each in known) + hint(name, known)
        raise WrongUsage(f"{path}: [{name}] is not known: allowed are {allowed}")
    for key in table:
        if key not in known[name]:
            allowed = _listed(known[name]) + hint(key, known[name])
            raise WrongUsage(f"{path}: [{name}] {key} is not known: allowed are {allowed}")


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "none"


# Settings.


def _settings(flags: Iterable[str], environ: Mapping[str, str], tables: Mapping[str, Any], path: Path) -> Settings:
    table = tables.get(SETTINGS_TABLE, {})
    settings = Settings()
    for name, value in table.items():
        known = setting(name, value) if isinstance(value, str) else value
        settings = _override(settings, name, known, f"{path}: [{SETTINGS_TABLE}] {name}")
    for field in fields(Settings):
        value = environ.get(PREFIX + field.name.upper())
        if value:
            settings = _override(settings, field.name, setting(field.name, value), f"${PREFIX}{field.name.upper()}")
    for flag in flags:
        name, separator, value = flag.partition("=")
        if not separator:
            raise WrongUsage("--option: allowed is NAME=VALUE, such as idle_timeout=60")
        name = name.strip().replace("-", "_")
        if name not in ALLOWED and nearest(name, ALLOWED):
            raise WrongUsage(f"--option: {unknown(name, ALLOWED)}")
        # A name that is like none may be anything, and is not repeated.
        settings = _override(settings, name, setting(name, value), f"--option {name}" if name in ALLOWED else "--option")
    return settings


def _override(settings: Settings, name: str, value: Any, place: str) -> Settings:
    try:
        return settings.override({name: value})
    except InvalidSettings as error:
        allowed = _as_typed(error.allowed)
    raise WrongUsage(f"{place}: allowed is {allowed}")


def _as_typed(allowed: str) -> str:
    """Say what is allowed in the words that are typed: those of a program, such as None, are others."""
    return re.sub(r"\b(None|True|False)\b", lambda word: word[0].lower(), allowed)


def setting(name: str, text: str) -> Any:
    """Read the text of a setting: "none" (or "off") for no limit, true and false, numbers, else the text itself.

    Of these readings the first that the setting accepts counts, so that an identity called "12" stays a text.
    """
    rule = ALLOWED.get(name)
    readings = [*_literals(text), text]
    return next((value for value in readings if rule is not None and rule.check(value)), readings[0])


def _literals(text: str) -> list[Any]:
    word = text.strip().lower()
    if word in ("none", "off"):
        return [None, False]
    if word in ("true", "yes", "on", "false", "no"):
        return [word in ("true", "yes", "on")]
    found: list[Any] = []
    for kind in (int, float):
        try:
            found.append(kind(word))
        except ValueError:
            continue
    return [*found, word == "1"] if word in ("1", "0") else found
