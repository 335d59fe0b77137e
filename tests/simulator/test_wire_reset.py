"""A client that resets its connection while it is being refused."""

from __future__ import annotations

import socket
import struct

from pixir_actors.simulator import Simulator
from tests.conftest import within
from tests.simulator.client import raw_connection


def test_a_refused_client_that_resets_at_once_breaks_nothing() -> None:
    with Simulator(api_key="another") as sim:
        for _ in range(100):
            raw = raw_connection(sim)
            raw.recv(1)
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            raw.close()
        sim.wait_for(lambda s: len(s.handshakes) == 100, within(5))
        # Leaving raises what broke.
