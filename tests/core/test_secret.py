"""Values that do not print, and a canary in every value of the core that carries what a caller said.

Covers T8 and T13 as far as values go, T33 (an endpoint in what is printed), style.md section 8 item 6.
"""

from __future__ import annotations

import copy
import io
import logging
import pickle
from dataclasses import fields, is_dataclass
from typing import Any, get_args

import pytest

from pixir_actors.core import actions as act
from pixir_actors.core import inputs as put
from pixir_actors.core import state
from pixir_actors.core.continuation import Anchor, plan
from pixir_actors.core.secret import Secret, digest, redact
from pixir_actors.core.server_event import Tag, provider_fault
from pixir_actors.errors import Delivery, ErrorCode, exception_from
from pixir_actors.events import Data
from pixir_actors.request import Request
from pixir_actors.settings import Settings
from tests.core.machine import Machine, assistant, completed, created, delta, error, item_done, user

CANARY = "CANARY"
PROMPT, TOKEN = f"{CANARY} prompt", f"{CANARY}-token"
URL = f"wss://h/v1/responses?key={TOKEN}"
LIMITS = Settings(proxy=f"http://user:{TOKEN}@proxy:1", keepalive_interval=None)


def running() -> Machine:
    """Return a connection with a canary wherever one fits: anchor, turn in the middle, a request waiting."""
    machine = Machine(LIMITS)
    said = assistant(PROMPT)
    machine.turn([user(PROMPT)], "resp_1", [said], endpoint=URL, key=f"'{CANARY}'", bearer=TOKEN)
    machine.start([user(PROMPT), said, user(PROMPT)], endpoint=URL, key=f"'{CANARY}'")
    machine.submit([user(PROMPT)], endpoint=URL, key=f"'{CANARY}'", fingerprint=TOKEN, bearer=TOKEN)
    machine.receive(created("resp_2"), item_done(said))
    machine.receive(delta(PROMPT))
    return machine


def values() -> dict[str, Any]:
    machine = running()
    connection = machine.conn
    assert connection.turn is not None
    request = connection.turn.request
    fault = provider_fault(error("invalid_prompt", 400, message=PROMPT))
    assert fault is not None
    failure = fault.failure(Delivery.REJECTED)
    events = ((Tag.OTHER, PROMPT.encode()),)
    listed = [
        Secret(TOKEN),
        Request(URL, {"Authorization": TOKEN, "X-Key": TOKEN}, {"input": PROMPT}),
        Data(PROMPT.encode()),
        LIMITS,
        failure,
        exception_from(failure, acc=PROMPT),
        Anchor("resp_1", [user(PROMPT)], [assistant(PROMPT)], "gpt"),
        plan(connection.continuation, request.payload, request.body),
        delta(PROMPT),
        connection,
        connection.turn,
        connection.socket,
        connection.queue,
        request,
        state.Turn(request, 0.0, held=events, evidence={"a": PROMPT}, text=PROMPT, items=((0, PROMPT),)),
        put.Submitted(request),
        put.Received((delta(PROMPT), completed("resp_1", assistant(PROMPT)))),
        act.Send(PROMPT.encode()),
        act.Deliver("r1", events),
        act.Show("r1", {"websocket_key": PROMPT}),
        act.Finish("r1", failure),
        act.Fail("r1", failure),
        machine.actions,
    ]
    return {f"{number} {type(value).__name__}": value for number, value in enumerate(listed)}


VALUES = values()


def logged(value: object) -> str:
    """Return what a log shows of a value, in every way of logging it, with the exception's traceback."""
    stream = io.StringIO()
    logger = logging.Logger("canary")
    logger.addHandler(logging.StreamHandler(stream))
    logger.warning("%s", (value,))
    logger.warning("%r", (value,))
    logger.warning("%(value)s", {"value": value})
    try:
        raise RuntimeError(value) from (value if isinstance(value, Exception) else None)
    except RuntimeError:
        logger.exception("failed")
    return stream.getvalue()


@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES)
def test_no_value_prints_what_a_caller_said_or_who_it_is(value: Any) -> None:
    shown = [repr(value), str(value), f"{value}", f"{value!r}", f"{value!s}", logged(value)]
    if not is_dataclass(value) and not isinstance(value, (Exception, list, tuple)):
        shown.append(f"{value:>30}")

    for text in shown:
        assert CANARY not in text


@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES)
def test_a_value_that_crossed_a_process_still_does_not_print(value: Any) -> None:
    there = pickle.loads(pickle.dumps(value))

    assert CANARY not in repr(there) + str(there)
    if not isinstance(value, (Exception, state.Turn, state.Connection)) and type(value) is not list:
        assert there == value


def test_the_canary_is_in_all_of_them() -> None:
    """Or the tests above would show nothing."""
    for name, value in VALUES.items():
        assert CANARY.encode() in pickle.dumps(value), name


def test_every_value_that_can_carry_something_is_among_them() -> None:
    """A new class with a field of bytes, payloads or evidence has to join."""
    covered = {type(value) for value in VALUES.values()}
    plain = {"request_id", "token", "code", "reason", "details", "retry_after", "unsent", "granted", "ahead", "attempt"}
    plain |= {"delay", "accepted", "linger", "patience", "via", "within"}
    for kind in (*get_args(act.Action), *get_args(put.Input)):
        assert kind in covered or {field.name for field in fields(kind)} <= plain, kind


# Secret


def test_a_secret_gives_its_value_away_on_request_only() -> None:
    secret = Secret({"Authorization": TOKEN})

    assert secret.reveal() == {"Authorization": TOKEN}
    assert (repr(secret), str(secret), f"{secret:^7}") == ("Secret(***)", "***", "  ***  ")
    assert not hasattr(secret, "__dict__")


def test_secrets_are_equal_when_what_they_hide_is() -> None:
    assert Secret("a") == Secret("a")
    assert hash(Secret("a")) == hash(Secret("a"))
    assert Secret("a") != Secret("b")
    assert Secret("a") != "a"
    assert copy.deepcopy(Secret(["a"])) == Secret(["a"])


def test_an_exception_does_not_repeat_a_secret_it_was_given() -> None:
    with pytest.raises(ValueError, match=r"^\*\*\*$") as caught:
        raise ValueError(Secret(TOKEN))

    assert TOKEN not in repr(caught.value)


DIGESTS = {"a text": "session-1", "a number": 1, "the number as a text": "1", "bytes": b"1", "a tuple": ("1", 1)}


def test_a_digest_is_short_stable_and_tells_keys_apart() -> None:
    digests = [digest(key) for key in DIGESTS.values()]

    assert digest("session-1") == "0dfee6020526"
    assert len(set(digests)) == len(digests)
    assert {len(text) for text in digests} == {12}
    assert digest("\ud800")


def test_a_failure_keeps_what_a_program_needs() -> None:
    failure = VALUES["4 Failure"]

    assert failure.code is ErrorCode.PROVIDER_HTTP_ERROR
    assert failure.error["message"] == PROMPT


@pytest.mark.parametrize(
    "text",
    [
        f"Authorization: Bearer {TOKEN}",
        f"authorization={TOKEN} {TOKEN}",
        f"headers={{'Proxy-Authorization': 'Basic {TOKEN}'}}",
        f"set-cookie: a={TOKEN}; Path=/; b={TOKEN}",
        f"used Bearer {TOKEN}, got 401",
        f'{{"api_key": "{TOKEN}"}}',
        f"x-api-key={TOKEN}",
        f"access_token: {TOKEN}",
        f"wss://h/v1?token={TOKEN}&model=m",
        f"proxy http://user:{TOKEN}@proxy:1",
        f"password={TOKEN}",
        f"key sk-proj-{CANARY}_abc-123",
        f"key xai-{CANARY}12345 refused",
        f"eyJhbGciOi.{CANARY}.sig",
    ],
)
def test_what_looks_like_a_secret_is_redacted(text: str) -> None:
    assert CANARY in text
    assert CANARY not in redact(text)


@pytest.mark.parametrize(
    "text",
    [
        "turn failed code=websocket_closed delivery=ambiguous model=gpt-5 ms=12",
        "input_tokens=12 tokens: 5 ms=7",
        "socket closed host=api.openai.com:443 reason=idle",
        "https://api.openai.com/v1/responses",
        "basic settings, task-risk analysis",
    ],
)
def test_what_is_no_secret_is_left_as_it_is(text: str) -> None:
    assert redact(text) == text
