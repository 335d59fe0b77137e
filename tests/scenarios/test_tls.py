"""TLS end to end: certificates are verified, in whichever way the authority is named, and large records come through."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from pixir_actors import InvalidSettings, StreamError
from pixir_actors.simulator import FAULTS, Reply, Simulator
from tests.conftest import within
from tests.scenarios.caller import Caller

Talk = Callable[..., Caller]
Simulate = Callable[..., Simulator]
MIB = 1024 * 1024
CA_VARIABLES = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")


@pytest.fixture(autouse=True)
def no_authority_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in CA_VARIABLES:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def sim(simulated: Simulate) -> Simulator:
    return simulated(tls=True)


def test_a_conversation_over_tls_continues_on_one_socket(talk: Talk, sim: Simulator) -> None:
    caller = talk(sim, ca_file=sim.ca_file)

    assert sim.url.startswith("wss://")
    assert [caller.say(text).reason for text in ("first", "second")] == ["no_previous_response", None]
    assert len(sim.handshakes) == 1


@pytest.mark.parametrize("variable", CA_VARIABLES)
def test_the_callers_environment_may_name_the_authority(
    talk: Talk, sim: Simulator, variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The environment of this process, not that of the actors, which were started before.
    assert sim.ca_file is not None
    monkeypatch.setenv(variable, sim.ca_file)

    assert talk(sim).say("hello").text == "You said: hello"


def test_the_option_is_stronger_than_the_environment(
    talk: Talk, sim: Simulator, simulated: Simulate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(simulated(tls=True).ca_file))

    assert talk(sim, ca_file=sim.ca_file).say("hello").text == "You said: hello"


@pytest.mark.parametrize("size", [20_000, 3 * MIB], ids=["more than a record", "more than 1 MiB"])
def test_a_large_terminal_event_comes_through_whole(talk: Talk, simulated: Simulate, size: int) -> None:
    sim = simulated(tls=True, faults=[FAULTS["huge_terminal"](size)])
    caller = talk(sim, ca_file=sim.ca_file)

    answer = caller.say("first")

    assert answer.response is not None
    assert answer.response["metadata"]["padding"] == "x" * size
    assert caller.say("second").reason is None


def test_a_long_answer_over_tls_comes_in_order(talk: Talk, simulated: Simulate) -> None:
    text = " ".join(map(str, range(2000)))
    sim = simulated([Reply.text(text, deltas=1000)], tls=True, faults=[FAULTS["coalesce"]()])
    caller = talk(sim, ca_file=sim.ca_file)

    assert caller.say("count").text == text
    assert caller.say("second").reason is None


def test_a_large_request_over_tls_arrives_whole(talk: Talk, sim: Simulator) -> None:
    caller = talk(sim, ca_file=sim.ca_file)

    assert caller.say("x" * 2 * MIB).metadata["wire_bytes"] > 2 * MIB
    assert caller.say("second").reason is None


def test_a_ping_between_turns_is_answered_over_tls(talk_embedded: Talk, sim: Simulator) -> None:
    caller = talk_embedded(sim, ca_file=sim.ca_file, keepalive_interval=0.05)
    caller.say("first")
    sim.ping(b"there?")
    sim.wait_for(lambda seen: seen.pongs and len(seen.pings) >= 2, within(5))

    assert caller.say("second").reason is None


@pytest.mark.parametrize("trusted", ["nothing of ours", "another authority", "no certificate in the file"])
def test_a_certificate_that_is_not_trusted_ends_the_attempt(
    talk: Talk, sim: Simulator, simulated: Simulate, trusted: str, tmp_path: Path
) -> None:
    empty = tmp_path / "empty.pem"
    empty.touch()
    files = {
        "nothing of ours": None,
        "another authority": simulated(tls=True).ca_file,
        "no certificate in the file": str(empty),
    }
    caller = talk(sim, ca_file=files[trusted])

    with pytest.raises(StreamError) as caught:
        caller.say("hello")

    assert (caught.value.code, caught.value.delivery) == ("websocket_connect_failed", "not_sent")
    assert caught.value.details["reason"] == ("ca_file" if "file" in trusted else "certificate_verify_failed")
    assert caught.value.retryable == ("file" not in trusted), "waiting does not put a certificate into a file"
    assert (sim.handshakes, sim.requests) == ([], [])


def test_a_ca_file_that_is_missing_is_named_before_anything_is_opened(talk: Talk, sim: Simulator, tmp_path: Path) -> None:
    path = str(tmp_path / "missing.pem")
    with pytest.raises(InvalidSettings, match=r"missing\.pem.*PEM file"):
        talk(sim, ca_file=path).say("hello")
    assert (sim.handshakes, sim.tls_failures) == ([], 0)


def test_a_name_that_the_certificate_does_not_have_ends_the_attempt(talk: Talk, sim: Simulator) -> None:
    caller = talk(sim, ca_file=sim.ca_file)
    # The system takes this for 127.0.0.1; the certificate does not know it.
    caller.url = sim.base_url.replace("localhost", "127.1")

    with pytest.raises(StreamError) as caught:
        caller.say("hello")

    assert caught.value.code == "websocket_connect_failed"
    assert caught.value.details["step"] == "tls"
    assert sim.handshakes == []
