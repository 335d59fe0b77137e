"""The bytes of an HTTP answer's body."""

from __future__ import annotations

import pytest

from pixir_actors.simulator.eventstream import chunk, server_sent


def test_an_event_has_its_name_and_its_data() -> None:
    assert server_sent("error", b"{}") == b"event: error\ndata: {}\n\n"
    assert server_sent("", b"[DONE]") == b"data: [DONE]\n\n"


@pytest.mark.parametrize("data", [b"a\nb", b"a\rb", b"a\r\nb"])
def test_each_line_of_data_has_a_line_of_its_own(data: bytes) -> None:
    assert server_sent("", data) == b"data: a\ndata: b\n\n"


def test_no_data_is_an_empty_line_of_data() -> None:
    assert server_sent("", b"") == b"data: \n\n"


def test_a_chunk_announces_its_size_in_hexadecimal() -> None:
    assert chunk(b"x" * 26) == b"1a\r\n" + b"x" * 26 + b"\r\n"
