"""What the engine takes from its surroundings: time, and identifiers."""

from __future__ import annotations

from typing import Protocol


class Clock(Protocol):
    """Wall time: judges what crosses processes, such as deadlines, leases and wakes."""

    def now_ms(self) -> int:
        """Milliseconds since the Unix epoch."""
        ...


class IdSource(Protocol):
    """Unguessable identifiers, and the chance behind retry jitter."""

    def new_id(self) -> str:
        """A new identifier with at least 128 random bits, as lower-case hex."""
        ...

    def fraction(self) -> float:
        """A number drawn evenly from 0 up to, but not including, 1."""
        ...
