"""The socket between turns and under failure: kept alive, given up in time, left alone for a while, come back to."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from typing import Any

import pytest

from pixir_actors import Client, StreamError
from pixir_actors.simulator import FAULTS, Reply, Simulator
from tests.conftest import until, within
from tests.scenarios.caller import Caller, texts
from tests.scenarios.conftest import gone

Talk = Callable[..., Caller]
Simulate = Callable[..., Simulator]


def failing(caller: Caller, text: str = "fails") -> StreamError:
    """Send a turn that has to fail, and leave it out of the history."""
    history = caller.history
    with pytest.raises(StreamError) as caught:
        caller.say(text)
    caller.history = history
    return caught.value


def closed(sim: Simulator) -> None:
    sim.wait_for(lambda seen: seen.open_connections == 0, within(5))


# Kept alive


def test_pings_go_on_between_turns_and_the_continuation_is_kept(talk_embedded: Talk, sim: Simulator) -> None:
    caller = talk_embedded(sim, keepalive_interval=0.05)
    caller.say("first")
    sim.wait_for(lambda seen: len(seen.pings) >= 3, within(5))

    assert caller.say("second").reason is None
    assert len(sim.handshakes) == 1


def test_pings_keep_their_interval_after_a_stream_that_was_longer(talk_embedded: Talk, simulated: Simulate) -> None:
    interval = 0.2
    sim = simulated([Reply.text("a b c d e f g h", deltas=8).paced(0.06)])
    caller = talk_embedded(sim, keepalive_interval=interval)
    caller.say("first")
    began, before = time.monotonic(), len(sim.pings)
    sim.wait_for(lambda seen: len(seen.pings) >= before + 4, within(10))

    # One chain of pings: four intervals, less what had passed of the first. A second chain would halve that.
    assert time.monotonic() - began >= 3 * interval - 0.05


@pytest.mark.parametrize(
    "fault", [FAULTS["ignore_pings"](), FAULTS["freeze"]("after_terminal")], ids=["ignores pings", "frozen"]
)
def test_a_ping_without_an_answer_costs_the_socket_and_nothing_else(
    talk_embedded: Talk, embedded: Client, simulated: Simulate, fault: Any
) -> None:
    sim = simulated(faults=[fault])
    caller = talk_embedded(sim, keepalive_interval=0.05, pong_timeout=0.1)
    caller.say("first")
    closed(sim)

    answer = caller.say("second")

    assert answer.reason == "keepalive_failed"
    assert answer.metadata["delivery_attempts"] == 1
    status = embedded.status(caller.key)[0]
    assert (status.failures, status.last_error, status.degraded_for_s) == (0, None, 0.0)


def test_any_frame_counts_as_an_answer_to_a_ping(talk_embedded: Talk, simulated: Simulate) -> None:
    sim = simulated(faults=[FAULTS["ignore_pings"](times=None)])
    caller = talk_embedded(sim, keepalive_interval=0.05, pong_timeout=within(1))
    caller.say("first")
    for count in range(1, 5):
        sim.wait_for(lambda seen, count=count: len(seen.pings) >= count, within(5))
        sim.push({"type": "keepalive"})

    assert caller.say("second").reason is None


def test_a_server_that_demands_pongs_gets_them_within_a_stream_and_between(
    talk: Talk, simulated: Simulate
) -> None:
    sim = simulated(faults=[FAULTS["ping_demand_pong"](within(2), times=None)])
    caller = talk(sim)

    assert [caller.say(text).reason for text in ("first", "second")] == ["no_previous_response", None]
    assert len(sim.pongs) > 10


def test_a_pong_is_sent_while_idle(talk_embedded: Talk, sim: Simulator) -> None:
    caller = talk_embedded(sim)
    caller.say("first")
    sim.ping(b"are you there")

    sim.wait_for(lambda seen: seen.pongs == [(0, b"are you there")], within(5))


# Given up in time


@pytest.mark.parametrize("how", ["close frame", "reset"])
def test_a_server_that_leaves_between_turns_is_no_failure(
    talk_embedded: Talk, embedded: Client, sim: Simulator, how: str
) -> None:
    caller = talk_embedded(sim)
    caller.say("first")
    if how == "reset":
        sim.abort_connection()
    else:
        sim.close_connection(1001)
    closed(sim)

    answer = caller.say("second")

    assert answer.reason == "connection_closed"
    assert answer.metadata["delivery_attempts"] == 1
    assert embedded.status(caller.key)[0].failures == 0
    assert len(sim.requests) == 2


def test_an_idle_connection_ends_with_its_process_and_the_next_request_starts_another(
    talk_embedded: Talk, embedded: Client, sim: Simulator
) -> None:
    caller = talk_embedded(sim, idle_close_after=0.2)
    caller.say("first")
    before = embedded.status(caller.key)[0].connection_id
    closed(sim)
    assert gone(embedded, caller.key)

    answer = caller.say("second")

    assert answer.reason == "no_previous_response"
    assert embedded.status(caller.key)[0].connection_id != before
    assert sim.closes[0].code == 1000


def test_a_stream_longer_than_the_idle_limit_does_not_end_its_connection(
    talk_embedded: Talk, simulated: Simulate
) -> None:
    sim = simulated([Reply.text("a b c d e f g h", deltas=8).paced(0.05)])
    caller = talk_embedded(sim, idle_close_after=0.25)
    caller.say("first")

    assert caller.say("second").reason is None
    assert len(sim.handshakes) == 1


def test_a_socket_past_its_age_is_replaced_between_turns(talk_embedded: Talk, sim: Simulator) -> None:
    caller = talk_embedded(sim, max_connection_age=0.1)
    caller.say("first")
    closed(sim)

    assert caller.say("second").reason == "max_age"
    assert sim.closes[0].code == 1000
    assert len(sim.handshakes) == 2


def test_a_socket_past_its_age_is_not_replaced_within_a_turn(talk: Talk, simulated: Simulate) -> None:
    sim = simulated([Reply.text("a b c d", deltas=4).paced(0.05)])
    caller = talk(sim, max_connection_age=0.1)

    assert caller.say("first").text == "a b c d"
    assert caller.say("second").reason == "max_age"


def test_closing_a_key_closes_its_socket_and_the_next_request_starts_afresh(talk: Talk, sim: Simulator) -> None:
    caller = talk(sim)
    caller.say("first")
    caller.client.close(caller.key)

    assert caller.say("second").reason == "no_previous_response"
    assert len(sim.handshakes) == 2
    assert texts(caller.wire()["input"])[::2] == ["first", "second"]


# Left alone for a while


def test_a_failed_connection_is_left_alone_and_comes_back(talk: Talk, simulated: Simulate) -> None:
    sim = simulated(faults=[FAULTS["refuse_upgrade"](503)])
    caller = talk(sim, degraded_for=within(1))
    folded: list[Any] = []

    refused = failing(caller)
    with pytest.raises(StreamError) as caught:
        caller.client.reduce(caller.key, caller.request(), folded, lambda event, acc: [*acc, event], **caller.options)

    degraded = caught.value
    assert (refused.code, refused.delivery, refused.details["status"]) == ("websocket_handshake_failed", "not_sent", 503)
    assert (degraded.code, degraded.delivery, degraded.retryable) == ("websocket_degraded", "not_sent", True)
    assert degraded.acc is folded and folded == []
    assert degraded.retry_after is not None and 0 < degraded.retry_after <= within(1)
    assert (len(sim.handshakes), len(sim.requests)) == (1, 0)
    time.sleep(degraded.retry_after)
    assert caller.say("after the pause").reason == "websocket_failed"
    assert caller.say("and on").reason is None


def test_an_answer_ends_the_doubling_of_the_pause(talk: Talk, simulated: Simulate) -> None:
    sim = simulated(faults=[FAULTS["cut_before_first_event"](times=2), FAULTS["cut_before_first_event"](on_request=3)])
    caller = talk(sim, degraded_for=0.2)
    pauses = []
    for _ in range(2):
        pauses.append(failing(caller).retry_after)
        time.sleep(pauses[-1] or 0)
    caller.say("works")
    pauses.append(failing(caller).retry_after)

    first, second, third = [pause or 0.0 for pause in pauses]
    assert 0.14 <= first <= 0.2 < 0.29 <= second <= 0.4
    assert 0.14 <= third <= 0.2


def test_without_a_window_the_next_request_goes_straight_through(talk: Talk, simulated: Simulate) -> None:
    sim = simulated(faults=[FAULTS["refuse_upgrade"](503)])
    caller = talk(sim, degraded_for=None)
    failing(caller)

    assert caller.say("at once").reason == "websocket_failed"


def test_one_keys_failure_leaves_the_others_alone(talk: Talk, simulated: Simulate) -> None:
    sim = simulated(faults=[FAULTS["refuse_upgrade"](503)])
    broken, sound = talk(sim, degraded_for=within(30)), talk(sim)
    failing(broken)

    assert sound.say("hello").text == "You said: hello"
    assert failing(broken).code == "websocket_degraded"


@pytest.mark.parametrize(
    ("fault", "code", "delivery"),
    [
        ("cut_before_first_event", "websocket_read_failed", "ambiguous"),
        ("cut_after_first_event", "websocket_read_failed", "accepted"),
        ("cut_within_event", "websocket_read_failed", "accepted"),
        ("cut_mid_text", "websocket_read_failed", "accepted"),
        ("abort_tcp", "websocket_read_failed", "accepted"),
        ("close_with", "websocket_closed", "accepted"),
        ("invalid_json", "websocket_failed", "accepted"),
        ("invalid_utf8", "websocket_failed", "accepted"),
        ("binary_frame", "websocket_failed", "accepted"),
        ("masked_frame", "websocket_failed", "accepted"),
        ("rsv_frame", "websocket_failed", "accepted"),
        ("bad_opcode", "websocket_failed", "accepted"),
        ("oversized_frame_header", "websocket_frame_too_large", "accepted"),
    ],
)
def test_a_socket_that_breaks_within_a_delta_fails_the_turn_with_a_verdict_and_the_next_replays(
    talk: Talk, simulated: Simulate, fault: str, code: str, delivery: str
) -> None:
    sim = simulated(faults=[FAULTS[fault](on_request=1)])
    caller = talk(sim, degraded_for=None)
    caller.say("first")

    error = failing(caller)

    assert (error.code, error.delivery) == (code, delivery)
    assert len(sim.requests) == 2, "it was sent again"
    answer = caller.say("second")
    assert answer.reason == "websocket_failed"
    assert texts(caller.wire()["input"])[::2] == ["first", "second"]
    assert len(sim.handshakes) == 2


def test_the_close_code_and_reason_are_reported(talk: Talk, simulated: Simulate) -> None:
    sim = simulated(faults=[FAULTS["close_with"](1013, "try again later")])
    caller = talk(sim)

    error = failing(caller)

    assert error.details["close_code"] == 1013
    assert error.details["close_reason"] == "try again later"


def test_what_came_before_the_break_reaches_the_caller(talk: Talk, simulated: Simulate) -> None:
    sim = simulated([Reply.text("one two three", deltas=3)], faults=[FAULTS["cut_mid_text"](2)])
    caller = talk(sim)
    seen = []

    with pytest.raises(StreamError), caller.stream("hello") as stream:
        for event in stream:
            seen.append(event)

    assert "one two three".startswith(stream.text) and stream.text
    assert stream.response is None
    assert stream.metadata["continuation_reset_reason"] == "no_previous_response"


# Opening


def test_nobody_listening_is_a_connect_failure(talk: Talk, simulated: Simulate) -> None:
    sim = simulated()
    caller = talk(sim)
    sim.close()

    error = failing(caller)

    assert (error.code, error.delivery, error.retryable) == ("websocket_connect_failed", "not_sent", True)
    assert error.details["host"] == f"127.0.0.1:{sim.port}"


def test_a_connection_that_is_left_alone_says_why(talk: Talk, simulated: Simulate) -> None:
    sim = simulated(faults=[FAULTS["refuse_upgrade"](503)])
    caller = talk(sim, degraded_for=within(30))
    refused, degraded = failing(caller), failing(caller)

    assert refused.details["host"] == f"127.0.0.1:{sim.port}"
    cause = {"cause": "websocket_handshake_failed", "host": refused.details["host"]}
    assert (degraded.code, degraded.details) == ("websocket_degraded", cause)
    [status] = caller.client.status(caller.key)
    assert (status.failures, status.last_error) == (2, "websocket_handshake_failed")


def test_a_request_that_is_not_read_over_http_is_given_up_with_the_time_for_sending(talk: Talk, simulated: Simulate) -> None:
    """Nothing reads: the kernel's buffers take some of it."""
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        caller = talk(simulated(), transport="http", send_timeout=0.5, degraded_for=None)
        caller.url = f"http://127.0.0.1:{deaf.getsockname()[1]}/v1"
        caller.fields = {"instructions": "x" * 12_000_000}
        began = time.monotonic()
        error = failing(caller)

    assert (error.code, error.delivery) == ("websocket_send_timeout", "ambiguous")
    assert error.details["transport"] == "http"
    assert time.monotonic() - began < within(5)


@pytest.mark.parametrize("fault", ["never_upgrade", "silent", "drip_upgrade"])
def test_an_upgrade_that_never_ends_is_given_up_as_a_whole(talk: Talk, simulated: Simulate, fault: str) -> None:
    sim = simulated(faults=[FAULTS[fault]()])
    caller = talk(sim, connect_timeout=0.3, degraded_for=None)
    began = time.monotonic()

    error = failing(caller)

    assert (error.code, error.delivery) == ("websocket_connect_timeout", "not_sent")
    assert 0.3 <= time.monotonic() - began < within(3)
    assert caller.say("again").text == "You said: again"


def test_a_cancel_is_heard_while_a_socket_is_being_opened(talk_embedded: Talk, simulated: Simulate) -> None:
    sim = simulated(faults=[FAULTS["never_upgrade"]()])
    caller = talk_embedded(sim)
    with caller.stream("hello"):
        sim.wait_for(lambda seen: seen.handshakes, within(5))
        began = time.monotonic()
    assert time.monotonic() - began < within(2)

    assert caller.say("again").reason == "no_previous_response"
    assert until(lambda: len(sim.closes) == 1)


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        ("wrong_accept", "websocket_handshake_failed"),
        ("redirect", "websocket_handshake_failed"),
        ("cut_upgrade", "websocket_connect_failed"),
    ],
)
def test_an_upgrade_that_is_none_fails_before_anything_is_sent(
    talk: Talk, simulated: Simulate, fault: str, code: str
) -> None:
    sim = simulated(faults=[FAULTS[fault]()])
    caller = talk(sim)

    error = failing(caller)

    assert (error.code, error.delivery) == (code, "not_sent")
    assert (len(sim.handshakes), len(sim.requests)) == (1, 0)
