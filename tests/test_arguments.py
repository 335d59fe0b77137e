"""What a client cannot be made with is told by its name and type, before anything is started."""

from __future__ import annotations

import os
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from pixir_actors import AsyncClient, Client
from pixir_actors import client as client_module
from pixir_actors.arguments import capabilities_of, check_port
from pixir_actors.errors import InvalidSettings
from pixir_actors.settings import Settings
from tests.dispatch.fakes import FakeLink

CANARY = "canary-4711"
NO_SYSTEM = SimpleNamespace(capabilities={})


@pytest.fixture(autouse=True)
def nothing_is_started(monkeypatch: pytest.MonkeyPatch) -> None:
    def started(*_: Any, **__: Any) -> Any:
        raise AssertionError("something was started")

    for name in ("EmbeddedLink", "AttachedLink", "LocalLink", "RemoteLink", "ActorSystem"):
        monkeypatch.setattr(client_module, name, started)


MAKERS = {
    "embedded": Client.embedded,
    "attach": Client.attach,
    "over": lambda **given: Client.over(NO_SYSTEM, **given),
    "local": Client.local,
    "made": lambda **given: Client(FakeLink(), **given),
    "async embedded": AsyncClient.embedded,
    "async attach": AsyncClient.attach,
    "async over": lambda **given: AsyncClient.over(NO_SYSTEM, **given),
}
WRONG = [
    ({"settings": {"idle_timeout": CANARY}}, "settings is a dict: allowed is a Settings"),
    ({"settings": 0}, "settings is a int: allowed is a Settings"),
    ({"settings": Settings}, "settings is a type: allowed is a Settings"),
    ({"namespace": 3}, "namespace is a int: allowed is a text, or None"),
    ({"namespace": CANARY.encode()}, "namespace is a bytes: allowed is a text, or None"),
    ({"settings": Settings(proxy=CANARY)}, r"proxy='\*\*\*' is not valid: allowed is http://"),
    ({"settings": Settings(proxy=f"socks5://u:{CANARY}@h")}, r"proxy='socks5://\*\*\*' is not valid: allowed is http://"),
]


@pytest.mark.parametrize(("given", "said"), WRONG, ids=[said for _, said in WRONG])
@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_what_a_client_cannot_be_made_with_is_told_and_nothing_is_started(
    make: Callable[..., object], given: dict[str, Any], said: str
) -> None:
    with pytest.raises(InvalidSettings, match=said) as caught:
        make(**given)

    assert caught.value.field in (*given, "proxy")
    assert CANARY not in str(caught.value) + repr(caught.value)


@pytest.mark.parametrize("over", [Client.over, AsyncClient.over])
@pytest.mark.parametrize("wrong", [3, None, CANARY, SimpleNamespace(capabilities=None)])
def test_what_is_no_actor_system_is_told_by_its_type(over: Callable[..., object], wrong: Any) -> None:
    said = rf"actor_system is a {type(wrong).__name__}: .* on multiprocTCPBase"
    with pytest.raises(InvalidSettings, match=said) as caught:
        over(wrong)
    assert CANARY not in str(caught.value) + repr(caught.value)


@pytest.mark.parametrize("attach", [Client.attach, AsyncClient.attach])
@pytest.mark.parametrize(
    ("wrong", "said"), [("5", "port is a str"), (True, "port is a bool"), (0, "port=0 is"), (65536, "port=65536 is")]
)
def test_what_is_no_port_is_told(attach: Callable[..., object], wrong: Any, said: str) -> None:
    with pytest.raises(InvalidSettings, match=rf"{said}.*: allowed is a whole number from 1 to 65535, or None"):
        attach(wrong)


def test_a_port_and_an_actor_system_that_are_ones_are_taken() -> None:
    for port in (None, 1, 65535):
        check_port(port)
    assert capabilities_of(SimpleNamespace(capabilities=os.environ)) is os.environ
