"""What a KEY of the command line means, with real keys."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest

from pixir_actors.cli.lookup import look_up
from pixir_actors.client import Client
from pixir_actors.core.key import canonical
from pixir_actors.core.secret import digest
from pixir_actors.errors import InvalidRequest
from pixir_actors.request import Request
from pixir_actors.simulator import Simulator


@pytest.fixture
def client() -> Iterator[Client]:
    with Client.local() as client:
        yield client


@pytest.fixture
def use(client: Client) -> Iterator[Any]:
    """Have a key use its connection in a namespace."""
    with Simulator() as sim:
        request = Request.responses(model="m", input="hello", base_url=sim.base_url)

        def use(key: Any, namespace: str | None = None, **options: Any) -> None:
            client.namespace = namespace
            client.respond(key, request, **options)

        yield use


def test_a_text_key_is_itself(client: Client, use: Any) -> None:
    use("k", "n")
    meant = look_up(client, "k", "n")
    assert meant.as_text and meant.connection is not None and meant.connection.turns == 1


@pytest.mark.parametrize("key", [("tenant", 7), 7, b"k", "k"])
def test_a_digest_is_a_connection_of_whatever_key_and_namespace(client: Client, use: Any, key: Any) -> None:
    use(key, "other")
    use("more", None)
    shown = digest(canonical(key, "other"))
    meant = look_up(client, shown, None)
    assert meant.connection is not None and not meant.as_text
    assert meant.connection.key == shown
    assert client.close_connection(meant.connection.connection_id)
    assert look_up(client, shown, None).connection is None


def test_a_text_key_counts_before_a_digest_that_reads_the_same(client: Client, use: Any) -> None:
    use(7)
    shown = digest(canonical(7, None))
    use(shown)
    assert look_up(client, shown, None).as_text


def test_an_exposed_key_is_found_as_it_is_shown(client: Client, use: Any) -> None:
    use(("tenant", 7), expose_keys=True)
    meant = look_up(client, "('tenant', 7)", None)
    assert meant.connection is not None and not meant.as_text


@pytest.mark.parametrize(("key", "written"), [(7, "7"), (b"k", "b'k'"), (("tenant", 7), "('tenant', 7)"), ("k", "'k'")])
@pytest.mark.parametrize("exposed", [False, True])
def test_a_key_that_is_written_as_python_does_is_that_of_the_namespace(
    client: Client, use: Any, key: Any, written: str, exposed: bool
) -> None:
    for namespace in ("a", "b"):
        use(key, namespace, expose_keys=exposed)
    use(key, "b", expose_keys=exposed)
    meant = look_up(client, written, "b")
    assert meant.connection is not None and meant.connection.turns == 2

    client.namespace = "c"
    missing = look_up(client, written, "c")
    assert missing.connection is None, "whoever names a namespace does not mean another one's"
    hint = ["it has one in another namespace: name that with --namespace"] if exposed else []
    assert missing.missing[1:] == hint


def test_a_connection_s_id_is_one_in_whatever_namespace(client: Client, use: Any) -> None:
    for namespace in ("a", "b"):
        use(7, namespace)
    for status in client.status():
        meant = look_up(client, status.connection_id, None)
        assert meant.connection is not None and meant.connection.connection_id == status.connection_id


@pytest.mark.parametrize("key", ["(" * 300, "{}", "1.5", "None", "[1]", "{[]}", "'C:\\dir'", "9" * 10_000])
def test_what_can_be_no_key_is_a_text(client: Client, key: str) -> None:
    with suppress(InvalidRequest):  # it may be too long for that, too
        assert look_up(client, key, None).connection is None


def test_what_is_missing_is_told_with_the_namespace_and_where_else_it_is(client: Client, use: Any) -> None:
    assert look_up(client, "k", None).missing == ["this key has no connection (namespace: none)"]
    use("k", None)
    client.namespace = "n"
    said = look_up(client, "k", "n").missing
    assert said[0] == "this key has no connection (namespace: n)"
    assert said[1:] == ["it has one without a namespace: leave out --namespace, or what else sets it"]
    use("shown", "n", expose_keys=True)
    client.namespace = None
    assert look_up(client, "shown", None).missing[1:] == ["it has one in another namespace: name that with --namespace"]
