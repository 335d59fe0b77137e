"""The API key out of the environment: what can be sent, and what is said if not."""

from __future__ import annotations

import pytest

from pixir_actors.cli.apikey import authorization, key_of, problem_of
from pixir_actors.cli.options import WrongUsage

FAR = "https://example.com/v1"
KEY = "sk-canary"


def test_a_key_is_taken_as_it_is() -> None:
    assert key_of(FAR, "OPENAI_API_KEY", {"OPENAI_API_KEY": KEY}) == KEY
    assert authorization(KEY) == (("Authorization", "Bearer sk-canary"),)
    assert problem_of(KEY) is None


@pytest.mark.parametrize("key", [KEY + "\n", f" {KEY}", f"Bearer {KEY}", f"{KEY}\N{BULLET}", " "])
@pytest.mark.parametrize("url", [FAR, "http://localhost/v1"])
def test_a_key_that_no_header_can_carry_is_refused_and_not_repeated(key: str, url: str) -> None:
    with pytest.raises(WrongUsage, match=r"the API key in \$OPENAI_API_KEY has .*: nothing was sent; set it anew") as caught:
        key_of(url, "OPENAI_API_KEY", {"OPENAI_API_KEY": key})
    assert KEY not in str(caught.value)


def test_on_loopback_none_is_needed() -> None:
    assert key_of("http://127.0.0.1:1/v1", "OPENAI_API_KEY", {}) is None


def test_elsewhere_a_missing_one_says_where_none_is_needed() -> None:
    with pytest.raises(WrongUsage, match=r"\$OPENAI_API_KEY is not set.*loopback needs none: `pixir-actors simulate`"):
        key_of(FAR, "OPENAI_API_KEY", {})


def test_a_key_in_place_of_the_variable_s_name_is_not_repeated() -> None:
    for name in ("sk-canary", "canary"):
        with pytest.raises(WrongUsage) as caught:
            key_of(FAR, name, {})
        assert "canary" not in str(caught.value)
