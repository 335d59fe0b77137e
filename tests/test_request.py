"""A request as its caller states it, and what is refused before anything is sent.

Covers C22 (a malformed request is an error of the caller's own, and crashes nobody), the first half of "bad input gets".
"""

from __future__ import annotations

import copy
import pickle
from dataclasses import replace
from typing import Any

import orjson
import pytest

from pixir_actors.errors import InvalidRequest
from pixir_actors.request import Request

URL = "https://api.example/v1/responses"

BAD_URLS: dict[str, tuple[Any, str]] = {
    "no text": (None, "is a NoneType, not a text"),
    "bytes": (b"https://h", "is a bytes, not a text"),
    "another scheme": ("ftp://h/x", "has the scheme 'ftp'"),
    "no scheme": ("h/x", "has the scheme ''"),
    "nothing": ("", "has the scheme ''"),
    "no host": ("https:///x", "has no host"),
    "a port only": ("https://:1/x", "has no host"),
    "a port that is none": ("https://h:x/", "host or port is malformed"),
    "a port out of range": ("https://h:65536/", "host or port is malformed"),
    "an IPv6 address cut off": ("https://[::1/", "host or port is malformed"),
    "a user part": ("https://CANARY:pw@h/", "has a user part: credentials belong into headers"),
    "a user without a password": ("https://CANARY@h/", "has a user part"),
    "a malformed host behind a user part": ("https://CANARY@h\u2100/", "host or port is malformed"),
    "a line break": ("https://h/\r\nX-Canary: 1", "has a space or a control character"),
    "a space": ("https://h/a b", "has a space or a control character"),
    "a trailing space": ("https://h/ ", "has a space or a control character"),
}


@pytest.mark.parametrize(("url", "problem"), BAD_URLS.values(), ids=BAD_URLS)
def test_a_url_that_leads_nowhere_is_refused(url: Any, problem: str) -> None:
    for build in (lambda: Request(url), lambda: Request.responses(model="m", input="i", base_url=url)):
        with pytest.raises(InvalidRequest, match=problem) as caught:
            build()

        assert caught.value.field == "url"
        assert "CANARY" not in str(caught.value)
        assert caught.value.__context__ is None


@pytest.mark.parametrize("url", ["http://h", "https://h/p?q=1", "ws://127.0.0.1:1/", "wss://[::1]:443/x", "HTTPS://H/"])
def test_a_url_is_kept_as_it_was_given(url: str) -> None:
    assert Request(url).url == url


BAD_HEADERS: dict[str, tuple[Any, str]] = {
    "none": (None, "must be a mapping, or pairs"),
    "a number": (5, "must be a mapping, or pairs"),
    "a text": ("Authorization: x", "must be a mapping, or pairs"),
    "triples": ([("a", "b", "c")], "must be a mapping, or pairs"),
    "a name that is no text": ({b"A": "x"}, "must have names and values that are texts"),
    "a value that is no text": ({"A": 1}, "must have names and values that are texts"),
    "no name": ({"": "x"}, "have the name ''"),
    "a line break in a name": ({"A\r\nB": "x"}, "have the name"),
    "a space in a name": ({"A B": "x"}, "have the name 'A B'"),
    "a colon in a name": ({"A:": "x"}, "have the name 'A:'"),
    "a letter beyond ASCII in a name": ({"Ä": "x"}, "have the name"),
    "a line break in a value": ({"A": "CANARY\r\nB: x"}, "character in the value of 'A'"),
    "a NUL in a value": ({"A": "CANARY\0"}, "character in the value of 'A'"),
    "a DEL in a value": ({"A": "CANARY\x7f"}, "character in the value of 'A'"),
    "a letter beyond latin-1 in a value": ({"A": "CANARY\u20ac"}, "character in the value of 'A'"),
    "too many of them": ({"A": "x" * 70_000}, "are larger than 65536 bytes"),
}


@pytest.mark.parametrize(("headers", "problem"), BAD_HEADERS.values(), ids=BAD_HEADERS)
def test_headers_that_cannot_be_sent_are_refused_without_their_values(headers: Any, problem: str) -> None:
    for build in (lambda: Request(URL, headers), lambda: Request.responses(model="m", input="i", headers=headers)):
        with pytest.raises(InvalidRequest, match=problem) as caught:
            build()

        assert caught.value.field == "headers"
        assert "CANARY" not in str(caught.value)


def test_headers_keep_order_case_and_duplicates() -> None:
    pairs = [("X-B", "2"), ("x-a", "1\t"), ("X-B", "ü")]

    assert Request(URL, pairs).headers == tuple(pairs)
    assert Request(URL, dict(pairs[:2])).headers == tuple(pairs[:2])
    assert Request(URL, iter(pairs)).headers == tuple(pairs)


BODIES: dict[str, tuple[Any, bytes]] = {
    "bytes": (b" {} ", b" {} "),
    "a bytearray": (bytearray(b"{}"), b"{}"),
    "a memoryview": (memoryview(b"{}"), b"{}"),
    "a text": ('{"a":"ü"}', b'{"a":"\xc3\xbc"}'),
    "a mapping": ({"a": [1, None]}, b'{"a":[1,null]}'),
    "what is no JSON object is found when it is sent": (b"[", b"["),
}


@pytest.mark.parametrize(("body", "expected"), BODIES.values(), ids=BODIES)
def test_a_body_becomes_bytes(body: Any, expected: bytes) -> None:
    assert Request(URL, {}, body).body == expected


def test_of_a_mapping_the_names_are_known_and_make_no_difference() -> None:
    made, same = Request(URL, {}, {"a": 1, "b": 2}), Request(URL, {}, b'{"a":1,"b":2}')

    assert (made.field_names, same.field_names) == ({"a", "b"}, None)
    assert made == same
    assert hash(made) == hash(same)
    assert replace(made, url=URL) == made
    assert pickle.loads(pickle.dumps(made)).field_names == made.field_names
    assert "field_names" not in repr(made)


class Unprintable:
    def __repr__(self) -> str:
        return "CANARY"


BAD_BODIES: dict[str, tuple[Any, str]] = {
    "a list": ([], "is a list: allowed are bytes, text or a mapping"),
    "none": (None, "is a NoneType"),
    "a value that JSON does not have": ({"a": Unprintable()}, "cannot be written as JSON"),
    "a name that is no text": ({1: 2}, "cannot be written as JSON"),
    "half a surrogate pair": ({"a": "CANARY\ud800"}, "cannot be written as JSON"),
    "a number too large": ({"a": 2**70}, "cannot be written as JSON"),
}


@pytest.mark.parametrize(("body", "problem"), BAD_BODIES.values(), ids=BAD_BODIES)
def test_a_body_that_cannot_be_written_is_refused(body: Any, problem: str) -> None:
    with pytest.raises(InvalidRequest, match=problem) as caught:
        Request(URL, {}, body)

    assert caught.value.field == "body"
    assert "CANARY" not in str(caught.value)
    assert caught.value.__context__ is None


def test_responses_assembles_url_headers_and_body() -> None:
    request = Request.responses(
        model="gpt",
        input=[{"role": "user", "content": "hi"}],
        api_key="sk-1",
        base_url="https://h/v1/",
        headers={"X-Team": "a"},
        tools=[],
        instructions=None,
    )

    assert request.url == "https://h/v1/responses"
    assert request.headers == (("X-Team", "a"), ("Authorization", "Bearer sk-1"))
    assert orjson.loads(request.body) == {"model": "gpt", "input": [{"role": "user", "content": "hi"}], "tools": []}


def test_responses_keeps_the_query_of_the_base_url_and_sends_no_bearer_without_a_key() -> None:
    request = Request.responses(model="m", input="hi", base_url="https://h/openai/v1?api-version=1")

    assert request.url == "https://h/openai/v1/responses?api-version=1"
    assert request.headers == ()
    assert Request.responses(model="m", input="hi").url == "https://api.openai.com/v1/responses"


@pytest.mark.parametrize(
    ("wrong", "said"), [(7, "is a int"), (b"CANARY", "is a bytes"), ("", "is empty"), (" \t", "is empty")], ids=repr
)
def test_an_api_key_that_is_none_is_an_error_here_and_not_a_401_there(wrong: Any, said: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        Request.responses(model="m", input="hi", api_key=wrong)

    assert str(caught.value) == f"invalid request: api_key {said}: allowed is a text, or None to send no Authorization"
    assert caught.value.field == "api_key"


def test_a_key_with_a_line_break_is_refused_and_not_shown() -> None:
    with pytest.raises(InvalidRequest, match="'Authorization'") as caught:
        Request.responses(model="m", input="hi", api_key="CANARY\n")

    assert "CANARY" not in str(caught.value)


def test_a_request_prints_neither_token_nor_prompt_nor_query() -> None:
    request = Request("https://h:1/v1?key=CANARY", {"Authorization": "CANARY"}, {"input": "CANARY"})

    assert repr(request) == "Request(https://h:1/v1, headers=[Authorization], body=<18 bytes>)"
    assert repr(Request("http://[::1]:8080/v1")) == "Request(http://[::1]:8080/v1, headers=[], body=<2 bytes>)"


def test_a_request_is_a_value() -> None:
    request = Request(URL, {"A": "b"}, {"input": "hi"})

    assert request == Request(URL, [("A", "b")], b'{"input":"hi"}')
    assert hash(request) == hash(copy.copy(request))
    assert pickle.loads(pickle.dumps(request)) == request
    with pytest.raises(AttributeError):
        request.url = "other"  # type: ignore[misc]
