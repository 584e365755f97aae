"""Waiting for sessions to move: at once within this process, by polling for the others."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import attrs
import trio

from rainengine.core.abc import Appended
from rainengine.core.records import Head
from rainengine.store_sql._rows import Key


@attrs.define(eq=False)
class Watchers:
    """Who waits for which session. Belongs to one trio run."""

    _poll_s: float
    _waiting: dict[Key, set[trio.Event]] = attrs.field(factory=dict[Key, set[trio.Event]])

    def moved(self, key: Key, appended: Appended) -> None:
        """Wake whoever waits for the session."""
        if self._waiting:
            for event in self._waiting.get(key, ()):
                event.set()

    async def wait_past(
        self, key: Key, sequence: int, read_head: Callable[[], Awaitable[Head]]
    ) -> Head:
        """Return the head once it is above `sequence`, looking after each append and poll."""
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
