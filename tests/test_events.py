"""What a caller receives. Covers C31 (the shapes) and W15 (data as bytes, and as a server-sent event)."""

from __future__ import annotations

import pickle

import pytest

from pixir_actors.events import Data, Metadata, Status

RAW = b'{"type":"response.output_text.delta","delta":"CANARY"}'


def test_data_is_the_providers_bytes_and_what_they_say() -> None:
    data = Data(RAW)

    assert data.raw is RAW
    assert data.type == "response.output_text.delta"
    assert data.json() == {"type": "response.output_text.delta", "delta": "CANARY"}
    assert data.sse == b"data: " + RAW + b"\n\n"


def test_data_is_parsed_anew_so_that_a_caller_may_keep_what_it_gets() -> None:
    data = Data(RAW)

    assert data.json() is not data.json()


def test_data_does_not_print_what_it_holds() -> None:
    assert repr(Data(RAW)) == f"Data(<{len(RAW)} bytes>)"


@pytest.mark.parametrize("event", [Metadata({"a": None}), Status(200), Data(RAW)], ids=lambda event: type(event).__name__)
def test_an_event_is_a_frozen_value(event: Metadata | Status | Data) -> None:
    assert pickle.loads(pickle.dumps(event)) == event
    for name in type(event).__slots__:  # type: ignore[attr-defined]
        with pytest.raises(AttributeError):
            setattr(event, name, None)
