"""The degraded window: how long a connection that failed is left alone."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Backoff:
    """Failures in a row, and until when the connection is left alone.

    Attributes:
        failures: Failures since the last success.
        until: Monotonic seconds at which the window ends, or None where there is none.
        cause: Code of the newest failure.
        host: Host and port of whom that one did not reach, where it says so.
    """

    failures: int = 0
    until: float | None = None
    cause: str | None = None
    host: str | None = None

    def fail(self, *, now: float, jitter: float, first: float | None, most: float) -> Backoff:
        """Open the next window: `first` seconds, doubled with each failure in a row, at most `most`.

        Args:
            now: Monotonic seconds.
            jitter: Uniform sample in [0, 1); shortens the window by up to a quarter, so that many keys do not return at
                once.
            first: Seconds of the first window; None opens none.
            most: Ceiling in seconds.
        """
        failures = self.failures + 1
        if first is None:
            return Backoff(failures)
        # 2**64 is beyond every ceiling; a larger exponent would only overflow.
        delay = min(first * 2.0 ** min(failures - 1, 64), max(first, most))
        return Backoff(failures, now + delay * (1 - 0.25 * jitter))

    def remaining(self, now: float) -> float:
        """Return the seconds until the window ends; 0 where there is none."""
        return max(0.0, self.until - now) if self.until is not None else 0.0


CLOSED = Backoff()
"""No failure, no window: what a success leads back to."""
