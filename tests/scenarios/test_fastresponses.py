"""Against a server written by others: what the simulator may have got wrong in the same way as we did."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from pixir_actors import Client, ProviderError, Request, Stream
from tests.conftest import until, within
from tests.scenarios.caller import Item, user
from tests.scenarios.witness import account, text_of

ROOT = Path(__file__).parents[2]
KEY = "k"


@pytest.fixture(scope="module")
def servers() -> Iterator[list[str]]:
    """Base URLs: of the server that wants a key, and of the one whose connections live for a second."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.scenarios.fast_server"],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    with process:
        assert process.stdout is not None and process.stdin is not None
        try:
            yield [f"http://127.0.0.1:{port}/v1" for port in json.loads(process.stdout.readline())]
        finally:
            process.stdin.close()
            try:
                process.wait(within(10))
            finally:
                process.kill()


@dataclass
class Caller:
    """A caller that knows what the server's agent has to see: the texts of its history."""

    client: Client
    base_url: str
    key: str
    api_key: str = KEY
    history: list[Item] = field(default_factory=list)

    def stream(self, text: str) -> Stream:
        self.history = [*self.history, user(text)]
        request = Request.responses(model="m", input=self.history, api_key=self.api_key, base_url=self.base_url)
        return self.client.stream(self.key, request, degraded_for=None)

    def say(self, text: str) -> Stream:
        """Send a turn, and check that the agent saw the whole conversation."""
        with self.stream(text) as stream:
            for _ in stream:
                pass
        stream.raise_for_failure()
        assert stream.text.strip() == account([text_of(item) for item in self.history])
        self.history += stream.output
        return stream


def reason(stream: Stream) -> Any:
    return stream.metadata["continuation_reset_reason"]


@pytest.fixture
def caller(client: Client, servers: list[str], request: pytest.FixtureRequest) -> Iterator[Caller]:
    caller = Caller(client, servers[0], request.node.name)
    yield caller
    client.close(caller.key)


@pytest.fixture
def short_lived(embedded: Client, servers: list[str], request: pytest.FixtureRequest) -> Iterator[Caller]:
    caller = Caller(embedded, servers[1], request.node.name)
    yield caller
    embedded.close(caller.key)


def test_a_chain_of_deltas_is_one_conversation_to_the_agent(caller: Caller) -> None:
    streams = [caller.say(f"turn {number}") for number in range(6)]

    assert [reason(stream) for stream in streams] == ["no_previous_response"] + [None] * 5
    assert streams[-1].metadata["wire_bytes"] < streams[-1].metadata["full_bytes"]


def test_an_incomplete_response_is_continued(caller: Caller) -> None:
    first = caller.say("stop early")

    assert first.response is not None and first.response["status"] == "incomplete"
    assert reason(caller.say("go on")) is None


@pytest.mark.parametrize("how", ["fail at once", "fail midway"])
def test_a_provider_error_evicts_and_the_next_turn_replays(caller: Caller, how: str) -> None:
    caller.say("first")
    with pytest.raises(ProviderError) as caught:
        caller.say(how)

    assert (caught.value.error["code"], caught.value.status) == ("server_error", 500)
    assert reason(caller.say("after it")) == "response_failed"
    assert reason(caller.say("and on")) is None


def test_an_unknown_id_is_replayed(caller: Caller) -> None:
    caller.say("first")
    # Behind our back: as if the provider had lost it. The connection's cache holds 32 responses.
    request = Request.responses(
        model="m", input="x", api_key=KEY, base_url=caller.base_url, previous_response_id="resp_unknown"
    )
    with caller.client.stream(caller.key, request) as stream, pytest.raises(ProviderError) as caught:
        for _ in stream:
            pass
        stream.raise_for_failure()

    assert (caught.value.error["code"], caught.value.status) == ("previous_response_not_found", 400)
    assert caught.value.delivery == "rejected"
    assert reason(caller.say("second")) == "caller_continuation"


def test_a_bad_key_is_an_error_of_the_provider(caller: Caller) -> None:
    caller.api_key = "wrong"
    with pytest.raises(ProviderError) as caught:
        caller.say("first")

    assert (caught.value.error["code"], caught.value.status) == ("invalid_api_key", 401)
    assert caught.value.delivery == "rejected"
    assert not caught.value.retryable
    caller.api_key, caller.history = KEY, []
    assert reason(caller.say("first")) == "response_failed"


def test_a_connection_that_outlived_its_limit_while_idle_is_replaced(short_lived: Caller, embedded: Client) -> None:
    short_lived.say("first")
    assert until(lambda: embedded.status(short_lived.key)[0].host is None)

    assert reason(short_lived.say("second")) == "connection_limit"
    assert reason(short_lived.say("third")) is None
    assert embedded.status(short_lived.key)[0].failures == 0


def test_turns_go_on_over_many_lifetimes(short_lived: Caller, embedded: Client) -> None:
    deadline = time.monotonic() + 2.5
    count = 0
    while time.monotonic() < deadline:
        short_lived.say(f"turn {count}")
        count += 1
        time.sleep(0.02)

    status = embedded.status(short_lived.key)[0]
    assert status.sockets >= 3
    assert status.failures == 0


def test_no_extension_is_offered(caller: Caller, servers: list[str], opened: Callable[[str], Any]) -> None:
    caller.say("first")

    offered = opened(servers[0].removesuffix("/v1") + "/extensions")

    assert offered and set(offered) == {None}


@pytest.fixture
def opened() -> Callable[[str], Any]:
    """Read JSON from a URL of this machine."""
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def read(url: str) -> Any:
        with direct.open(url, timeout=within(5)) as response:
            return json.load(response)

    return read
