"""An upgrade that was refused with a status: whether it is worth another try."""

from __future__ import annotations

import pytest

from pixir_actors.errors import Delivery, ErrorCode
from tests.core.machine import Machine, user


@pytest.mark.parametrize(
    ("status", "retryable"), [(401, False), (403, False), (404, False), (307, False), (429, True), (500, True), (503, True)]
)
def test_a_refused_upgrade_is_retryable_as_its_status_is(status: int, retryable: bool) -> None:
    machine = Machine()
    request = machine.submit([user("one")])
    machine.connect_failed(ErrorCode.WEBSOCKET_HANDSHAKE_FAILED, details={"status": status}, retry_after=90.0)

    failure = machine.failure(request)
    assert (failure.code, failure.delivery) == (ErrorCode.WEBSOCKET_HANDSHAKE_FAILED, Delivery.NOT_SENT)
    assert (failure.retryable, failure.retry_after) == (retryable, 90.0)
