"""Every command with its options, its examples and its exit codes: what the help says, and what the config file may hold."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Final

from pixir_actors.cli.options import Command, Option
from pixir_actors.cli.reader import choice, number, text, whole
from pixir_actors.system.launch import FORMATS, LEVELS, LONGEST_DRAIN

DONE: Final = 0
FAILED: Final = 1
WRONG_USAGE: Final = 2
NOT_RUNNING: Final = 3
NO_CONNECTION: Final = 4
MISMATCH: Final = 5
INTERRUPTED: Final = 130
CLOSED_PIPE: Final = 141
TERMINATED: Final = 143

DAY: Final = 86400.0

CONFIG = Option(
    name="config",
    help="config file, TOML",
    metavar="FILE",
    momentary=True,
    shown="$PIXIR_ACTORS_CONFIG, else config.toml in ~/.config/pixir_actors",
)
DEBUG = Option(name="debug", help="show where in the program an unexpected error arose", read=None, momentary=True)
PORT = Option(
    name="port",
    help="TCP port of the admin on 127.0.0.1, where it is not the one admin of this user",
    read=whole(1, 65535),
    shown="a free one, found by the runtime file",
    shared=True,
)
NAMESPACE = Option(
    name="namespace", help="keeps the keys of two programs apart", read=text, shown="none", shared=True, metavar="NAME"
)
BASE_URL = Option(
    name="base_url",
    help="as the provider's SDK takes it",
    read=text,
    default="https://api.openai.com/v1",
    variables=("PIXIR_ACTORS_BASE_URL", "OPENAI_BASE_URL"),
)
API_KEY_ENV = Option(
    name="api_key_env",
    help="environment variable that holds the API key; on loopback it may be unset",
    read=text,
    default="OPENAI_API_KEY",
    metavar="NAME",
)
COMMON = (CONFIG, DEBUG)
USUAL: Final = (
    (DONE, "done"),
    (FAILED, "failed; standard error says why"),
    (WRONG_USAGE, "wrong usage, also in the environment or the config file"),
)
REACH: Final = ((NOT_RUNNING, "no admin is running"), (MISMATCH, "the admin has another version or another cookie"))

START_PORT = replace(
    PORT, help="TCP port on 127.0.0.1: makes another admin, beside the one without a port; all commands then take --port"
)

START = Command(
    name="start",
    summary="run the admin, which every program of this user shares",
    description="Run the admin daemon, which holds the warm connections that every program of this user shares.\n"
    "In the foreground it logs to standard error and ends on SIGTERM or Ctrl-C, after the running turns.",
    options=(
        START_PORT,
        Option(name="detach", help="return when it is ready, and leave it running", read=None, momentary=True),
        Option(name="log_level", help="least level that is logged", read=choice(*LEVELS), default="INFO"),
        Option(name="log_format", help="text or json, a line for each record", read=choice(*FORMATS), default="text"),
        Option(
            name="log_file",
            help="file to log to, rotated; its directory must be there",
            read=Path,
            metavar="FILE",
            shown="standard error; with --detach admin.log in ~/.local/state/pixir_actors",
        ),
        Option(
            name="drain_timeout",
            help="seconds that running turns get to end when it is stopped",
            read=number(0, LONGEST_DRAIN),
            default=30.0,
            metavar="SECONDS",
        ),
        *COMMON,
    ),
    examples=("pixir-actors start --detach", "pixir-actors start --log-format json --drain-timeout 120"),
    codes=(*USUAL, (MISMATCH, "the cookie cannot be used")),
)
STOP = Command(
    name="stop",
    summary="end the admin, after its running turns",
    description="End the admin. Running turns may finish within its --drain-timeout; all others get shutting_down.",
    options=(
        PORT,
        Option(
            name="timeout",
            help="seconds to wait for its end",
            read=number(0, DAY),
            default=60.0,
            metavar="SECONDS",
            variables=("PIXIR_ACTORS_STOP_TIMEOUT",),
        ),
        *COMMON,
    ),
    examples=("pixir-actors stop", "pixir-actors stop --timeout 300"),
    codes=(*USUAL[:1], (FAILED, "it still runs; it goes on ending"), USUAL[2], REACH[0]),
)
STATUS = Command(
    name="status",
    summary="show the admin and its connections",
    description="Show the admin and its connections, busy ones first. A narrow terminal gets the more important columns.\n"
    "With KEY, all about one connection: KEY is a text key, a digest as below, or a key that is no text as Python writes\n"
    "it, such as \"('user', 7)\".\n\n"
    "KEY        digest of the key and its namespace; the key itself where its connection was opened with the setting\n"
    "           expose_keys, such as by `stream --option expose_keys=true` (other users see it in `ps` as well)\n"
    "AGE        how long its socket has been open\n"
    "TURNS      answers that came to their end; DELTA: the share of them for which only what is new was sent;\n"
    "           SAVED: what that saved; QUEUE: requests that wait for the running one\n"
    "LAST RESET why the latest request was sent in full; -: it was not\n"
    "WAKES IN   when its process next has something to do, such as a ping or its own end; -: nothing that is known\n"
    "failures   (with KEY) requests that ended without the provider's last event, also those that were sent nowhere:\n"
    "           refused with websocket_degraded while `degraded for` lasts, or with queue_full, or cancelled; last: the\n"
    "           code of the latest but websocket_degraded\n"
    "refusals   messages that nobody who has the cookie signed, and that were not read; 0 is usual",
    options=(
        Option(name="json", help="one JSON document; with --watch one on each line", read=None, momentary=True),
        Option(
            name="watch",
            help="again every so many seconds, until Ctrl-C",
            read=number(0.1, DAY),
            metavar="SECONDS",
            alone="1",
            shown="off; 1 second if none are given",
            momentary=True,
        ),
        NAMESPACE,
        PORT,
        *COMMON,
    ),
    examples=(
        "pixir-actors status",
        "pixir-actors status --watch",
        "pixir-actors status session-1 --json",
        "pixir-actors status 97d0d24dd07f",
    ),
    codes=(*USUAL, REACH[0], (NO_CONNECTION, "KEY has no connection"), REACH[1]),
)
STREAM = Command(
    name="stream",
    summary="send a message on a key's connection, and print the answer as it comes",
    description="Send a message, or a whole conversation, on the warm connection of KEY, and print the answer as it comes.\n"
    "The message is TEXT, or what comes on standard input. There is no flag for the API key: `ps` shows a command\n"
    "line to every user of the host. It is read from the environment variable that --api-key-env names.",
    settings=True,
    options=(
        Option(name="model", help="model name", read=text, shown="that of the conversation's body"),
        BASE_URL,
        API_KEY_ENV,
        Option(name="instructions", help="the request's instructions", read=text, metavar="TEXT", shown="none"),
        Option(
            name="conversation",
            help="JSON, a list of input items or a whole body: goes before the message, and is extended by it and by"
            " the answer once that is complete; a new file is made; - reads standard input",
            metavar="FILE",
            momentary=True,
        ),
        Option(name="json", help="a JSON line for each event, and one for the outcome", read=None, momentary=True),
        Option(name="evidence", help="say on standard error what went over the wire, and why", read=None),
        Option(
            name="option",
            help='a field of Settings for this request, such as idle_timeout=60 or transport=auto; "none" for no'
            " limit; repeatable",
            metavar="NAME=VALUE",
            many=True,
            momentary=True,
        ),
        Option(
            name="field",
            help="a field of the request's body, the value as JSON or else as text, such as temperature=0, but no NaN or"
            " Infinity; repeatable",
            metavar="NAME=VALUE",
            many=True,
            momentary=True,
        ),
        Option(name="start", help="start an admin if none is running", read=None),
        NAMESPACE,
        PORT,
        *COMMON,
    ),
    examples=(
        'pixir-actors stream session-1 "Name a prime number." --model gpt-5.5 --evidence',
        "git diff | pixir-actors stream review --instructions 'Review this.' --model gpt-5.5",
        "pixir-actors stream session-1 'And the next one?' --conversation talk.json --model gpt-5.5",
        "pixir-actors stream session-1 --conversation - --json <body.json",
    ),
    codes=(
        *USUAL,
        *REACH,
        (INTERRUPTED, "Ctrl-C; the request was cancelled"),
        (CLOSED_PIPE, "standard output was closed; the request was cancelled"),
        (TERMINATED, "SIGTERM or SIGHUP; the request was cancelled"),
    ),
)
CLOSE = Command(
    name="close",
    summary="close a key's connection",
    description="Close the connection of KEY now; a running turn ends with `cancelled`. The next request opens another.\n"
    "KEY is a text key, or a digest as in the column KEY of `pixir-actors status`, or a key that is no text as Python\n"
    "writes it, such as \"('user', 7)\"; but for the digest, in the --namespace.",
    options=(NAMESPACE, PORT, *COMMON),
    examples=("pixir-actors close session-1", "pixir-actors close 97d0d24dd07f"),
    codes=(*USUAL, REACH[0], (NO_CONNECTION, "KEY has no connection"), REACH[1]),
)
DOCTOR = Command(
    name="doctor",
    summary="test the whole way to the provider, step by step",
    description="Test the whole way step by step: this host's cookie and admin, then name, TCP, proxy, TLS and the upgrade\n"
    "to WebSocket. Says for each what was found, and for each failure what to do. No request is sent, and nothing\n"
    "secret is printed. That no admin runs is no failure, unless --admin is given.",
    settings=True,
    options=(
        Option(name="url", help="URL of the Responses endpoint", momentary=True, shown="the base URL plus /responses"),
        BASE_URL,
        API_KEY_ENV,
        Option(
            name="timeout",
            help="seconds that each step may take",
            read=number(0.001, 3600),
            default=10.0,
            metavar="SECONDS",
            variables=("PIXIR_ACTORS_DOCTOR_TIMEOUT",),
        ),
        Option(
            name="ca_file",
            help="PEM file of the authorities to trust",
            metavar="FILE",
            momentary=True,
            shown="that of Settings, $SSL_CERT_FILE, else the system's",
        ),
        Option(
            name="proxy",
            help="URL of an HTTP proxy; one with a password belongs into $https_proxy, since `ps` shows a command line",
            metavar="URL",
            momentary=True,
            shown="that of Settings, else of $https_proxy",
        ),
        Option(name="admin", help="take it as a failure if no admin runs", read=None, momentary=True),
        Option(name="json", help="a JSON line for each step", read=None, momentary=True),
        PORT,
        *COMMON,
    ),
    examples=(
        "pixir-actors doctor",
        "pixir-actors doctor --url https://gateway.example/v1/responses --ca-file company.pem",
        "pixir-actors doctor --admin --json",
    ),
    codes=((DONE, "all is well"), (FAILED, "a step failed"), (WRONG_USAGE, "wrong usage")),
)
SIMULATE = Command(
    name="simulate",
    summary="run a scriptable Responses server on loopback (extra: simulator)",
    description="",
)
COMMANDS: Final = (START, STOP, STATUS, STREAM, CLOSE, DOCTOR, SIMULATE)
