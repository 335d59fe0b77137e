"""HTTP/1.1 as bytes, in any pieces."""

from __future__ import annotations

import pytest

from pixir_actors.simulator.http_parser import HttpParser, Post

BODY = b'{"model":"m"}'
REQUEST = b"POST /v1/responses?a=b HTTP/1.1\r\nHost: x\r\nX-One: 1\r\nx-one: 2\r\nContent-Length: 13\r\n\r\n" + BODY


def parsed(parser: HttpParser, data: bytes, size: int) -> Post | None:
    for start in range(0, len(data), size):
        sent, post = parser.receive(data[start : start + size])
        assert sent == b""
        if post is not None:
            return post
    return None


def code(post: Post | None) -> tuple[str, int] | None:
    assert post is not None
    return None if post.problem is None else (post.problem.code, post.problem.http_status)


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_a_request_is_read_in_any_pieces(size: int) -> None:
    post = parsed(HttpParser(100), REQUEST, size)
    assert post is not None and post.problem is None
    assert (post.method, post.path, post.body, post.size) == ("POST", "/v1/responses?a=b", BODY, 13)
    assert [pair for pair in post.headers if pair[0].lower() == "x-one"] == [("X-One", "1"), ("x-one", "2")]
    assert (post.header("X-ONE"), post.header("absent")) == ("1", "")


def test_a_chunked_body_is_put_together() -> None:
    head = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    post = parsed(HttpParser(100), head + b"2\r\n{}\r\n3\r\nabc\r\n0\r\n\r\n", 1)
    assert post is not None
    assert (post.body, post.size) == (b"{}abc", 5)


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"POST nonsense\r\n\r\n", ("invalid_http", 400)),
        (b"POST / HTTP/1.1\r\n\r\n", ("invalid_http", 400)),
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", ("invalid_http", 400)),
        (b"POST / HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 70_000, ("invalid_http", 431)),
        (b"POST / HTTP/1.0\r\nHost: x\r\nContent-Length: 1\r\n\r\nx", ("unsupported_http_version", 505)),
    ],
)
def test_what_is_malformed_says_why(data: bytes, problem: tuple[str, int]) -> None:
    parser = HttpParser(100)
    assert code(parsed(parser, data, 100_000)) == problem
    assert b" %d " % problem[1] in parser.whole(problem[1], [], b"")
    assert not parser.finish()


def test_after_malformed_data_nothing_is_read() -> None:
    parser = HttpParser(100)
    parser.receive(b"POST nonsense\r\n\r\n")
    assert parser.receive(REQUEST) == (b"", None)
    assert b"Connection: close" in parser.whole(400, [], b"")


@pytest.mark.parametrize(("limit", "problem"), [(13, None), (12, ("request_too_large", 413))])
def test_a_body_is_bounded_and_read_to_its_end(limit: int, problem: tuple[str, int] | None) -> None:
    parser = HttpParser(limit)
    post = parsed(parser, REQUEST, 4)
    assert post is not None
    assert (code(post), post.size, len(post.body) <= limit) == (problem, 13, True)
    parser.whole(200, [], b"")
    assert parser.finish()
    assert parser.receive(REQUEST)[1] is not None


def test_the_next_request_waits_for_the_end_of_the_answer() -> None:
    parser = HttpParser(100)
    assert parser.receive(REQUEST + REQUEST)[1] is not None
    parser.head(200, [])
    assert parser.receive() == (b"", None)
    assert parser.finish()
    assert parser.receive()[1] is not None


def test_a_client_that_asks_is_told_to_go_on_with_its_body() -> None:
    parser = HttpParser(100)
    sent, post = parser.receive(REQUEST.removesuffix(BODY).replace(b"X-One: 1", b"Expect: 100-continue"))
    assert (sent, post) == (b"HTTP/1.1 100 \r\n\r\n", None)
    assert parser.receive(BODY[:3]) == (b"", None)
    assert parser.receive(BODY[3:])[1] is not None


def test_a_head_says_how_the_body_ends() -> None:
    parser = HttpParser(100)
    parser.receive(REQUEST)
    head = parser.head(200, [("X-Two", "2")])
    assert head.startswith(b"HTTP/1.1 200 OK\r\nX-Two: 2\r\nDate: ")
    assert head.endswith(b"\r\nTransfer-Encoding: chunked\r\n\r\n")


@pytest.mark.parametrize(
    ("status", "body", "sent"), [(200, b"abc", b"abc"), (299, b"abc", b"abc"), (204, b"abc", b""), (304, b"abc", b"")]
)
def test_a_whole_answer_has_a_length_unless_it_has_no_body(status: int, body: bytes, sent: bytes) -> None:
    parser = HttpParser(100)
    parser.receive(REQUEST)
    head, _, rest = parser.whole(status, [], body).partition(b"\r\n\r\n")
    assert rest == sent
    assert (b"Content-Length: 3" in head) is bool(sent)
    assert parser.finish()


def test_an_answer_to_head_has_no_body() -> None:
    parser = HttpParser(100)
    parser.receive(b"HEAD / HTTP/1.1\r\nHost: x\r\n\r\n")
    assert parser.whole(405, [], b"abc").endswith(b"\r\n\r\n")
    assert parser.finish()


def test_a_header_that_was_given_is_not_given_again() -> None:
    parser = HttpParser(100)
    parser.receive(REQUEST)
    assert parser.whole(200, [("date", "then")], b"").lower().count(b"date:") == 1


def test_a_connection_that_is_to_be_closed_does_not_stay() -> None:
    parser = HttpParser(100)
    parser.receive(REQUEST.replace(b"X-One: 1", b"Connection: close"))
    parser.whole(200, [], b"")
    assert not parser.finish()


def test_a_header_that_cannot_be_sent_is_a_value_error() -> None:
    parser = HttpParser(100)
    parser.receive(REQUEST)
    with pytest.raises(ValueError, match="cannot be sent"):
        parser.head(200, [("a b", "x\r\ny")])


def test_a_repr_shows_neither_headers_nor_body() -> None:
    post = Post("POST", "/", [("Authorization", "canary")], b"canary", 6)
    assert "canary" not in repr(post)
