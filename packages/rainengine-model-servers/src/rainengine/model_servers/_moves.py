"""What a server does with a connection once it has read a request: moves, as data.

The head of a response goes out with the first bytes, so that moves before them delay the head,
or leave the client without any answer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TypeAlias

import attrs
import trio


@attrs.frozen
class Send:
    """Send bytes of the body."""

    data: bytes


@attrs.frozen
class SendUnframed:
    """Send bytes as they are, in no chunk and beyond every length: what follows is broken."""

    data: bytes


@attrs.frozen
class Pause:
    """Do nothing for so many seconds."""

    seconds: float


@attrs.frozen
class Until:
    """Do nothing until the event is set."""

    event: trio.Event


@attrs.frozen
class Hang:
    """Do nothing until the client hangs up."""


@attrs.frozen
class Cut:
    """Close the connection where it stands, as a process does that ends."""


@attrs.frozen
class Reset:
    """Reset the connection, as a machine does that has forgotten it."""


Move: TypeAlias = Send | SendUnframed | Pause | Until | Hang | Cut | Reset

Sending: TypeAlias = Callable[[Sequence[Move]], Iterable[Move]]
"""Turns the moves of a whole answer into others. Of a stream, each event is one `Send`."""


def paced(seconds: float) -> Sending:
    """Wait so many seconds before each piece."""
    return lambda moves: [part for move in moves for part in (Pause(seconds), move)]


def held(event: trio.Event, *, after: int = 0) -> Sending:
    """Wait for the event once `after` pieces are sent."""
    return lambda moves: [*moves[:after], Until(event), *moves[after:]]


def broken_off(*ending: Move, after: int = 0) -> Sending:
    """End otherwise once `after` pieces are sent: by default with the connection closed."""
    return lambda moves: [*moves[:after], *(ending or (Cut(),))]


def dribbled(*, size: int = 1, seconds: float = 0.0) -> Sending:
    """Send so many bytes at a time, with so many seconds between them."""

    def sending(moves: Sequence[Move]) -> Iterable[Move]:
        for move in moves:
            yield from _dribble(move, size, seconds) if isinstance(move, Send) else (move,)

    return sending


def _dribble(move: Send, size: int, seconds: float) -> Iterable[Move]:
    for start in range(0, len(move.data), size):
        yield Pause(seconds)
        yield Send(move.data[start : start + size])
