"""Time and identifiers from the operating system; what an engine uses unless it is given others."""

from __future__ import annotations

import random
import secrets
import time

import attrs


@attrs.frozen
class SystemClock:
    """The operating system's wall clock, an implementation of `abc.Clock`."""

    def now_ms(self) -> int:
        """Milliseconds since the Unix epoch."""
        return time.time_ns() // 1_000_000


@attrs.frozen
class RandomIds:
    """The operating system's randomness, an implementation of `abc.IdSource`."""

    def new_id(self) -> str:
        """128 random bits, as 32 lower-case hexadecimal digits."""
        return secrets.token_hex(16)

    def fraction(self) -> float:
        """A number drawn evenly from 0 up to, but not including, 1."""
        return _system_random.random()


_system_random = random.SystemRandom()
