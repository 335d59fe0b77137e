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


def test_a_key_without_a_connection_has_an_exit_code_of_its_own(run: Run, client: FakeClient) -> None:
    assert run("close", "k") == 4
    assert client.closed == [None]
