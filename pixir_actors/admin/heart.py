"""Whether the daemon's actor system answers. A process that is alive may be stuck all the same."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final

from pixir_actors.actors.messages import GetSystem, StopAll
from pixir_actors.dispatch.questions import Questions
from pixir_actors.errors import PixirError

BEAT_EVERY: Final = 3.0
"""Seconds from one beat to the next."""
BEAT_TIMEOUT: Final = 3.0
"""Seconds for the admin to say where the supervisor is, and for the supervisor to answer."""
MISSES: Final = 3
"""Beats in a row without an answer after which the system counts as stuck."""
STOP_GRACE: Final = 3.0
"""Seconds that the supervisor may take longer than it was told for ending all connections."""


class Heart:
    """Asks the admin and the supervisor of one actor system, every few seconds, in a thread.

    Args:
        questions: The way to it; whoever made it closes it.
        beat: Called in the heart's thread after each answer.
        stuck: Called once, in the heart's thread, when the supervisor has stopped answering.
    """

    def __init__(self, questions: Questions, *, beat: Callable[[], None], stuck: Callable[[], None]) -> None:
        self._questions, self._beat, self._stuck = questions, beat, stuck
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heart", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """Ask no more. Returns at once; a question that is under way goes on for a few seconds."""
        self._stopped.set()

    def drain(self, within: float) -> bool:
        """Have all connections end, running turns within `within` seconds; say whether the supervisor says that they have.

        Blocks for that long. Runs in the calling thread.
        """
        try:
            supervisor = self._questions.supervisor()
            stop = StopAll(self._questions.number(), within)
            return self._questions.ask(supervisor, stop, timeout=within + STOP_GRACE) is not None
        except PixirError:
            return False

    def _run(self) -> None:
        misses, pause = 0, BEAT_EVERY
        while not self._stopped.wait(pause):
            began = time.monotonic()
            misses = 0 if self._answers() else misses + 1
            pause = max(0.0, began + BEAT_EVERY - time.monotonic())  # a question without an answer took that long already
            if misses == 0:
                self._beat()
            elif misses == MISSES and not self._stopped.is_set():
                self._stuck()
                return

    def _answers(self) -> bool:
        try:
            # The admin is asked each time: without it nobody attaches any more, though the supervisor goes on answering.
            # And a supervisor that was killed is started anew by asking for it.
            supervisor = self._questions.supervisor(again=True)
            return self._questions.ask(supervisor, GetSystem(self._questions.number()), timeout=BEAT_TIMEOUT) is not None
        except PixirError:
            return False
