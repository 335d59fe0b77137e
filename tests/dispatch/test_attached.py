"""A link finds the daemon, and finds it again; that it does so with real ones is shown in tests/admin."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from pixir_actors.core.secret import Secret
from pixir_actors.dispatch import attached as module
from pixir_actors.dispatch import questions
from pixir_actors.dispatch.attached import AttachedLink
from pixir_actors.errors import AdminAlreadyRunning, AdminMismatch, AdminNotRunning, SystemStartFailed
from pixir_actors.system.cookie import proof, system_key
from pixir_actors.system.places import Places
from pixir_actors.system.runtime import Runtime
from pixir_actors.version import __version__
from tests.conftest import within

COOKIE = Secret(b"c" * 64)


def runtime(system_id: str = "one", *, port: int = 4000) -> Runtime:
    return Runtime(
        pid=7,
        born=1,
        boot_id="b",
        port=port,
        system_id=system_id,
        proof=proof(system_key(COOKIE, system_id)),
        version=__version__,
        thespian="4",
        started_at=0.0,
        log=None,
    )


class World:
    """What the runtime file says, and who has joined and left."""

    def __init__(self) -> None:
        self.runtime: Runtime | None = runtime()
        self.joined: list[int] = []
        self.left: list[object] = []
        self.started = 0
        self.lookup: Callable[[object], object] = lambda system: f"supervisor of {system}"

    def join(self, _key: bytes, port: int) -> str:
        self.joined.append(port)
        return f"system at {port}"

    def start(self, *_: object) -> Runtime:
        self.started += 1
        self.runtime = runtime("started")
        return self.runtime


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    made = World()
    monkeypatch.setattr(module, "find", lambda _: made.runtime)
    monkeypatch.setattr("pixir_actors.system.runtime.running", lambda _: [])
    monkeypatch.setattr("pixir_actors.system.fit.read_cookie", lambda _: COOKIE)
    monkeypatch.setattr(module, "join_system", made.join)
    monkeypatch.setattr(module, "leave_system", made.left.append)
    monkeypatch.setattr(module, "start_detached", made.start)
    monkeypatch.setattr(module, "FOLLOW_TIMEOUT", within(1))
    monkeypatch.setattr(questions, "supervisor_of", lambda system: made.lookup(system))
    return made


@pytest.fixture
def places(tmp_path: Path) -> Places:
    return Places.of({"HOME": str(tmp_path)})


@pytest.fixture
def link(world: World, places: Places) -> Iterator[AttachedLink]:
    made = AttachedLink(places)
    yield made
    made.close()


def test_it_joins_the_system_that_the_runtime_file_names(link: AttachedLink, world: World) -> None:
    assert world.joined == [4000]
    assert link.supervisor() == "supervisor of system at 4000"


def test_its_channel_lies_where_the_daemon_s_files_do(world: World, places: Places) -> None:
    with tempfile.TemporaryDirectory() as short:  # a Unix socket's path has at most 107 bytes
        link = AttachedLink(replace(places, runtime_dir=Path(short)))
        try:
            assert Path(str(link.channel)).is_relative_to(short)
        finally:
            link.close()


def test_closing_leaves_the_system(link: AttachedLink, world: World) -> None:
    link.close()

    assert world.left == ["system at 4000"]


def test_without_a_daemon_the_error_names_the_command(world: World, places: Places) -> None:
    world.runtime = None
    with pytest.raises(AdminNotRunning, match=r"`pixir-actors start --detach`$"):
        AttachedLink(places)
    with pytest.raises(AdminNotRunning, match=r"`pixir-actors start --detach --port 5`$"):
        AttachedLink(replace(places, port=5))


def test_a_daemon_at_another_port_is_mentioned(world: World, places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    world.runtime = None
    monkeypatch.setattr("pixir_actors.system.runtime.running", lambda _: [runtime(port=4711)])

    with pytest.raises(AdminNotRunning, match="another one runs at port 4711: name that port"):
        AttachedLink(places)


def test_it_starts_a_daemon_if_it_may(world: World, places: Places) -> None:
    world.runtime = None
    AttachedLink(places, start=True).close()

    assert world.started == 1


def test_somebody_who_was_faster_is_joined(world: World, places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    world.runtime = None

    def start(_: object) -> Runtime:
        world.runtime = runtime("theirs", port=4001)
        raise AdminAlreadyRunning("somebody was faster")

    monkeypatch.setattr(module, "start_detached", start)
    AttachedLink(places, start=True).close()

    assert world.joined == [4001]


def test_another_version_is_no_partner(world: World, places: Places) -> None:
    world.runtime = replace(runtime(), version="0.0.1")

    with pytest.raises(AdminMismatch, match=r"runs pixir_actors 0\.0\.1, this program has"):
        AttachedLink(places)
    assert world.joined == []


def test_another_cookie_is_no_partner(world: World, places: Places) -> None:
    world.runtime = replace(runtime(), proof="0" * 32)

    with pytest.raises(AdminMismatch, match="PIXIR_ACTORS_COOKIE_FILE"):
        AttachedLink(places)
    assert world.joined == []


def test_an_admin_that_does_not_answer_is_named(world: World, places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> str:
        raise SystemStartFailed("nobody listens")

    monkeypatch.setattr(module, "join_system", refuse)
    with pytest.raises(SystemStartFailed, match=r"\(pid 7\) does not answer at port 4000"):
        AttachedLink(places)


def test_a_system_that_is_replaced_while_it_is_joined_is_not_the_last_word(
    world: World, places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(key: bytes, port: int) -> str:
        if port == 4000:
            world.runtime = runtime("two", port=4002)
            raise SystemStartFailed("nobody listens")
        return world.join(key, port)

    monkeypatch.setattr(module, "join_system", refuse)
    link = AttachedLink(places)
    try:
        assert link.supervisor() == "supervisor of system at 4002"
        assert link.runtime == world.runtime
    finally:
        link.close()


def test_a_daemon_that_ends_while_it_is_joined_is_said_to_have(
    world: World, places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ends(*_: object) -> str:
        world.runtime = None
        raise SystemStartFailed("nobody listens")

    monkeypatch.setattr(module, "join_system", ends)
    with pytest.raises(AdminNotRunning):
        AttachedLink(places)


# --- following --------------------------------------------------------------------------------------------------------


def test_a_system_that_was_started_anew_is_joined_and_the_old_one_left(link: AttachedLink, world: World) -> None:
    world.runtime = runtime("two", port=4002)

    assert link.supervisor(again=True) == "supervisor of system at 4002"
    assert world.left == ["system at 4000"]
    assert link.runtime == world.runtime


def test_asking_again_in_the_same_system_joins_nothing(link: AttachedLink, world: World) -> None:
    assert link.supervisor(again=True) == "supervisor of system at 4000"
    assert world.joined == [4000]


def test_a_system_that_ends_while_it_is_asked_is_not_waited_for(link: AttachedLink, world: World) -> None:
    def dies(system: object) -> object:
        if system == "system at 4000":
            world.runtime = runtime("two", port=4002)
            raise SystemStartFailed("it has ended")
        return "the next supervisor"

    world.lookup = dies

    assert link.supervisor(again=True) == "the next supervisor"


def test_of_many_threads_one_joins(link: AttachedLink, world: World) -> None:
    world.runtime = runtime("two", port=4002)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: link.supervisor(again=True), range(8)))

    assert world.joined == [4000, 4002]


def test_a_thread_that_finds_another_has_moved_does_not_wait(link: AttachedLink, world: World) -> None:
    supervisor = link.supervisor()
    world.runtime = runtime("two", port=4002)
    link.supervisor(again=True)

    assert link.restart(supervisor)
    assert world.joined == [4000, 4002]


def test_a_daemon_that_does_not_start_anew_is_given_up(link: AttachedLink, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FOLLOW_TIMEOUT", 0.0)

    assert not link.restart(link.supervisor())


def test_a_daemon_that_has_ended_is_said_to_have(link: AttachedLink, world: World) -> None:
    world.runtime = None

    with pytest.raises(AdminNotRunning):
        link.supervisor(again=True)
    with pytest.raises(AdminNotRunning):
        link.restart(link.supervisor())


def test_a_closed_link_follows_nobody(link: AttachedLink, world: World) -> None:
    link.close()
    world.runtime = runtime("two", port=4002)

    assert not link.restart(link.supervisor())
    assert world.joined == [4000]
