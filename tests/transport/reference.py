"""Frames as a server might send them, and a reader to compare ours with.

The reader keeps the same promises by websocket-client's `frame_buffer`, one frame at a time. It is the one whose place ours
took, and that `make ablation` measures ours against.
"""

from __future__ import annotations

from hypothesis import strategies as st

from benchmarks.ablation.former import LibraryReader as LibraryReader
from tests.transport.peer import BINARY, CLOSE, CONT, PING, PONG, TEXT, frame

FRAMES = st.builds(
    frame,
    st.sampled_from([TEXT, TEXT, TEXT, CONT, BINARY, CLOSE, PING, PONG, 3, 11]),
    st.binary(max_size=300),
    fin=st.booleans(),
    rsv=st.sampled_from([0, 0, 0, 0, 1, 4]),
    mask=st.sampled_from([False, False, False, True]),
    wide=st.sampled_from([0, 0, 2, 8]),
)
"""Sound ones and others."""
