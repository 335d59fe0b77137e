"""Masks, in Python and in C."""

from __future__ import annotations

import os
import sys

import pytest
from websocket import ABNF

from pixir_actors.transport import masking


@pytest.fixture(params=["python", "best"])
def mask(request: pytest.FixtureRequest) -> masking.Mask:
    return masking.translated if request.param == "python" else masking.best()


@pytest.mark.parametrize("size", [0, 1, 2, 3, 4, 5, 7, 8, 63, 125, 4099, 300_001])
def test_a_mask_is_that_of_websocket_client(mask: masking.Mask, size: int) -> None:
    payload, key = os.urandom(size), os.urandom(4)

    masked = mask(payload, key)

    assert masked == bytes(ABNF.mask(key, payload))
    assert mask(masked, key) == payload


def test_where_the_extension_is_installed_it_is_used() -> None:
    assert masking.best() is not masking.translated, "the tests install it"


@pytest.mark.parametrize("missing", ["websockets", "websockets.speedups"])
def test_without_it_python_does(monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    monkeypatch.setitem(sys.modules, "websockets.speedups", None)
    monkeypatch.setitem(sys.modules, missing, None)

    assert masking.best() is masking.translated
