"""The deadline of queued appends: one task for all of them, asleep while nothing is queued."""

from __future__ import annotations

import time
from typing import Any

import attrs
import trio

from rainengine.store_sql._writer import Writer


@attrs.define(eq=False)
class DeadlineGuard:
    """Gives up appends that wait for longer than `patience_s` seconds.

    Wakes by trio's clock and judges by the monotonic one, so that a test's clock
    that jumps ahead gives up nothing.
    It is a system task, because a nursery around the user's block would wrap what that raises
    into a group; `stop` waits for its end, so it does not outlive the block either.
    """

    _writer: Writer[Any]
    _patience_s: float
    _scope: trio.CancelScope = attrs.field(factory=trio.CancelScope)
    _ended: trio.Event = attrs.field(factory=trio.Event)

    def start(self) -> None:
        """Start watching."""
        trio.lowlevel.spawn_system_task(self._watch, name="rainengine-deadlines")

    async def stop(self) -> None:
        """End watching."""
        self._scope.cancel()
        await self._ended.wait()

    async def _watch(self) -> None:
        with self._scope:
            while True:
                await self._writer.stirred.wait()
                await trio.sleep(self._patience_s / 4)
                self._writer.give_up(before_s=time.monotonic() - self._patience_s)
                if self._writer.idle():
                    self._writer.stirred = trio.Event()
        self._ended.set()
