"""Waiting for sessions to move: at once within this process, by signals and polling for others."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol, TypeAlias

import attrs
import trio

from rainengine.core.abc import Appended
from rainengine.core.records import Head
from rainengine.store_sql._rows import Key

Heard: TypeAlias = Callable[[Callable[[Key], bool]], None]
"""Takes, in trio's thread, what tells whether a session may have moved elsewhere."""


class Signals(Protocol):
    """How the processes on one database tell each other that sessions have moved.

    Signals may be late, lost or too many: who waits polls too, and looks before it believes.
    """

    def send(self, key: Key) -> None:
        """Tell the others that a session has moved. Returns at once."""
        ...

    def listen(self, heard: Heard) -> None:
        """Have `heard` called from now on; further calls do nothing. Returns at once."""
        ...


@attrs.define(eq=False)
class Watchers:
    """Who waits for which session. Belongs to one trio run."""

    _poll_s: float
    _signals: Signals | None = None
    _waiting: dict[Key, set[trio.Event]] = attrs.field(factory=dict[Key, set[trio.Event]])

    def moved(self, key: Key, appended: Appended) -> None:
        """Wake whoever waits for the session, here and elsewhere."""
        if self._waiting:
            self._wake(key)
        if self._signals is not None:
            self._signals.send(key)

    def _wake(self, key: Key) -> None:
        for event in self._waiting.get(key, ()):
            event.set()

    def _heard(self, concerns: Callable[[Key], bool]) -> None:
        for key in self._waiting:
            if concerns(key):
                self._wake(key)

    async def wait_past(
        self, key: Key, sequence: int, read_head: Callable[[], Awaitable[Head]]
    ) -> Head:
        """Return the head once it is above `sequence`, looking after each append and poll."""
        if self._signals is not None:
            self._signals.listen(self._heard)
        while True:
            event = trio.Event()
            self._waiting.setdefault(key, set()).add(event)
            try:
                # Registered before the head is read, so that nothing slips in between.
                head = await read_head()
                if head.sequence > sequence:
                    return head
                with trio.move_on_after(self._poll_s):
                    await event.wait()
            finally:
                self._forget(key, event)

    def _forget(self, key: Key, event: trio.Event) -> None:
        events = self._waiting[key]
        events.discard(event)
        if not events:
            del self._waiting[key]
