"""Who may come in."""

from __future__ import annotations

import pytest

from pixir_actors.simulator.door import Door


def refused(path: str = "/v1/responses", authorization: str = "", api_key: str | None = None) -> int | None:
    rejection = Door(None, api_key, None, 100).refusal(path, authorization)
    return None if rejection is None else rejection.http_status


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/v1/responses", None),
        ("/v1/responses?b=c", None),
        ("/responses", 404),
        ("/v1/v1/responses", 404),
        ("/v1/responses/", 404),
        ("/v1/chat?x=/v1/responses", 404),
        ("", 404),
    ],
)
def test_only_the_path_that_it_names_is_there(path: str, status: int | None) -> None:
    assert refused(path) == status


@pytest.mark.parametrize(
    ("header", "status"), [("Bearer k", None), ("Bearer K", 401), ("k", 401), ("", 401), ("Bearer é", 401)]
)
def test_only_the_right_bearer_comes_in(header: str, status: int | None) -> None:
    assert refused(authorization=header, api_key="k") == status


def test_without_a_key_every_bearer_comes_in() -> None:
    assert refused(authorization="Bearer whatever") is None
