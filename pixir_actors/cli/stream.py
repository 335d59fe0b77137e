"""`pixir-actors stream`: one request on a key's connection, its answer printed as it comes."""

from __future__ import annotations

import argparse
import io
import json
import math
import os
import re
import sys
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, Final

import orjson

from pixir_actors.cli import catalog
from pixir_actors.cli.apikey import key_of
from pixir_actors.cli.conversation import STDIN, Conversation, FileChanged, Item, load, looks_like_one, message
from pixir_actors.cli.failure import Terminated, code_of, lines_of
from pixir_actors.cli.options import WrongUsage, resolve
from pixir_actors.cli.output import Lines, Printer, Words, evidence_line
from pixir_actors.cli.parser import add_command
from pixir_actors.cli.terminal import complain, console, is_terminal, say, warn
from pixir_actors.client import Client
from pixir_actors.core.finite import is_finite
from pixir_actors.core.verdict import asked_for
from pixir_actors.errors import ErrorCode, StreamError
from pixir_actors.request import Request
from pixir_actors.stream import Stream

FLAGS_FOR_FIELDS: Final = ("model", "instructions")
"""Fields of the body that have a flag of their own."""
FIELD_NAME: Final = re.compile(r"[a-z_]{1,40}")
"""What may be repeated in a complaint; anything else may be a key."""


def add_parser(subparsers: Any) -> None:
    """Add this command to those of the command line."""
    add_command(
        subparsers,
        catalog.STREAM,
        ("key", "names the conversation: one word, quote it if it has blanks", None),
        ("text", "the message, its words joined by blanks; without it, standard input", "*"),
    )


def run(given: argparse.Namespace) -> int:
    """Send the request and print what comes; return the exit code.

    Raises:
        WrongUsage: There is nothing to say, or no API key, or an input cannot be read. Nothing was sent.
        PixirError: No admin runs, or it cannot be talked to, or the request cannot be sent as it stands.
        BrokenPipeError, KeyboardInterrupt, Terminated: The request was cancelled.
    """
    _refuse_twice(given)
    chosen = resolve(catalog.STREAM, given, os.environ, catalog.COMMANDS)
    api_key = key_of(chosen.base_url, chosen.api_key_env, os.environ)
    conversation = load(chosen.conversation, _read_stdin)
    added = _message(chosen, conversation)
    request = assemble(chosen, conversation, added, api_key)
    printer: Printer = Lines() if chosen.json else Words()
    try:
        with _attach(chosen) as client, client.stream(chosen.key, request) as stream:
            code = _print(stream, printer, lambda error: _told(error, request, api_key))
    except (KeyboardInterrupt, Terminated):
        say("\ncancelled")
        raise
    except StreamError as error:
        # There was no connection to be had.
        printer.outcome(None, error)
        complain(*_told(error, request, api_key))
        return code_of(error)
    if chosen.evidence:
        say(evidence_line(stream.metadata))
    return code or _save(conversation, [*added, *stream.output])


def _attach(chosen: argparse.Namespace) -> Client:
    def attach() -> Client:
        return Client.attach(
            port=chosen.places.port, start=bool(chosen.start), settings=chosen.settings, namespace=chosen.namespace
        )

    if chosen.start and is_terminal(sys.stderr):
        with console(to_stderr=True).status("looking for the admin"):
            return attach()
    return attach()


def _told(error: StreamError, request: Request, api_key: str | None) -> list[str]:
    """Return what to print about a failure; of a URL that the provider does not know, what was asked for."""
    lines = lines_of(error, secret=api_key)
    if error.code is ErrorCode.WEBSOCKET_HANDSHAKE_FAILED and error.details.get("status") == HTTPStatus.NOT_FOUND:
        told = asked_for(request.url)
        if error.details.get("advice") != told:
            lines.append(told)
        lines.append("where a provider has no WebSocket mode: --option transport=http")
    return lines


def _print(stream: Stream, printer: Printer, told: Callable[[StreamError], list[str]]) -> int:
    """Print the events and the outcome; a failure goes to standard error, too."""
    try:
        for event in stream:
            printer.event(event)
        stream.raise_for_failure()
    except StreamError as error:
        printer.outcome(stream, error)
        complain(*told(error))
        return code_of(error)
    printer.outcome(stream, None)
    _remark(stream)
    return catalog.DONE


def _remark(stream: Stream) -> None:
    """Say on standard error what the text alone does not."""
    response = stream.response or {}
    if response.get("status") == "incomplete":
        details = response.get("incomplete_details")
        reason = details.get("reason") if isinstance(details, dict) else None
        warn(f"the answer is incomplete: {reason or 'the provider gives no reason'}")
    calls = [str(item.get("name")) for item in stream.output if item.get("type") == "function_call"]
    if calls:
        warn(f"the model calls {', '.join(calls)}: --json shows it, --conversation keeps it")


def _save(conversation: Conversation, items: list[Item]) -> int:
    try:
        conversation.save(items)
    except FileChanged:
        complain(
            f"{conversation.path}: was changed by somebody else meanwhile; it was left as it is, without this turn",
            "to do: send the message again, which goes on from what the file holds now",
        )
    except OSError as error:
        complain(f"{conversation.path}: the answer came, but the file could not be extended: {error.strerror}")
    else:
        return catalog.DONE
    return catalog.FAILED


# What is sent.


def _message(chosen: argparse.Namespace, conversation: Conversation) -> list[Item]:
    """Return the new message as an item: the words of the command line, else standard input where it is not a terminal."""
    if chosen.text:
        text = " ".join(chosen.text)
    elif chosen.conversation == STDIN or (is_terminal(sys.stdin) and conversation.waits):
        text = ""
    else:
        if is_terminal(sys.stdin):
            say("type the message; Ctrl-D on a new line ends it")
        text = _read_stdin().strip("\n")
    if text.strip():
        if not chosen.text and looks_like_one(text):
            warn("standard input is sent as one message; to send it as a conversation: --conversation -")
        return [message(text)]
    if conversation.items:
        return []
    raise WrongUsage("there is nothing to say: give TEXT, or a message on standard input, or --conversation")


def _read_stdin() -> str:
    stdin = sys.stdin
    if stdin is None or stdin.closed:
        return ""
    if not isinstance(stdin, io.TextIOWrapper):
        return stdin.read()
    # As bytes: in some locales Python lets pass what is no text, and what cannot be sent is only found far from here.
    try:
        text = stdin.buffer.read().decode(stdin.encoding)
    except UnicodeDecodeError as error:
        raise WrongUsage(f"standard input is not {stdin.encoding.upper()} (byte {error.start + 1})") from None
    return io.IncrementalNewlineDecoder(None, translate=True).decode(text)


def assemble(chosen: argparse.Namespace, conversation: Conversation, added: list[Item], api_key: str | None) -> Request:
    """Return the request: what flags say wins over what the conversation's body says.

    Raises:
        WrongUsage: There is no model, or a --field cannot be read.
        InvalidRequest: The URL cannot be used.
    """
    fields = fields_of(chosen.field)
    # A --field of the same name wins: `run` refuses two flags, so the other is out of the environment or the config file.
    own = {name: getattr(chosen, name) for name in FLAGS_FOR_FIELDS if getattr(chosen, name)}
    body = {**conversation.fields, **own, **fields}
    if not body.get("model"):
        raise WrongUsage("no model: name one with --model, $PIXIR_ACTORS_MODEL, or in the config file's [stream]")
    body["input"] = [*conversation.items, *added]
    frame = Request.responses(model="", input="", api_key=api_key, base_url=chosen.base_url)
    return Request(frame.url, frame.headers, body)


def _refuse_twice(given: argparse.Namespace) -> None:
    """Refuse a field of the body that was given in two ways, of which one would not count."""
    fields = {pair.partition("=")[0] for pair in given.field or []}
    for name in FLAGS_FOR_FIELDS:
        if name in fields and getattr(given, name) is not None:
            raise WrongUsage(f"--field {name} and --{name}: allowed is one of them")
    if "input" in fields:
        raise WrongUsage("--field input: the message is TEXT or standard input, a whole conversation --conversation")


def fields_of(given: list[str]) -> dict[str, Any]:
    """Read NAME=VALUE pairs; a value that is no JSON is a text.

    Raises:
        WrongUsage: One has no name or no "=", or its value looks like a number and is none in JSON.
    """
    fields: dict[str, Any] = {}
    for pair in given:
        name, separator, value = pair.partition("=")
        if not name or not separator:
            raise WrongUsage('--field: allowed is NAME=VALUE, such as temperature=0 or reasoning=\'{"effort": "low"}\'')
        try:
            fields[name] = orjson.loads(value)
        except orjson.JSONDecodeError:
            if _lacks_only_numbers(value):
                allowed = "JSON, which has finite numbers only; the same as a text stands in quotes: NAME='\"nan\"'"
                place = f"--field {name}" if FIELD_NAME.fullmatch(name) else "--field"
                raise WrongUsage(f"{place}: allowed is {allowed}") from None
            fields[name] = value
    return fields


def _lacks_only_numbers(text: str) -> bool:
    """Tell whether a text that is no JSON is no more than numbers away from it: NaN, Infinity, 1e999, [NaN]."""
    try:
        return not math.isfinite(float(text))
    except ValueError:
        pass
    try:
        return not is_finite({"": json.loads(text)})  # which takes them
    except (ValueError, RecursionError):
        return False
