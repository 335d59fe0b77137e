"""The rows of the fault matrix: what happens, and what has to come of it, cold and continued.

What is expected follows from `README.md` and the promises behind it, not from what the code does:

* sent at most once, unless the provider said no before any output, or the caller asked for `retry_ambiguous`;
* every end has a name, a verdict over delivery, and a limit;
* the next turn continues only what the newest response on an open socket proves, and otherwise says why it does not.
"""

from __future__ import annotations

from typing import Final

from tests.faults import opening, pausing, streaming
from tests.faults.row import Row

PHASES: Final = {
    "connecting": "name, TCP, TLS; continued: the server has closed the idle socket before",
    "upgrading": "the HTTP upgrade; continued: the server has closed the idle socket before",
    "sending": "the request is being written",
    "before the first event": "the request is written, nothing has come back",
    "held": "`response.created` has come, no output yet",
    "mid-text": "text is being streamed",
    "mid-tool-call": "a function call's arguments are being streamed",
    "at the terminal event": "`response.completed`, and what stands right behind it",
    "idle": "between two turns; the row tells the turn after the fault. Cold: the socket was opened by `warm`",
    "queued": "the request waits behind another one of its key; cold: that one is the key's first",
    "closing": "a socket, a connection or a client is being closed",
    "over HTTP": '`transport="auto"`: where the WebSocket took nothing',
}

ROWS: Final[tuple[Row, ...]] = (
    *opening.connecting(),
    *opening.upgrading(),
    *opening.sending(),
    *streaming.before_first_event(),
    *streaming.held(),
    *streaming.mid_text(),
    *streaming.mid_tool_call(),
    *streaming.at_the_terminal_event(),
    *pausing.idle(),
    *pausing.queued(),
    *pausing.closing(),
    *pausing.over_http(),
)
