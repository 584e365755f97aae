"""The database's wall clock, without asking it each time."""

from __future__ import annotations

import time

STALE_S = 1.0


class DatabaseClock:
    """Reckons the database's time from its last answer and the time that has passed since.

    An implementation of `abc.Clock`. Since an answer takes a moment to arrive, the reckoning is
    behind by no more than that; a lease that it dates runs out early rather than late.
    """

    def __init__(self) -> None:
        self._ahead_ms = time.time() * 1e3 - time.monotonic() * 1e3
        self._asked_at_s = 0.0

    @property
    def is_stale(self) -> bool:
        """Whether the last answer is old enough to ask again: a clock may be set."""
        return time.monotonic() - self._asked_at_s > STALE_S

    def now_ms(self) -> int:
        """Milliseconds since the Unix epoch, by the database's clock."""
        return int(time.monotonic() * 1e3 + self._ahead_ms)

    def observe(self, now_ms: int) -> None:
        """Take in what the database has just said; from any thread."""
        self._asked_at_s = time.monotonic()
        self._ahead_ms = now_ms - self._asked_at_s * 1e3
