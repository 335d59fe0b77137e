"""Every message: it crosses processes, prints no secret, and says who sends it and who answers."""

from __future__ import annotations

import dataclasses
import inspect
import pickle
import re
from typing import Any

import orjson
import pytest

from pixir_actors.actors import control as c
from pixir_actors.actors import messages as m
from pixir_actors.channel.frame import Frame, FrameType, encode, failure_payload, metadata_payload
from pixir_actors.core import payload
from pixir_actors.core.key import canonical
from pixir_actors.core.secret import Secret, digest
from pixir_actors.errors import Delivery, ErrorCode, Failure, InvalidRequest
from pixir_actors.events import Data, Metadata, Status
from pixir_actors.request import Request
from pixir_actors.settings import Settings
from pixir_actors.status import SystemStatus
from tests.actors.fakes import FACTS, STATUS

CANARY = "canary-4711"
FAILURE = Failure.of(ErrorCode.QUEUE_FULL, Delivery.NOT_SENT, limit=16)
FRAMES = [Frame(FrameType.DATA, 1, 7, CANARY.encode()), Frame(FrameType.FINISHED, 0, 7, b"")]
REQUEST = Request(
    f"https://api.example/v1/responses?token={CANARY}",
    {"Authorization": f"Bearer {CANARY}"},
    {"model": "gpt", "input": [{"role": "user", "content": CANARY}]},
)
SYSTEM = SystemStatus(
    pid=1, version="1.0", connections=1, max_descriptors=1024, refusals=0, draining=False, uptime_s=1.0
)
SETTINGS = Settings(proxy=f"http://user:{CANARY}@proxy.example")

EXAMPLES: dict[type, Any] = {
    m.EnsureStarted: m.EnsureStarted.of(1, CANARY, SETTINGS),
    m.Started: m.Started(1, "c-1", "address"),
    m.StartRefused: m.StartRefused(1, FAILURE),
    m.ConnectionDown: m.ConnectionDown("c-1", True),
    m.FindConnection: m.FindConnection(1, Secret(CANARY)),
    m.Found: m.Found(1, "address"),
    m.GetStatus: m.GetStatus(1),
    m.StatusReport: m.StatusReport(1, (STATUS,)),
    m.GetSystem: m.GetSystem(1),
    m.SystemReport: m.SystemReport(1, SYSTEM),
    m.CloseConnection: m.CloseConnection(1, Secret(CANARY)),
    m.ConnectionClosed: m.ConnectionClosed(1, True),
    m.StopAll: m.StopAll(1),
    m.Suspect: m.Suspect(1, "c-1"),
    m.Examined: m.Examined(1, True),
    m.Submit: m.Submit.of(7, CANARY, REQUEST, SETTINGS),
    m.Accepted: m.Accepted(7, "c-1"),
    m.Refused: m.Refused(7, FAILURE),
    m.Cancel: m.Cancel(7),
    m.Probe: m.Probe(7),
    m.Probed: m.Probed(7, True),
    m.Batch: m.Batch("c-1", 1, Secret(b"".join(map(encode, FRAMES)))),
    m.BatchAck: m.BatchAck(1),
    c.Begin: c.Begin("c-1", "label", None, 1),
    c.Began: c.Began("c-1", 1),
    c.StartFailed: c.StartFailed("c-1", "no_watch"),
    c.Report: c.Report("c-1", FACTS),
    c.Retire: c.Retire("c-1"),
    c.RetireAnswer: c.RetireAnswer(True),
    c.Evict: c.Evict(),
    c.EvictAnswer: c.EvictAnswer("c-1", True),
    c.DrainConnection: c.DrainConnection(30.0),
    c.StopConnection: c.StopConnection(ErrorCode.CANCELLED),
}
PUBLIC = [
    value
    for value in vars(m).values()
    if inspect.isclass(value) and value.__module__ == m.__name__ and value is not m.Ended  # which is in a batch
]
INTERNAL = [value for value in vars(c).values() if inspect.isclass(value) and value.__module__ == c.__name__]
CLASSES = PUBLIC + INTERNAL


def named(kind: type) -> str:
    return kind.__name__


def test_every_message_is_tried_here() -> None:
    assert set(EXAMPLES) == set(CLASSES)


@pytest.mark.parametrize("kind", CLASSES, ids=named)
def test_a_message_crosses_processes(kind: type) -> None:
    message = EXAMPLES[kind]
    copy = pickle.loads(pickle.dumps(message))

    assert copy == message
    assert type(copy) is kind


@pytest.mark.parametrize("kind", CLASSES, ids=named)
def test_a_message_shows_no_secret(kind: type) -> None:
    message = EXAMPLES[kind]

    for shown in (repr(message), str(message), f"{message}", f"{message!r:>10}", repr([message])):
        assert CANARY not in shown


@pytest.mark.parametrize("kind", CLASSES, ids=named)
def test_a_message_cannot_be_changed(kind: type) -> None:
    message = EXAMPLES[kind]
    assert not hasattr(message, "__dict__")

    for field in dataclasses.fields(kind):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(message, field.name, None)


@pytest.mark.parametrize("kind", CLASSES, ids=named)
def test_a_message_says_who_sends_it_or_what_it_answers(kind: type) -> None:
    text = kind.__doc__ or ""

    assert not text.startswith(f"{kind.__name__}("), "this is the text that dataclass makes up"
    assert re.search(r"\b[Ss]ent (by|to)\b|\b[Tt]he answer to `", text)


@pytest.mark.parametrize("question", m.ANSWERS, ids=named)
def test_a_question_names_its_answers(question: type) -> None:
    text = inspect.getdoc(question) or ""

    assert all(f"`{answer.__name__}`" in text for answer in m.ANSWERS[question])


@pytest.mark.parametrize("kind", PUBLIC, ids=named)
def test_every_field_of_a_public_message_is_explained(kind: type) -> None:
    text = inspect.getdoc(kind) or ""
    known = {"ask_id", "request_id", "key", "channel", "connection_id", "failure", "connections", "crashed"}

    for field in dataclasses.fields(kind):
        assert field.name in text or field.name in known


# Questions and answers


def test_every_public_message_that_asks_is_in_the_table_of_answers() -> None:
    replies = {reply for kinds in m.ANSWERS.values() for reply in kinds}
    told = {m.ConnectionDown, m.Batch, m.BatchAck}

    assert set(m.ANSWERS) | replies | told == set(PUBLIC)
    assert not set(m.ANSWERS) & replies


@pytest.mark.parametrize("question", m.ANSWERS, ids=named)
def test_an_answer_answers_its_own_question_only(question: type) -> None:
    asked = EXAMPLES[question]
    name = "ask_id" if hasattr(asked, "ask_id") else "request_id"

    for kind, message in EXAMPLES.items():
        assert m.answers(message, asked) is (kind in m.ANSWERS[question])
        if kind in m.ANSWERS[question]:
            earlier = dataclasses.replace(message, **{name: getattr(message, name) - 1})
            assert not m.answers(earlier, asked)


@pytest.mark.parametrize("reply", [None, "text", 3, pytest.param(object(), id="an object")], ids=str)
def test_what_is_no_message_answers_nothing(reply: object) -> None:
    assert not m.answers(reply, m.GetStatus(1))
    assert not m.answers(m.Found(1, None), reply)


# Building them


@pytest.mark.parametrize(("expose", "label"), [(False, digest(canonical("k", "ns"))), (True, "'k'")])
def test_a_key_is_shown_by_its_digest_unless_it_may_be_seen(expose: bool, label: str) -> None:
    ask = m.EnsureStarted.of(3, "k", Settings(expose_keys=expose, max_connections=7), namespace="ns", notify=True)

    assert ask == m.EnsureStarted(3, Secret(canonical("k", "ns")), label, 7, True)


def test_a_key_that_is_none_is_refused() -> None:
    for build in (
        lambda: m.EnsureStarted.of(1, None, Settings()),
        lambda: m.Submit.of(1, 1.5, REQUEST, SETTINGS),
    ):
        with pytest.raises(InvalidRequest) as caught:
            build()
        assert caught.value.field == "key"


def test_a_submit_holds_the_request_as_it_will_be_sent() -> None:
    submit = m.Submit.of(7, ("a", 1), REQUEST, SETTINGS, channel="/channel")

    assert submit.request_id == 7
    assert submit.key.reveal() == "('a', 1)"
    assert submit.url.reveal() == REQUEST.url
    assert submit.headers.reveal() == REQUEST.headers
    assert orjson.loads(submit.body.reveal()) == {
        "model": "gpt",
        "input": [{"role": "user", "content": CANARY}],
        "type": "response.create",
        "store": False,
    }
    assert submit.proxy is not None
    assert submit.proxy.reveal() == SETTINGS.proxy
    assert submit.settings == Settings(), "the proxy's password travels as a secret alone"
    assert submit.channel == "/channel"


@pytest.mark.parametrize("proxy", [None, "direct"])
def test_a_direct_way_has_no_proxy(proxy: str | None) -> None:
    assert m.Submit.of(1, "k", REQUEST, Settings(proxy=proxy)).proxy is None


def test_a_body_is_encoded_at_most_once_and_not_at_all_where_it_is_in_form(monkeypatch: pytest.MonkeyPatch) -> None:
    encoded: list[Any] = []
    encode_once = payload.encode
    monkeypatch.setattr(payload, "encode", lambda value: encoded.append(value) or encode_once(value))
    body = b'{ "type":"response.create", "store":false,\n "model":"m", "input":[1.0, "\\u00e4"] }'
    url = "https://api.example/v1/responses"

    assert m.Submit.of(1, "k", Request(url, {}, body), Settings()).body.reveal() is body
    m.Submit.of(1, "k", Request(url, {}, b'{"model":"m"}'), Settings())

    assert len(encoded) == 2, "once for each: as a check, and to be sent"


def test_a_request_that_is_too_large_says_both_sizes() -> None:
    body = orjson.dumps({"type": "response.create", "store": False, "input": "x" * 100})
    request = Request("https://api.example/v1/responses", {}, body)
    m.Submit.of(1, "k", request, Settings(max_request_bytes=len(body)))

    with pytest.raises(InvalidRequest) as caught:
        m.Submit.of(1, "k", request, Settings(max_request_bytes=len(body) - 1))

    assert caught.value.field == "body"
    assert str(len(body)) in caught.value.problem
    assert str(len(body) - 1) in caught.value.problem
    assert "max_request_bytes" in caught.value.problem


BAD = [
    (Request("https://api.example/", {}, b"[1]"), {}, "body"),
    (Request("https://api.example/", {}, b"no json " + CANARY.encode()), {}, "body"),
    (Request("http://api.example/", {}, b"{}"), {}, "url"),
]


@pytest.mark.parametrize(("request_", "options", "field"), BAD, ids=["array", "no json", "plaintext"])
def test_a_request_that_cannot_be_sent_is_refused(request_: Request, options: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        m.Submit.of(1, "k", request_, Settings(**options))

    assert caught.value.field == field
    assert CANARY not in repr(caught.value) + str(caught.value)


def test_plaintext_may_be_allowed() -> None:
    assert m.Submit.of(1, "k", BAD[2][0], Settings(allow_plaintext=True)).url.reveal() == "http://api.example/"


def test_a_batch_gives_its_frames_back() -> None:
    assert list(EXAMPLES[m.Batch].frames()) == FRAMES
    assert list(pickle.loads(pickle.dumps(EXAMPLES[m.Batch])).frames()) == FRAMES
    assert list(m.Batch("c", 1, Secret(b"")).frames()) == []


def test_a_batch_says_what_its_frames_mean() -> None:
    lost = Failure.of(ErrorCode.CONNECTION_LOST, Delivery.NOT_SENT, moved=1)
    frames = [
        Frame(FrameType.QUEUED, 0, 7, b"0"),
        Frame(FrameType.SENDING, 0, 7, b"1"),
        Frame(FrameType.METADATA, 0, 7, metadata_payload({"a": 1})),
        Frame(FrameType.STATUS, 0, 7, b"200"),
        Frame(FrameType.DATA, 3, 7, b'{"type": "x"}'),
        Frame(FrameType.FINISHED, 0, 7, b""),
        Frame(FrameType.FINISHED, 0, 8, failure_payload(FAILURE)),
        Frame(FrameType.FAILED, 0, 9, failure_payload(lost)),
    ]

    assert list(m.Batch("c", 1, Secret(b"".join(map(encode, frames)))).events()) == [
        (7, Metadata({"a": 1})),
        (7, Status(200)),
        (7, Data(b'{"type": "x"}')),
        (7, m.Ended(None, complete=True)),
        (8, m.Ended(FAILURE, complete=True)),
        (9, m.Ended(lost, complete=False)),
    ]
    assert m.Ended(lost, complete=False).moved
    assert not m.Ended(FAILURE, complete=False).moved
    assert not m.Ended(None, complete=True).moved


def test_the_end_of_a_request_shows_no_text_of_the_provider_s() -> None:
    said = dataclasses.replace(FAILURE, error={"message": CANARY})

    assert CANARY not in repr(m.Ended(said, complete=True))
