"""Bad input gets one clear error before anything is sent, and costs the connection nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from pixir_actors import Client, Request, Settings
from pixir_actors.errors import InvalidRequest, InvalidSettings, PixirError
from pixir_actors.simulator import Simulator
from tests.scenarios.caller import Caller, user

Talk = Callable[..., Caller]
MIB = 1024 * 1024


@pytest.fixture
def warm(talk: Talk, sim: Simulator) -> Caller:
    """A caller in the middle of a conversation."""
    caller = talk(sim)
    caller.say("first")
    return caller


def nothing_is_lost(caller: Caller) -> None:
    """Check that the server noticed nothing, and that the conversation goes on as if nothing had been."""
    assert (len(caller.sim.handshakes), len(caller.sim.requests)) == (1, 1)
    answer = caller.say("second")
    assert answer.reason is None
    assert (len(caller.sim.handshakes), len(caller.sim.requests)) == (1, 2)
    status = caller.client.status(caller.key)[0]
    assert (status.failures, status.degraded_for_s, status.turns) == (0, 0.0, 2)


def refused(caller: Caller, url: str | None = None, headers: Any = (), body: Any = None, **options: Any) -> PixirError:
    """Send what has to be refused, before it leaves this process."""
    with pytest.raises((InvalidRequest, InvalidSettings)) as caught:
        good = {"model": "m", "input": [user("x")]}
        request = Request(url or f"{caller.sim.base_url}/responses", headers, good if body is None else body)
        caller.client.stream(caller.key, request, **options)
    return caught.value


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"[1, 2]", "array"),
        (b'"text"', "string"),
        (b"null", "null"),
        (b"{", "not JSON"),
        (b"", "not JSON"),
        (b'{"model": NaN}', "not JSON"),
        (b'{"model": "\xff"}', "not JSON"),
        (b"[" * 300 + b"]" * 300, "body"),
        ({"input": float("inf"), "model": object()}, "JSON"),
        (42, "int"),
    ],
    ids=["array", "string", "null", "half", "empty", "NaN", "not UTF-8", "too deep", "not serialisable", "a number"],
)
def test_a_body_that_is_no_json_object(warm: Caller, body: Any, said: str) -> None:
    error = refused(warm, body=body)

    assert isinstance(error, InvalidRequest)
    assert (error.code, error.field) == ("invalid_provider_request", "body")
    assert said in str(error)
    nothing_is_lost(warm)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("ftp://example.com/v1/responses", "ftp"),
        ("example.com/v1/responses", "allowed are http, https, ws, wss"),
        ("https:///v1/responses", "no host"),
        ("https://", "no host"),
        ("https://host:port/v1", "cannot be parsed"),
        ("https://user:secret@example.com/v1", "credentials belong into headers"),
        ("https://example.com/a b", "space"),
        ("https://example.com/a\nb", "control character"),
        ("http://example.com/v1/responses", "allow_plaintext"),
        ("ws://10.0.0.1/v1/responses", "allow_plaintext"),
    ],
)
def test_a_url_that_leads_nowhere_or_in_the_open(warm: Caller, url: str, said: str) -> None:
    error = refused(warm, url)

    assert isinstance(error, InvalidRequest)
    assert error.field == "url"
    assert said in str(error)
    assert "secret" not in str(error)
    nothing_is_lost(warm)


@pytest.mark.parametrize(
    ("headers", "said"),
    [
        ({"x-a": "secret\r\nx-b: c"}, "'x-a'"),
        ({"x-a": "secret\0"}, "'x-a'"),
        ({"x a": "secret"}, "'x a'"),
        ({"x-a\n": "secret"}, "x-a"),
        ({"": "secret"}, "name"),
        ({"x-a": "secret\u20ac"}, "'x-a'"),
        ({"x-a": 1}, "texts"),
        ([("x-a",)], "pairs"),
        ({"x-a": "secret" * 20_000}, "65536 bytes"),
    ],
    ids=["line break", "zero", "space in name", "break in name", "no name", "euro", "number", "no pair", "too large"],
)
def test_headers_that_cannot_be_sent(warm: Caller, headers: Any, said: str) -> None:
    error = refused(warm, headers=headers)

    assert isinstance(error, InvalidRequest)
    assert error.field == "headers"
    assert said in str(error)
    assert "secret" not in str(error)
    nothing_is_lost(warm)


def test_a_request_that_is_too_large_is_told_with_both_sizes(warm: Caller) -> None:
    limit = 1000
    error = refused(warm, body={"model": "m", "input": "x" * limit}, max_request_bytes=limit)

    assert isinstance(error, InvalidRequest)
    assert str(limit) in str(error)
    size = int("".join(character for character in str(error).split(" bytes")[0] if character.isdigit()))
    assert limit < size < limit + 200
    nothing_is_lost(warm)


def test_a_request_is_measured_as_a_full_replay_though_its_delta_is_small(warm: Caller) -> None:
    warm.history = [user("x" * 2000)]
    warm.say("x")
    error = refused(warm, body={"model": "m", "input": [*warm.history, user("y")]}, max_request_bytes=1500)

    assert "max_request_bytes" in str(error)
    assert len(warm.sim.requests) == 2


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("connect_timeout", 0),
        ("first_event_timeout", -1),
        ("idle_timeout", float("inf")),
        ("idle_timeout", float("nan")),
        ("timeout", "5"),
        ("timeout", True),
        ("keepalive_interval", 0),
        ("idle_close_after", -0.5),
        ("degraded_for", 0),
        ("degraded_max", None),
        ("max_connection_age", "never"),
        ("queue_limit", -1),
        ("queue_limit", 1.5),
        ("max_connections", 0),
        ("max_request_bytes", 0),
        ("max_message_bytes", 10),
        ("ca_file", ""),
        ("allow_plaintext", 1),
        ("identity", b"me"),
        ("expose_keys", None),
    ],
)
def test_a_setting_out_of_range_is_named_with_its_value_and_what_is_allowed(warm: Caller, name: str, value: Any) -> None:
    error = refused(warm, **{name: value})

    assert isinstance(error, InvalidSettings)
    assert error.field == name
    assert repr(value) in str(error)
    assert error.allowed in str(error)
    with pytest.raises(InvalidSettings):
        Settings(**{name: value})
    nothing_is_lost(warm)


def test_an_option_that_does_not_exist_is_named_without_its_value(warm: Caller) -> None:
    error = refused(warm, api_key="secret")

    assert isinstance(error, InvalidSettings)
    assert error.field == "api_key"
    assert "secret" not in str(error)
    assert "idle_timeout" in str(error)
    nothing_is_lost(warm)


@pytest.mark.parametrize(
    ("key", "said"),
    [
        (["unhashable"], "list"),
        ({"a": 1}, "dict"),
        ((None,), "NoneType"),
        (1.5, "float"),
        (True, "bool"),
        ("x" * 2000, "allowed are 1024"),
        (10**2000, "allowed are 4096"),
    ],
    ids=["list", "dict", "tuple of None", "float", "bool", "long text", "long number"],
)
@pytest.mark.parametrize("method", ["stream", "respond", "reduce", "status", "close"])
def test_a_key_that_cannot_be_one(client: Client, sim: Simulator, key: Any, said: str, method: str) -> None:
    request = Request.responses(model="m", input="x", base_url=sim.base_url)
    arguments = {"stream": (request,), "respond": (request,), "reduce": (request, 0, lambda event, acc: acc)}

    with pytest.raises(InvalidRequest) as caught:
        getattr(client, method)(key, *arguments.get(method, ()))

    assert caught.value.field == "key"
    assert said in str(caught.value)
    assert sim.handshakes == []


@pytest.mark.parametrize("method", ["stream", "respond"])
def test_none_is_no_key(client: Client, sim: Simulator, method: str) -> None:
    with pytest.raises(InvalidRequest, match="NoneType"):
        getattr(client, method)(None, Request.responses(model="m", input="x", base_url=sim.base_url))


def test_plain_text_beyond_loopback_is_allowed_when_asked_for(talk_embedded: Talk, sim: Simulator) -> None:
    # Whatever becomes of it, it is no bad input; nobody answers at this address, reserved for documentation.
    request = Request("http://192.0.2.1/v1/responses", {}, {"model": "m", "input": "x"})
    caller = talk_embedded(sim)
    stream = caller.client.stream(caller.key, request, allow_plaintext=True, connect_timeout=0.05)

    with pytest.raises(PixirError) as caught:
        list(stream)

    assert not isinstance(caught.value, (InvalidRequest, InvalidSettings))


def test_an_error_of_input_leaves_the_accumulator_and_the_function_alone(warm: Caller) -> None:
    def never(event: Any, acc: Any) -> Any:
        raise AssertionError("called")

    request = Request(f"{warm.sim.base_url}/responses", {}, b"[]")
    with pytest.raises(InvalidRequest):
        warm.client.reduce(warm.key, request, [], never)

    nothing_is_lost(warm)
