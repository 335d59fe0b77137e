"""Closing a key's connection from the command line."""

from __future__ import annotations

import pytest

from tests.cli.conftest import Run
from tests.cli.fakes import FakeClient, connection


def test_the_connection_is_closed_and_the_admin_is_left(
    run: Run, client: FakeClient, capsys: pytest.CaptureFixture[str]
) -> None:
    client.connections = [connection("k")]
    assert run("close", "k", "--namespace", "n", "--port", "1234") == 0
    assert client.closed == ["k", None]
    assert client.attached_with == [{"port": 1234, "namespace": "n"}]
    assert capsys.readouterr() == ("", "closed\n")


def test_a_connection_is_closed_by_what_status_shows_of_it(run: Run, client: FakeClient) -> None:
    client.connections, client.texts = [connection("97d0d24dd07f", connection_id="c7")], False
    assert run("close", "97d0d24dd07f") == 0
    assert (client.closed_connections, client.closed) == (["c7"], [None])


def test_a_key_without_a_connection_has_an_exit_code_of_its_own(
    run: Run, client: FakeClient, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("close", "k", "--namespace", "n") == 4
    assert client.closed == [None]
    assert capsys.readouterr() == ("", "pixir-actors: this key has no connection (namespace: n)\n")


@pytest.mark.parametrize("command", ["close", "status"])
def test_the_help_says_what_a_key_may_be(run: Run, capsys: pytest.CaptureFixture[str], command: str) -> None:
    assert run(command, "--help") == 0
    said = "a text key, or one as `status` shows it in its column KEY; in the --namespace, but for a digest"
    assert said in " ".join(capsys.readouterr().out.split())
