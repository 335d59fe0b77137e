"""The client over fakes, and on a local system whose sockets a test scripts."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from thespian.actors import ActorSystem, InvalidActorAddress

from pixir_actors import AsyncClient
from pixir_actors import client as client_module
from pixir_actors.actors import messages as m
from pixir_actors.actors.connection import ConnectionActor
from pixir_actors.actors.supervisor import SupervisorActor
from pixir_actors.channel.frame import Frame, FrameType, failure_payload
from pixir_actors.channel.inbox import ChannelLost, Loss
from pixir_actors.client import Client
from pixir_actors.core.key import canonical
from pixir_actors.core.secret import digest
from pixir_actors.dispatch import embedded as embedded_module
from pixir_actors.dispatch.attached import AttachedLink
from pixir_actors.dispatch.embedded import EmbeddedLink
from pixir_actors.errors import (
    AdminNotRunning,
    Delivery,
    ErrorCode,
    Failure,
    InvalidRequest,
    InvalidSettings,
    PixirError,
    StreamError,
    SystemStartFailed,
)
from pixir_actors.events import Data, Event
from pixir_actors.request import Request
from pixir_actors.settings import Settings
from pixir_actors.status import SystemStatus
from tests.actors.fakes import STATUS, URL, Dialer, completed, created, delta
from tests.conftest import until
from tests.dispatch.fakes import FakeLink, Town, frame
from tests.looped import looped

CANARY = "sk-canary-4711"
REQUEST = Request.responses(model="gpt", input="hello", api_key=CANARY, base_url="https://api.example/v1")
VARIABLES = ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "NO_PROXY", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.fixture
def link() -> FakeLink:
    return FakeLink()


@pytest.fixture
def town(link: FakeLink) -> Town:
    town = Town(link)
    town.submitted = lambda made, source: source.script.append(frame(FrameType.FINISHED)) or town.accept(made, source)
    return town


@pytest.fixture(params=["thread", "loop"])
def make(request: pytest.FixtureRequest) -> Iterator[Callable[..., Client]]:
    """Make clients over a link: plain ones, and async ones that are used as if they were plain."""
    with ExitStack() as stack:

        def make(link: FakeLink, **options: Any) -> Client:
            if request.param == "thread":
                return stack.enter_context(Client(link, **options))
            return stack.enter_context(looped(AsyncClient(partial(Client, link), **options)))

        yield make


@pytest.fixture
def client(link: FakeLink, town: Town, make: Callable[..., Client]) -> Client:
    return make(link)


def run(client: Client, key: Any = "a", **options: Any) -> m.Submit:
    """Run a request to its end; return what was submitted."""
    with client.stream(key, REQUEST, **options) as stream:
        assert list(stream) == []
    submit = client._link.questions(m.Submit)[-1]  # type: ignore[attr-defined]
    assert isinstance(submit, m.Submit)
    return submit


# Options


def test_an_option_goes_over_the_settings_for_its_request_alone(
    link: FakeLink, town: Town, make: Callable[..., Client]
) -> None:
    client = make(link, settings=Settings(idle_timeout=7.0, queue_limit=3))

    assert run(client, idle_timeout=1.0).settings == Settings(idle_timeout=1.0, queue_limit=3)
    assert run(client).settings == Settings(idle_timeout=7.0, queue_limit=3)
    assert run(client, idle_timeout=None).settings.idle_timeout is None
    assert client.settings.idle_timeout == 7.0


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"idle_timeout": 0}, "idle_timeout"),
        ({"idle_timeout": "5"}, "idle_timeout"),
        ({"queue_limit": None}, "queue_limit"),
        ({"max_request_bytes": 10**12}, "max_request_bytes"),
        ({"idle_tiemout": 5}, "idle_tiemout"),
        ({"api_key": CANARY}, "api_key"),
        ({"proxy": f"http://u:{CANARY}\0"}, "proxy"),
    ],
)
def test_an_option_that_is_not_valid_is_named_and_nothing_is_sent(
    client: Client, link: FakeLink, options: dict[str, Any], field: str
) -> None:
    for use in (client.stream, client.respond):
        with pytest.raises(InvalidSettings) as caught:
            use("a", REQUEST, **options)
        assert caught.value.field == field
        assert field in str(caught.value)
        assert CANARY not in str(caught.value)
    with pytest.raises(InvalidSettings):
        client.reduce("a", REQUEST, 0, lambda event, acc: acc, **options)
    assert link.asked == []


@pytest.mark.parametrize(
    ("key", "request_", "options", "field"),
    [
        (None, REQUEST, {}, "key"),
        (["a"], REQUEST, {}, "key"),
        ("k" * 2000, REQUEST, {}, "key"),
        ("a", Request(REQUEST.url, {}, b"[]"), {}, "body"),
        ("a", REQUEST, {"max_request_bytes": 10}, "body"),
        ("a", Request("http://api.example/v1/responses", {}, b"{}"), {}, "url"),
        ("a", "what is the time?", {}, "request"),
        ("a", {"model": "m"}, {}, "request"),
        ("a", None, {}, "request"),
    ],
    ids=["no key", "unhashable", "long", "array", "large", "plaintext", "text", "mapping", "nothing"],
)
def test_a_request_that_cannot_be_sent_is_refused_before_anybody_is_asked(
    client: Client, link: FakeLink, key: Any, request_: Request, options: dict[str, Any], field: str
) -> None:
    for use in (client.stream, client.respond, client.warm):
        with pytest.raises(InvalidRequest) as caught:
            use(key, request_, **options)
        assert caught.value.field == field
    assert link.asked == []


@pytest.mark.parametrize("where", ["given", "named by the environment"])
@pytest.mark.parametrize("what", ["missing", "a directory"])
def test_a_ca_file_that_cannot_be_read_is_named_and_nothing_is_sent(
    client: Client, link: FakeLink, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, where: str, what: str
) -> None:
    path = str(tmp_path / "no.pem" if what == "missing" else tmp_path)
    if where != "given":
        monkeypatch.setenv("SSL_CERT_FILE", path)

    with pytest.raises(InvalidSettings, match=r"a PEM file that this process can read") as caught:
        client.stream("a", REQUEST, **({"ca_file": path} if where == "given" else {}))

    assert (caught.value.field, caught.value.value) == ("ca_file", path)
    assert "$SSL_CERT_FILE" in str(caught.value)
    assert link.asked == []


def test_without_tls_no_ca_file_is_looked_at(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", "/nowhere/ca.pem")
    with client.stream("a", Request("ws://127.0.0.1:9/v1/responses", {}, b"{}")):
        pass


@pytest.mark.parametrize("scheme", ["socks5", "https", "http+unix"])
@pytest.mark.parametrize("where", ["given", "named by the environment"])
def test_a_proxy_that_cannot_be_used_is_told_by_its_scheme_and_nothing_is_sent(
    client: Client, link: FakeLink, monkeypatch: pytest.MonkeyPatch, where: str, scheme: str
) -> None:
    proxy = f"{scheme}://user:{CANARY}@proxy.example:3128"
    if where != "given":
        monkeypatch.setenv("HTTPS_PROXY", proxy)

    with pytest.raises(InvalidSettings, match=r"allowed is http://") as caught:
        client.stream("a", REQUEST, **({"proxy": proxy} if where == "given" else {}))

    assert (caught.value.field, caught.value.value) == ("proxy", f"{scheme}://***")
    assert CANARY not in repr(caught.value)
    assert link.asked == []


@pytest.mark.parametrize(
    "proxy", ["http://", "http://h:port", f"http://u:{CANARY}@[::1", "http://h:0", "foo", "h:3128", f"u:{CANARY}@h"]
)
def test_a_proxy_without_a_place_is_no_proxy(client: Client, proxy: str) -> None:
    with pytest.raises(InvalidSettings) as caught:
        client.stream("a", REQUEST, proxy=proxy)
    assert caught.value.field == "proxy"
    assert CANARY not in repr(caught.value)


def test_without_its_extra_the_way_over_http_is_refused_with_the_command_that_installs_it(
    client: Client, link: FakeLink, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "_http_installed", lambda: False)
    for way in ("http", "auto"):
        with pytest.raises(InvalidSettings, match=r"pip install 'pixir_actors\[http\]'"):
            client.stream("a", REQUEST, transport=way)
    assert link.asked == []


# The environment


@pytest.fixture
def ca_file(tmp_path: Path) -> str:
    """A file that can be read; what is in it is looked at when a socket is opened."""
    path = tmp_path / "ca.pem"
    path.touch()
    return str(path)


def test_the_environment_is_read_when_a_request_is_made(
    client: Client, monkeypatch: pytest.MonkeyPatch, ca_file: str
) -> None:
    before = run(client)
    assert (before.proxy, before.settings.ca_file) == (None, None)

    monkeypatch.setenv("HTTPS_PROXY", f"http://u:{CANARY}@proxy.example:3128")
    monkeypatch.setenv("SSL_CERT_FILE", ca_file)
    after = run(client)

    assert after.proxy is not None
    assert after.proxy.reveal() == f"http://u:{CANARY}@proxy.example:3128"
    assert after.settings.ca_file == ca_file
    assert CANARY not in repr(after)
    monkeypatch.delenv("HTTPS_PROXY")
    assert run(client).proxy is None


def test_what_is_given_goes_over_the_environment(client: Client, monkeypatch: pytest.MonkeyPatch, ca_file: str) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://env.example")
    monkeypatch.setenv("SSL_CERT_FILE", "/env.pem")  # not looked at, as another one is given

    assert run(client, proxy="direct", ca_file=ca_file).proxy is None
    given = run(client, proxy="http://given.example", ca_file=ca_file)

    assert given.proxy is not None
    assert given.proxy.reveal() == "http://given.example"
    assert given.settings.ca_file == ca_file


def test_a_ca_file_is_named_from_the_root_because_actors_work_elsewhere(
    client: Client, monkeypatch: pytest.MonkeyPatch, ca_file: str
) -> None:
    monkeypatch.chdir(os.path.dirname(ca_file))
    assert run(client, ca_file="ca.pem").settings.ca_file == ca_file


# Keys


def test_namespaces_keep_the_keys_of_two_programs_apart(
    link: FakeLink, town: Town, make: Callable[..., Client]
) -> None:
    for namespace in (None, "one", "two"):
        client = make(link, namespace=namespace)
        run(client)
        with pytest.raises(StreamError):
            client.status("a")  # this supervisor knows no such question
        with pytest.raises(StreamError):
            client.close("a")

    for kind in (m.EnsureStarted, m.FindConnection, m.CloseConnection):
        keys = list(dict.fromkeys(question.key.reveal() for question in link.questions(kind)))
        assert keys == [canonical("a", namespace) for namespace in (None, "one", "two")]


def test_a_key_is_given_back_as_its_caller_wrote_it(client: Client) -> None:
    assert run(client, ("a", 1)).key.reveal() == "('a', 1)"


# Status


def test_status_of_all_comes_from_the_supervisor_and_of_one_from_its_connection(
    client: Client, link: FakeLink
) -> None:
    answers = {
        "supervisor": lambda question: m.Found(question.ask_id, "connection")
        if isinstance(question, m.FindConnection)
        else m.StatusReport(question.ask_id, (STATUS, STATUS)),
        "connection": lambda question: m.StatusReport(question.ask_id, (STATUS,)),
    }
    link.answer = lambda address, question: answers[address](question)

    assert client.status() == [STATUS, STATUS]
    assert client.status("a") == [STATUS]
    del answers["connection"]
    link.answer = lambda address, question: answers[address](question) if address in answers else None
    with pytest.raises(StreamError) as caught:
        client.status("a")
    assert (caught.value.code, caught.value.delivery) == (ErrorCode.CONNECTION_UNRESPONSIVE, Delivery.NOT_SENT)
    link.answer = lambda address, question: m.Found(question.ask_id, None)
    assert client.status("a") == []


# Reduce and respond


def test_a_failure_in_a_reduction_holds_what_was_folded_so_far(client: Client, town: Town) -> None:
    failed = failure_payload(Failure.of(ErrorCode.CONNECTION_LOST, Delivery.ACCEPTED))
    town.submitted = lambda made, source: (
        source.script.extend([frame(FrameType.DATA, b"{}"), frame(FrameType.FAILED, failed)]) or town.accept(made, source)
    )

    with pytest.raises(StreamError) as caught:
        client.reduce("a", REQUEST, 0, lambda event, acc: acc + 1)
    assert caught.value.acc == 1


def test_a_reduction_that_does_not_begin_holds_what_it_began_with(client: Client, link: FakeLink) -> None:
    link.answer = lambda address, question: None

    with pytest.raises(StreamError) as caught:
        client.reduce("a", REQUEST, ["begin"], lambda event, acc: acc)
    assert caught.value.acc == ["begin"]


@pytest.mark.parametrize("error", [ZeroDivisionError("mine"), KeyboardInterrupt(), StopIteration()])
def test_what_a_callback_raises_comes_out_unchanged_and_cancels(
    client: Client, link: FakeLink, town: Town, error: BaseException
) -> None:
    town.submitted = lambda made, source: source.script.append(frame(FrameType.DATA, b"{}")) or town.accept(made, source)

    if not isinstance(client, Client) and not isinstance(error, ZeroDivisionError):
        pytest.skip("a coroutine cannot raise it")

    def fun(event: Event, acc: int) -> int:
        raise error

    with pytest.raises(type(error)) as caught:
        client.reduce("a", REQUEST, 0, fun)
    assert caught.value is error
    assert [cancel.callback_failed for cancel in link.questions(m.Cancel)] == [True]


def test_how_the_system_is_the_supervisor_says(link: FakeLink) -> None:
    told = SystemStatus(
        pid=1, version="1.0", connections=1, max_descriptors=1024, refusals=0, draining=False, uptime_s=1.0
    )
    link.answer = lambda address, question: m.SystemReport(question.ask_id, told)
    assert Client(link).system() == told
    assert [type(question) for _, question, _ in link.asked] == [m.GetSystem]

    link.answer = lambda address, question: None
    with pytest.raises(StreamError) as caught:
        Client(link).system()
    assert caught.value.code is ErrorCode.CONNECTION_UNRESPONSIVE


# Closing


def test_a_closed_client_refuses_everything_and_closes_once(client: Client, link: FakeLink) -> None:
    client.close()
    client.close()
    assert link.closed == 1
    assert link.questions(m.StopAll) == [], "the system is not its own"

    uses = [
        lambda: client.stream("a", REQUEST),
        lambda: client.respond("a", REQUEST),
        lambda: client.status(),
        lambda: client.status("a"),
        lambda: client.close("a"),
        lambda: client.close_connection("c-1"),
    ]
    for use in uses:
        with pytest.raises(StreamError) as caught:
            use()
        assert (caught.value.code, caught.value.delivery) == (ErrorCode.SHUTTING_DOWN, Delivery.NOT_SENT)
        assert "this client is closed" in str(caught.value)


def test_where_no_admin_runs_any_more_there_is_nothing_to_close(
    client: Client, link: FakeLink, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(client)

    def ended(*, again: bool = False) -> Any:
        raise AdminNotRunning("no admin is running")

    monkeypatch.setattr(link, "supervisor", ended)
    client.close("a")
    with pytest.raises(AdminNotRunning):
        client.status("a")


@pytest.mark.parametrize("answers", [True, False])
def test_a_system_of_its_own_is_stopped_before_it_ends(client: Client, link: FakeLink, answers: bool) -> None:
    link.owns_system = True
    link.answer = lambda address, question: m.ConnectionClosed(question.ask_id, True) if answers else None
    client.close()

    assert len(link.questions(m.StopAll)) == 1
    assert link.closed == 1


def test_a_client_is_closed_by_its_block_also_after_an_exception(client: Client, link: FakeLink) -> None:
    with pytest.raises(ZeroDivisionError), client:
        _ = 1 / 0

    assert link.closed == 1


# How it prints


@pytest.mark.parametrize("expose", [False, True])
def test_a_client_and_its_streams_print_what_helps_in_a_log(
    link: FakeLink, town: Town, make: Callable[..., Client], expose: bool
) -> None:
    key = repr(CANARY) if expose else digest(canonical(CANARY, "n"))
    client = make(link, namespace="n", settings=Settings(expose_keys=expose))
    real, name = getattr(client, "client", client), "Async" * hasattr(client, "client")
    town.submitted = lambda made, source: town.accept(made, source)
    stream = client.stream(CANARY, REQUEST)
    shown = getattr(stream, "_stream", stream)

    assert repr(real) == f"<{name}Client over open>"
    assert repr(shown) == f"<{name}Stream key={key} running>"
    link.sources[-1].script.append(frame(FrameType.FINISHED))
    assert list(stream) == []
    assert repr(shown) == f"<{name}Stream key={key} finished>"
    client.close()
    assert repr(real) == f"<{name}Client over closed>"


LOST = failure_payload(Failure.of(ErrorCode.CONNECTION_LOST, Delivery.ACCEPTED))
SAID_NO = failure_payload(
    Failure(code=ErrorCode.PROVIDER_HTTP_ERROR, delivery=Delivery.REJECTED, retryable=False, error={"message": CANARY})
)


@pytest.mark.parametrize(
    ("last", "state"),
    [
        (frame(FrameType.FAILED, LOST), "failed: connection_lost"),
        (frame(FrameType.FINISHED, SAID_NO), "failed: provider_http_error"),
        (ChannelLost(Loss(clean=False)), "failed: connection_lost"),
    ],
    ids=["failed", "refused", "lost"],
)
def test_a_stream_that_failed_prints_its_code(
    client: Client, town: Town, link: FakeLink, last: Frame | Exception, state: str
) -> None:
    town.submitted = lambda made, source: source.script.append(last) or town.accept(made, source)
    with client.stream("a", REQUEST) as stream:
        with suppress(StreamError):
            list(stream)
    assert f" key={digest(canonical('a', None))} {state}>" in repr(getattr(stream, "_stream", stream))


def test_a_stream_that_was_left_prints_that(client: Client, town: Town) -> None:
    town.submitted = lambda made, source: town.accept(made, source)
    with client.stream("a", REQUEST) as stream:
        pass
    assert repr(getattr(stream, "_stream", stream)).endswith(" cancelled>")


# Making one


class Base:
    """An actor system of some base."""

    def __init__(self, **capabilities: Any) -> None:
        self.capabilities = capabilities
        self.created = 0

    def createActor(self, kind: Any, globalName: str) -> Any:
        self.created += 1
        raise InvalidActorAddress("address", "no admin")


@pytest.mark.parametrize("base", ["multiprocUDPBase", "multiprocQueueBase"])
def test_a_base_that_cannot_watch_is_refused_with_the_one_that_can(base: str) -> None:
    system = Base(**{"Thespian ActorSystem Name": base, "Thespian Watch Supported": False})

    with pytest.raises(SystemStartFailed) as caught:
        Client.over(system)

    assert base in str(caught.value)
    assert "multiprocTCPBase" in str(caught.value)
    assert system.created == 0


def test_a_system_that_starts_no_supervisor_is_refused_and_nothing_is_left() -> None:
    before = sorted(os.listdir("/proc/self/fd"))
    system = Base(**{"Thespian ActorSystem Name": "multiprocTCPBase", "Thespian Watch Supported": True})

    with pytest.raises(SystemStartFailed):
        Client.over(system)

    assert until(lambda: sorted(os.listdir("/proc/self/fd")) == before)


def test_an_embedded_system_that_does_not_start_is_told_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    class Unwilling:
        @classmethod
        def start(cls) -> Any:
            raise SystemStartFailed("it did not start")

    monkeypatch.setattr(embedded_module, "EmbeddedSystem", Unwilling)
    with pytest.raises(SystemStartFailed, match="it did not start"):
        Client.embedded()


def test_an_embedded_system_without_a_supervisor_is_closed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    closed: list[str] = []

    class Hollow:
        actor_system = Base()

        @classmethod
        def start(cls) -> Any:
            return cls()

        def close(self) -> None:
            closed.append("closed")

    monkeypatch.setattr(embedded_module, "EmbeddedSystem", Hollow)
    before = sorted(os.listdir("/proc/self/fd"))

    with pytest.raises(SystemStartFailed):
        Client.embedded()

    assert closed == ["closed"]
    assert until(lambda: sorted(os.listdir("/proc/self/fd")) == before)


# On a local system, with sockets of the test's own



@pytest.fixture
def dialer(monkeypatch: pytest.MonkeyPatch) -> Iterator[Dialer]:
    class Answering(Dialer):
        def _new(self) -> Any:
            transport = super()._new()
            take = transport.send_text

            def send_text(data: bytes) -> Any:
                number = sum(len(one.sent) for one in self.transports) + 1
                transport.push(created(f"resp_{number}"), delta("hi"), completed(f"resp_{number}"))
                return take(data)

            transport.send_text = send_text  # type: ignore[method-assign]
            return transport

    dialer = Answering()
    monkeypatch.setattr(ConnectionActor, "connect", staticmethod(dialer))
    yield dialer
    dialer.close()


LOCAL = Request.responses(model="gpt", input="hello", api_key=CANARY, base_url=URL.removesuffix("/responses"))


def test_a_local_client_runs_requests_in_its_own_thread(dialer: Dialer) -> None:
    with Client.local() as client:
        with client.stream("a", LOCAL) as stream:
            kinds = [type(event).__name__ for event in stream]
        assert kinds == ["Metadata", "Status", "Data", "Data", "Data", "Metadata"]
        assert stream.text == "hi"
        assert stream.metadata["websocket_captured_response_id"] == "resp_1"
        assert client.respond("a", LOCAL)["id"] == "resp_2"
        assert client.reduce("b", LOCAL, 0, lambda event, acc: acc + isinstance(event, Data)) == 3

        assert [status.turns for status in client.status("a")] == [2]
        assert until(lambda: len(client.status()) == 2), "the reports come behind the requests"
        assert client.status("c") == []
        client.close("b")
        assert client.status("b") == []
    assert all(transport.closed for transport in dialer.transports)
    assert [transport.close_code for transport in dialer.transports] == [1000, 1000]


def test_a_connection_is_closed_by_its_id_whatever_its_key(dialer: Dialer) -> None:
    with Client.local() as client:
        client.respond(("a", 1), LOCAL)
        (status,) = client.status()

        assert client.close_connection(status.connection_id)

        assert client.status(("a", 1)) == []
        assert dialer.transports[0].closed
        assert not client.close_connection(status.connection_id)
        assert client.respond(("a", 1), LOCAL)["id"] == "resp_2"
        assert len(dialer.transports) == 2


def test_a_local_client_leaves_nothing(dialer: Dialer) -> None:
    Client.local().close()
    before, threads = sorted(os.listdir("/proc/self/fd")), threading.active_count()

    with Client.local() as client:
        for key in "abc":
            client.respond(key, LOCAL)
        with client.stream("d", LOCAL) as stream:
            next(stream)
    dialer.close()

    assert sorted(os.listdir("/proc/self/fd")) == before
    assert threading.active_count() == threads


def test_a_local_client_says_that_another_thread_cannot_use_it(dialer: Dialer) -> None:
    errors: list[Exception] = []

    def elsewhere() -> None:
        try:
            client.stream("a", LOCAL)
        except PixirError as error:
            errors.append(error)

    with Client.local() as client:
        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join()
        client.respond("a", LOCAL)

    assert "belongs to the thread that made it" in str(errors[0])


def test_a_host_s_own_simple_system_is_used_and_left_running(dialer: Dialer) -> None:
    system = ActorSystem("simpleSystemBase", logDefs=False, transientUnique=True)
    with Client.over(system) as client:
        assert client.respond("a", LOCAL)["id"] == "resp_1"
    with Client.over(system) as client:
        assert client.respond("a", LOCAL)["id"] == "resp_2", "over the same connection"
        assert len(dialer.targets) == 1
        client.close("a")
    assert system.createActor(SupervisorActor, globalName=m.SUPERVISOR_NAME) is not None
    system.shutdown()


def test_a_local_client_prints_as_one_and_over_a_host_s_system_it_is_over_it(dialer: Dialer) -> None:
    client = Client.local()
    assert repr(client) == "<Client local open>"
    client.close()
    assert (repr(client), client.kind) == ("<Client local closed>", "local")
    system = ActorSystem("simpleSystemBase", logDefs=False, transientUnique=True)
    with Client.over(system) as client:
        assert repr(client) == "<Client over open>"
    system.shutdown()
    assert (EmbeddedLink.kind, AttachedLink.kind) == ("embedded", "attached")
