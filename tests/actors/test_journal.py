"""What the actors log: when, what of it, how many at the most, and never a secret."""

from __future__ import annotations

import logging
import pickle
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from pixir_actors.actors import journal as module
from pixir_actors.actors.journal import BURST, RATE, Journal, Limiter, Note, notes
from pixir_actors.core import inputs as put
from pixir_actors.core.lifecycle import transition
from pixir_actors.core.state import Purpose
from pixir_actors.errors import ErrorCode
from tests.core.machine import QUIET, Machine, assistant, completed, created, delta, error, user

CANARY = "canary-4711"
DEBUG, INFO, WARNING = logging.DEBUG, logging.INFO, logging.WARNING
URL = f"wss://user:{CANARY}@api.example:8443/v1/{CANARY}?token={CANARY}"
ONE, SAID, TWO = user(CANARY), assistant(CANARY), user("two")


class Noted(Machine):
    """A machine, and what would be logged of it."""

    def __init__(self, **options: Any) -> None:
        self.noted: list[Note] = []
        super().__init__(**options)

    def feed(self, input: put.Input) -> list[Any]:
        before = self.conn
        self.conn, self.last = transition(before, input, now=self.now)
        self.actions += self.last
        self.noted += notes(before, input, self.conn, self.last, self.now)
        return self.last

    def submit(self, items: Any = (), **fields: Any) -> str:
        return super().submit(items, **{"endpoint": URL, "fingerprint": CANARY, "key": CANARY, **fields})

    @property
    def events(self) -> list[tuple[int, str]]:
        return [(level, event) for level, event, _ in self.noted]

    def fields(self, event: str) -> dict[str, Any]:
        """Return the fields of the newest record of that event."""
        return [fields for _, name, fields in self.noted if name == event][-1]


def warm(**options: Any) -> Noted:
    machine = Noted(**options)
    machine.submit([ONE])
    machine.now += 0.25
    machine.connected()
    machine.sent()
    machine.now += 0.5
    machine.receive(created(), delta(CANARY), completed("resp_1", SAID))
    return machine


# A connection's transitions


def test_a_first_turn_opens_a_socket_and_goes_out_in_full() -> None:
    machine = warm()

    assert machine.events == [(INFO, "socket_opened"), (DEBUG, "turn_ended")]
    assert machine.fields("socket_opened") == {"host": "api.example:8443", "via": "websocket", "ms": 250}
    ended = machine.fields("turn_ended")
    assert ended.pop("wire_bytes") == ended.pop("full_bytes") > 0
    assert ended == {
        "model": "gpt",
        "purpose": "run",
        "ms": 750,
        "via": "websocket",
        "delta": False,
        "reset_reason": "no_previous_response",
        "attempts": 1,
    }


def test_the_next_turn_is_a_delta() -> None:
    machine = warm()
    machine.noted.clear()
    machine.turn([ONE, SAID, TWO], "resp_2")

    assert machine.events == [(DEBUG, "turn_ended")]
    ended = machine.fields("turn_ended")
    assert (ended["delta"], ended["reset_reason"]) == (True, None)
    assert ended["wire_bytes"] < ended["full_bytes"]


def test_events_are_not_logged() -> None:
    machine = warm()
    machine.start([ONE, SAID, TWO])
    machine.noted.clear()
    machine.receive(created("resp_2"), delta("a"))
    for _ in range(100):
        machine.receive(delta("b"), delta("c"))

    assert machine.noted == []


CLOSED: dict[str, tuple[Callable[[Noted], Any], dict[str, Any]]] = {
    "by the server": (
        lambda machine: machine.socket_failed(
            details={"reason": "close_frame", "close_code": 1001, "close_reason": f"bye {CANARY}"}
        ),
        {"reason": "connection_closed", "close_code": 1001, "detail": "close_frame"},
    ),
    "by a server that says it oddly": (
        lambda machine: machine.socket_failed(details={"reason": f"said {CANARY}"}),
        {"reason": "connection_closed", "close_code": None, "detail": None},
    ),
    "for other headers": (
        lambda machine: machine.submit([ONE], fingerprint="other"),
        {"reason": "headers_changed", "close_code": 1000, "detail": None},
    ),
    "for its age": (
        lambda machine: machine.wait(100.1),
        {"reason": "max_age", "close_code": 1000, "detail": None},
    ),
    "to make room": (lambda machine: machine.evict(), {"reason": "evicted", "close_code": 1000, "detail": None}),
    "on demand": (
        lambda machine: machine.stop(ErrorCode.CANCELLED),
        {"reason": "cancelled", "close_code": 1000, "detail": None},
    ),
    "to drain": (lambda machine: machine.drain(), {"reason": "drained", "close_code": 1000, "detail": None}),
}


@pytest.mark.parametrize(("close", "fields"), CLOSED.values(), ids=CLOSED)
def test_why_a_socket_closed_is_told(close: Callable[[Noted], Any], fields: dict[str, Any]) -> None:
    machine = warm(max_connection_age=100.0)
    machine.noted.clear()
    machine.now += 2.0
    close(machine)

    assert machine.events == [(INFO, "socket_closed")]
    closed = machine.fields("socket_closed")
    assert (closed.pop("host"), closed.pop("via")) == ("api.example:8443", "websocket")
    assert closed.pop("age_s") >= 2.5
    assert closed == fields


def test_one_that_retires_says_so() -> None:
    machine = warm(idle_close_after=100.0)
    machine.wait(100.1)
    machine.retire_answered(True)

    assert machine.fields("socket_closed")["reason"] == "retired"


def test_a_failure_that_degrades_says_for_how_long_and_why() -> None:
    machine = Noted(degraded_for=8.0)
    machine.submit([ONE])
    machine.now += 1.5
    machine.connect_failed(details={"reason": CANARY})

    assert machine.events == [(WARNING, "turn_failed"), (WARNING, "degraded")]
    assert machine.fields("turn_failed") == {
        "code": "websocket_connect_failed", "delivery": "not_sent", "model": "gpt", "ms": 1500, "status": None,
    }
    assert machine.fields("degraded") == {
        "host": "api.example:8443", "seconds": 8.0, "cause": "websocket_connect_failed",
    }
    machine.noted.clear()
    machine.submit([ONE])
    assert machine.events == [(WARNING, "turn_failed")], "the window is the same one"


def test_without_a_window_nothing_is_degraded() -> None:
    machine = Noted(degraded_for=None)
    machine.submit([ONE])
    machine.connect_failed()

    assert machine.events == [(WARNING, "turn_failed")]


def test_a_window_is_told_also_where_the_turn_goes_on_over_http() -> None:
    machine = Noted(transport="auto")
    machine.submit([ONE])
    machine.connect_failed()

    assert machine.events == [(WARNING, "degraded")]
    assert machine.fields("degraded")["cause"] == "websocket_connect_failed"


def test_a_turn_that_its_caller_gave_up_is_no_warning() -> None:
    machine = warm()
    second = machine.start([ONE, SAID, TWO])
    machine.noted.clear()
    machine.cancel(second)

    assert machine.events == [(INFO, "turn_failed"), (INFO, "socket_closed")]
    assert machine.fields("turn_failed")["delivery"] == "ambiguous"


def test_what_the_provider_says_of_a_failure_is_not_told() -> None:
    machine = warm()
    machine.start([ONE, SAID, TWO])
    machine.receive(error(CANARY, 429, type=CANARY))

    level, event, fields = machine.noted[-1]
    assert (level, event, fields["status"], fields["delivery"]) == (WARNING, "turn_failed", 429, "rejected")


def test_those_who_wait_are_told_of_with_their_own_model() -> None:
    machine = warm()
    machine.start([ONE, SAID, TWO])
    machine.submit([ONE], model="other")
    machine.stop()

    assert [fields["model"] for _, event, fields in machine.noted if event == "turn_failed"] == ["gpt", "other"]


def test_a_request_that_is_refused_as_it_comes_is_told_of() -> None:
    machine = Noted(queue_limit=0)
    machine.submit([ONE], model="running")
    machine.submit([ONE], model="refused")

    assert machine.fields("turn_failed")["code"] == "queue_full"
    assert machine.fields("turn_failed")["model"] == "refused"


@pytest.mark.parametrize("open_before", [False, True])
def test_a_warm_up_that_sends_nothing_says_nothing_of_bytes(open_before: bool) -> None:
    machine = warm() if open_before else Noted()
    machine.submit([ONE], purpose=Purpose.OPEN)
    if not open_before:
        machine.connected()

    ended = machine.fields("turn_ended")
    assert (ended["model"], ended["purpose"]) == ("gpt", "open")
    assert "wire_bytes" not in ended


def test_a_long_model_is_cut_and_an_odd_one_left_out() -> None:
    for model, shown in (("m" * 1000, "m" * 100), (["gpt"], None)):
        machine = Noted()
        machine.turn([ONE], model=model)
        assert machine.fields("turn_ended")["model"] == shown


LIVES: dict[str, Callable[[Noted], Any]] = {
    **{name: close for name, (close, _) in CLOSED.items()},
    "failed": lambda machine: machine.submit([ONE], endpoint=f"{URL}2") and machine.connect_failed(
        details={"problem": CANARY, "close_reason": CANARY}
    ),
    "an error": lambda machine: machine.start([ONE]) and machine.receive(error(CANARY, 400, param=CANARY)),
    "cancelled": lambda machine: machine.cancel(machine.start([ONE])),
}


@pytest.mark.parametrize("life", LIVES.values(), ids=LIVES)
def test_no_note_holds_a_key_a_header_a_body_a_url_or_a_provider_s_words(life: Callable[[Noted], Any]) -> None:
    machine = warm(max_connection_age=100.0)
    life(machine)

    assert machine.noted
    assert CANARY not in repr(machine.noted)


# At most so many


def test_a_hundred_pass_at_once_and_then_twenty_a_second() -> None:
    limiter = Limiter()
    assert [limiter.admit(5.0) for _ in range(BURST)] == [0] * BURST
    assert limiter.admit(5.0) is None

    passed = [limiter.admit(5.0 + step / 1000) for step in range(1, 1001)]
    assert sum(one is not None for one in passed) == RATE


def test_the_next_one_says_how_many_were_dropped() -> None:
    limiter = Limiter()
    for _ in range(BURST + 7):
        limiter.admit(5.0)

    assert limiter.admit(6.0) == 7
    assert limiter.admit(6.0) == 0


def test_after_a_long_pause_no_more_than_a_hundred_pass() -> None:
    limiter = Limiter()
    limiter.admit(0.0)

    assert sum(limiter.admit(1e6) is not None for _ in range(BURST * 2)) == BURST


# Records


@pytest.fixture
def records() -> Iterator[list[logging.LogRecord]]:
    """Collect what is logged under a name of this test, at DEBUG."""
    kept: list[logging.LogRecord] = []
    logger = logging.getLogger("pixir_actors.test_journal")
    handler = logging.Handler()
    handler.emit = kept.append  # type: ignore[method-assign]
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    logger.propagate = False
    yield kept
    logger.removeHandler(handler)
    logger.setLevel(logging.NOTSET)
    logger.propagate = True


def journal(*, limited: bool = False) -> Journal:
    made = Journal("pixir_actors.test_journal", limited=limited)
    made.about(key="digest", connection_id="c-1")
    return made


def test_a_record_has_its_fields_as_text_and_as_attributes(records: list[logging.LogRecord]) -> None:
    journal().write(WARNING, "turn_failed", code="queue_full", status=None, ms=3)

    [record] = records
    assert record.getMessage() == "turn failed key=digest connection_id=c-1 code=queue_full ms=3"
    assert (record.levelno, record.event, record.key, record.code, record.ms) == (  # type: ignore[attr-defined]
        WARNING, "turn_failed", "digest", "queue_full", 3,
    )
    assert not hasattr(record, "status")
    assert pickle.loads(pickle.dumps(record.__dict__)) == record.__dict__, "it travels"


def test_a_percent_sign_is_no_format(records: list[logging.LogRecord]) -> None:
    journal().write(INFO, "turn_ended", model="%s%d")

    assert "model=%s%d" in records[0].getMessage()


def test_a_text_from_outside_makes_no_second_line_and_no_second_field(records: list[logging.LogRecord]) -> None:
    journal().write(INFO, "turn_ended", model="gpt\nturn failed", label="a code=x")

    assert records[0].getMessage().endswith("model='gpt\\nturn failed' label='a code=x'")
    assert records[0].model == "gpt\nturn failed"  # type: ignore[attr-defined]


def test_a_flood_is_cut_and_the_next_record_says_so(
    records: list[logging.LogRecord], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 5.0
    monkeypatch.setattr(module.time, "monotonic", lambda: now)
    limited = journal(limited=True)
    for _ in range(BURST + 50):
        limited.write(WARNING, "turn_failed")
    assert len(records) == BURST
    now = 6.0
    limited.write(WARNING, "turn_failed")

    assert records[-1].dropped == 50  # type: ignore[attr-defined]
    assert "dropped=50" in records[-1].getMessage()
    assert not hasattr(records[0], "dropped")


def test_in_the_program_s_own_process_nothing_is_dropped(records: list[logging.LogRecord]) -> None:
    for _ in range(BURST * 3):
        journal().write(WARNING, "turn_failed")

    assert len(records) == BURST * 3


def test_what_nobody_wants_is_not_even_made(
    records: list[logging.LogRecord], monkeypatch: pytest.MonkeyPatch
) -> None:
    logging.getLogger("pixir_actors.test_journal").setLevel(logging.CRITICAL)
    monkeypatch.setattr(module, "notes", lambda *_: pytest.fail("looked at"))
    monkeypatch.setattr(Limiter, "admit", lambda *_: pytest.fail("counted"))
    machine = Machine(QUIET)
    limited = journal(limited=True)
    limited.observe(machine.conn, put.Begun(), machine.conn, machine.actions, 0.0)
    limited.write(WARNING, "turn_failed")

    assert records == []


def test_a_record_below_the_level_takes_none_of_the_others_room(records: list[logging.LogRecord]) -> None:
    logging.getLogger("pixir_actors.test_journal").setLevel(INFO)
    limited = journal(limited=True)
    for _ in range(BURST * 2):
        limited.write(DEBUG, "turn_ended")
    limited.write(INFO, "socket_opened")

    assert [record.event for record in records] == ["socket_opened"]  # type: ignore[attr-defined]
    assert not hasattr(records[0], "dropped")


def test_a_handler_that_raises_costs_nobody_a_turn(records: list[logging.LogRecord]) -> None:
    def raises(record: logging.LogRecord) -> None:
        raise RuntimeError

    logging.getLogger("pixir_actors.test_journal").handlers[0].emit = raises  # type: ignore[method-assign]

    journal().write(WARNING, "turn_failed")


def test_what_a_transition_was_about_is_logged(records: list[logging.LogRecord]) -> None:
    machine = Machine()
    machine.submit([ONE])
    before, input = machine.conn, put.ConnectFailed(machine.conn.opening, ErrorCode.WEBSOCKET_CONNECT_FAILED)
    after, actions = transition(before, input, now=machine.now)
    journal().observe(before, input, after, actions, machine.now)

    assert [record.event for record in records] == ["turn_failed", "degraded"]  # type: ignore[attr-defined]
    assert {record.key for record in records} == {"digest"}  # type: ignore[attr-defined]


def test_every_event_and_field_is_in_the_list_at_the_top() -> None:
    listed = module.__doc__ or ""
    noted: list[Note] = []
    for life in LIVES.values():
        machine = warm(max_connection_age=100.0)
        life(machine)
        noted += machine.noted

    assert {event for _, event, _ in noted} == {"socket_opened", "socket_closed", "degraded", "turn_failed", "turn_ended"}
    for level, event, fields in noted:
        assert event in listed
        assert logging.getLevelName(level) in listed
        assert [name for name in fields if name not in listed] == []
