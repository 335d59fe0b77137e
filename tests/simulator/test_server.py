"""The simulator as a test uses it."""

from __future__ import annotations

import subprocess
import sys
import threading

import pytest
import websocket

from pixir_actors.simulator import FAULTS, Reply, Simulator
from tests.conftest import within
from tests.simulator.client import Client, codes, connected, text_of, types


@pytest.mark.parametrize("library", ["websockets", "h11"])
def test_without_the_extra_the_import_says_what_to_install(library: str) -> None:
    program = f"import sys; sys.modules[{library!r}] = None\n"
    program += "try: import pixir_actors.simulator\nexcept ModuleNotFoundError as error: print(error.name, error, sep='|')"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=within(20), check=True)
    name, said = done.stdout.strip().split("|")
    assert name.partition(".")[0] == library
    assert said == f"pixir_actors.simulator needs {name}: pip install 'pixir_actors[simulator]'"


def test_it_listens_on_loopback_only_and_names_its_addresses() -> None:
    with Simulator() as sim:
        assert sim.url == f"ws://127.0.0.1:{sim.port}/v1/responses"
        assert sim.base_url == f"http://127.0.0.1:{sim.port}/v1"
        with pytest.raises(OSError, match=r"refused|Connection"):
            websocket.create_connection(f"ws://127.0.0.2:{sim.port}/v1/responses", timeout=within(5))


def test_a_fault_can_be_injected_while_it_runs() -> None:
    with Simulator() as sim, connected(sim) as client:
        client.turn()
        sim.inject(FAULTS["error_503"]())
        assert [fault.name for fault in sim.armed] == ["error_503"]
        assert codes(client.turn()) == ["server_is_overloaded"]
        assert sim.armed == []


def test_an_event_can_be_pushed_to_the_newest_or_to_a_named_connection() -> None:
    with Simulator() as sim, connected(sim) as one, connected(sim) as two:
        sim.wait_for(lambda s: s.open_connections == 2, within(5))
        sim.push({"type": "keepalive"})
        sim.push(b"verbatim", connection=0)
        assert two.event() == {"type": "keepalive"}
        assert one.frame() == (websocket.ABNF.OPCODE_TEXT, b"verbatim")


def test_a_ping_can_be_sent_and_its_pong_is_recorded() -> None:
    with Simulator() as sim, connected(sim) as client:
        sim.ping(b"hey")
        assert client.socket.recv_data(control_frame=True) == (websocket.ABNF.OPCODE_PING, b"hey")
        sim.wait_for(lambda s: s.pongs == [(0, b"hey")], within(5))


def test_an_idle_connection_can_be_closed() -> None:
    with Simulator() as sim, connected(sim) as client:
        sim.close_connection()
        assert client.close_frame() == (1001, "going away")
        client.leave()
        sim.wait_for(lambda s: s.closes, within(5))
        assert (sim.closes[0].by, sim.closes[0].clean, sim.open_connections) == ("server", True, 0)
        assert sim.closes[0].code == 1000, "what this client's own close frame says"


def test_an_event_can_go_out_right_before_a_close() -> None:
    with Simulator() as sim, connected(sim) as client:
        sim.close_connection(1000, "connection limit reached", behind={"type": "error"})
        assert client.event() == {"type": "error"}
        assert client.close_frame() == (1000, "connection limit reached")
        client.leave()


def test_a_response_can_be_closed_in_the_middle() -> None:
    with Simulator([Reply.text("x").held(threading.Event())]) as sim, connected(sim) as client:
        client.create()
        client.event(), client.event()
        sim.close_connection(1011, "oops")
        assert client.close_frame() == (1011, "oops")
        client.leave()
        sim.wait_for(lambda s: s.closes, within(5))
        assert sim.turns[0].status == "disconnected"


def test_a_reset_has_left_when_the_call_returns() -> None:
    """Or the next request is written before it comes, and nobody knows whether it ran."""
    for _ in range(20):
        with Simulator() as sim, connected(sim):
            [peer] = [peer for peer in sim._peers if peer.upgraded]
            sim.abort_connection()
            assert peer.wire.gone.is_set()


def test_a_connection_can_be_reset() -> None:
    with Simulator() as sim, connected(sim) as client:
        sim.abort_connection()
        with pytest.raises((ConnectionError, websocket.WebSocketConnectionClosedException)):
            client.event()
        sim.wait_for(lambda s: s.closes, within(5))
        assert sim.closes[0].by == "server"


@pytest.mark.parametrize("response_id", [None, "own"])
def test_what_is_cached_can_be_evicted(response_id: str | None) -> None:
    with Simulator() as sim, connected(sim) as client:
        cached = client.response(store=True)["id"]
        sim.evict("resp_other")
        again = client.response(previous_response_id=cached)["id"]
        sim.evict(again if response_id else None)
        assert codes(client.turn(previous_response_id=again)) == ["previous_response_not_found"]


def test_there_must_be_a_connection() -> None:
    with Simulator() as sim:
        for act in (lambda: sim.push({}), sim.ping, sim.close_connection, sim.abort_connection):
            with pytest.raises(LookupError, match="no connection is open"):
                act()
        with pytest.raises(LookupError, match="connection 7 is not open"):
            sim.push({}, connection=7)


def test_a_close_code_is_checked_before_anything_is_sent() -> None:
    with Simulator() as sim, connected(sim), pytest.raises(ValueError, match="1006"):
        sim.close_connection(1006)


def test_it_can_be_driven_from_its_own_script() -> None:
    def script(turn: object) -> Reply:
        sim.push({"type": "keepalive"})
        return Reply.text("x")

    sim = Simulator(script)
    with sim, connected(sim) as client:
        assert types(client.turn())[0] == "keepalive"


def test_waiting_sees_it_as_a_whole() -> None:
    with Simulator() as sim, connected(sim) as client:
        client.create()
        sim.wait_for(lambda s: s.turns and s.turns[0].status == "completed", within(5))
        with pytest.raises(TimeoutError, match="1 open connections, 1 requests"):
            sim.wait_for(lambda s: False, 0.01)


def test_closing_twice_or_from_two_threads_does_no_harm() -> None:
    with Simulator() as sim:
        threads = [threading.Thread(target=sim.close) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(within(5))
        sim.close()
        with pytest.raises(RuntimeError, match="not running"):
            sim.push({})


def test_it_can_be_closed_without_having_been_started_and_starts_once() -> None:
    sim = Simulator()
    sim.close()
    with sim, pytest.raises(RuntimeError, match="started once"):
        sim.start()


def test_a_taken_port_is_an_os_error_and_leaves_nothing() -> None:
    with Simulator() as sim, pytest.raises(OSError, match="in use"), Simulator(port=sim.port, tls=True):
        pass


def test_what_broke_does_not_hide_what_the_test_says() -> None:
    def script(turn: object) -> Reply:
        raise KeyError("script")

    with pytest.raises(AssertionError) as caught, Simulator(script) as sim, connected(sim) as client:
        client.create()
        client.close_frame()
        raise AssertionError("the test's own")
    assert any("KeyError" in note for note in caught.value.__notes__)


def test_its_repr_counts_and_shows_no_content() -> None:
    with Simulator(api_key="canary") as sim, connected(sim, header=["Authorization: Bearer canary"]) as client:
        client.turn("canary")
        assert "1 requests" in repr(sim)
        assert "canary" not in repr(sim) + repr(sim.handshakes) + repr(sim.requests) + repr(sim.turns)


def test_the_records_are_bounded() -> None:
    with Simulator(keep=5) as sim, connected(sim) as client:
        for number in range(30):
            client.turn(str(number))
        assert 5 <= len(sim.requests) <= 10
        assert sim.requests[-1].index == 29


def test_two_simulators_do_not_know_of_each_other() -> None:
    with Simulator([Reply.text("one")]) as one, Simulator([Reply.text("two")]) as two:
        with connected(one) as first, connected(two) as second:
            assert (text_of(first.turn()), text_of(second.turn())) == ("one", "two")
        assert len(one.requests) == len(two.requests) == 1


def test_nothing_is_logged_of_a_request(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(1)
    with Simulator(api_key="canary") as sim:
        with connected(sim, header=["Authorization: Bearer canary"]) as client:
            client.turn("canary")
        with pytest.raises(websocket.WebSocketBadStatusException):
            Client(sim, header=["Authorization: Bearer other-canary"])
    assert not [record for record in caplog.records if "canary" in record.getMessage()]
