"""The database's wall clock, without asking it each time."""

from __future__ import annotations

import time


class DatabaseClock:
    """Reckons the database's time from its last answer and the time that has passed since.

    An implementation of `abc.Clock`. Since an answer takes a moment to arrive, the reckoning is
    behind by no more than that; a lease that it dates runs out early rather than late.
    """

    def __init__(self) -> None:
        self._ahead_ms = time.time_ns() / 1e6 - time.monotonic_ns() / 1e6

    def now_ms(self) -> int:
        """Milliseconds since the Unix epoch, by the database's clock."""
        return int(time.monotonic_ns() / 1e6 + self._ahead_ms)

    def observe(self, now_ms: int) -> None:
        """Take in what the database has just said; from any thread."""
        self._ahead_ms = now_ms - time.monotonic_ns() / 1e6
