"""Time and identifiers that a test decides."""

from __future__ import annotations

from collections.abc import Iterable

import trio


class ScriptedClock:
    """A wall clock that follows trio's clock and jumps when it is told to.

    Under `trio.testing.MockClock` both move together.
    Time begins at `start_ms` (Unix time in milliseconds) with the first reading.
    Outside of trio the clock stands still.
    """

    def __init__(self, start_ms: int = 1_700_000_000_000) -> None:
        self._base_ms = start_ms
        self._last_s: float | None = None
        self._elapsed_s = 0.0

    def now_ms(self) -> int:
        """Milliseconds since the Unix epoch."""
        if trio.lowlevel.in_trio_run():
            now_s = trio.current_time()
            self._elapsed_s += max(0.0, now_s - (now_s if self._last_s is None else self._last_s))
            self._last_s = now_s
        return self._base_ms + round(self._elapsed_s * 1000)

    def jump(self, ms: int) -> None:
        """Move the wall clock alone, as an operator or a leap does; backwards if negative."""
        self._base_ms += ms


class ScriptedIds:
    """Identifiers that count, and fractions from a script.

    `series` sets apart the identifiers of several sources.
    Once the script of fractions is used up, every fraction is 0.5.
    """

    def __init__(self, series: int = 0, fractions: Iterable[float] = ()) -> None:
        self._series = series
        self._count = 0
        self._fractions = iter(fractions)

    def new_id(self) -> str:
        """The next identifier: 32 hexadecimal digits, the series first and then the count."""
        self._count += 1
        return f"{self._series:08x}{self._count:024x}"

    def fraction(self) -> float:
        """The script's next fraction."""
        return next(self._fractions, 0.5)
