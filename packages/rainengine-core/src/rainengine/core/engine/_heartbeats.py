"""Keeping leases alive: one alarm for all steps under way, a heartbeat for those that last.

Theory. Nearly every step ends far within its lease, and extends it with whatever it appends.
Only one that waits for a model or a tool for a third of the lease needs more. So a step notes
until when it needs nothing, and one task an engine, the alarm, sleeps until the earliest of
these times. A step that is still under way by then gets a task of its own, which extends its
lease again and again.

Rules.

1. Nothing of this runs while no step is under way: a step waits for the end of its heartbeat,
   and the last one also for the end of the alarm.
2. An error of a heartbeat cancels the step's work and comes out of the step.
3. They are system tasks: a nursery in the step that happens to be the first would have to
   outlive it. An error that left such a task would end the whole program.

Rejected: a heartbeat for each step from its start (a task to start and to cancel, a tenth of a
turn's CPU); an alarm for as long as the engine lives (it would have to be opened and closed).
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from contextvars import Context, copy_context
from typing import TypeVar

import attrs
import trio

from rainengine.core.engine._session import OpenSession

T = TypeVar("T")


@attrs.define(eq=False)
class _Step:
    """A step under way; from `due` on, by trio's clock, it needs a heartbeat."""

    session: OpenSession
    due: float
    scope: trio.CancelScope = attrs.field(factory=trio.CancelScope, init=False)
    failure: Exception | None = attrs.field(default=None, init=False)
    _context: Context = attrs.field(factory=copy_context, init=False)
    _heartbeat: trio.CancelScope | None = attrs.field(default=None, init=False)
    _ended: trio.Event | None = attrs.field(default=None, init=False)

    def give_heartbeat(self) -> None:
        self._heartbeat, self._ended = trio.CancelScope(), trio.Event()
        trio.lowlevel.spawn_system_task(
            self._beat,
            self._heartbeat,
            self._ended,
            name="rainengine-heartbeat",
            context=self._context,
        )

    async def _beat(self, scope: trio.CancelScope, ended: trio.Event) -> None:
        try:
            with scope:
                await self.session.keep_alive()
        # Outside of the scope: a group may hold its cancellations too, which the scope takes out.
        except Exception as failure:  # noqa: BLE001  # a ledger is somebody else's code
            self.failure = failure
            self.scope.cancel()
        finally:
            ended.set()

    async def end_heartbeat(self) -> None:
        if self._heartbeat is not None and self._ended is not None:
            self._heartbeat.cancel()
            with trio.CancelScope(shield=True):
                await self._ended.wait()


@attrs.define(eq=False)
class _Alarm:
    """Sleeps until the first of its steps is due. Ended by ringing, so that nothing is raised."""

    steps: set[_Step] = attrs.field(factory=set[_Step], init=False)
    _nap: trio.CancelScope = attrs.field(factory=trio.CancelScope, init=False)
    _over: trio.Event = attrs.field(factory=trio.Event, init=False)
    _ended: trio.Event = attrs.field(factory=trio.Event, init=False)

    def start(self) -> None:
        trio.lowlevel.spawn_system_task(self._run, name="rainengine-alarm")

    def add(self, step: _Step) -> None:
        self.steps.add(step)
        if step.due < self._nap.deadline:  # noqa: PLR1730  # which it seldom is, and setting costs
            self._nap.deadline = step.due

    async def end(self) -> None:
        self._over.set()
        with trio.CancelScope(shield=True):
            await self._ended.wait()

    async def _run(self) -> None:
        try:
            while not self._over.is_set():
                with trio.CancelScope(deadline=self._earliest()) as self._nap:
                    await self._over.wait()
                self._ring()
        finally:
            self._ended.set()

    def _earliest(self) -> float:
        return min((step.due for step in self.steps), default=math.inf)

    def _ring(self) -> None:
        now = trio.current_time()
        for step in [step for step in self.steps if step.due <= now]:
            self.steps.discard(step)
            step.give_heartbeat()


@attrs.define(eq=False)
class Heartbeats:
    """Keeps the leases of one engine's sessions while they are worked on."""

    _under_way: int = attrs.field(default=0, init=False)
    _alarm: _Alarm = attrs.field(factory=_Alarm, init=False)

    async def during(self, session: OpenSession, work: Callable[[], Awaitable[T]]) -> T | None:
        """Do the work while the session's lease is kept alive; return what it returns.

        Where the lease cannot be kept the work is cancelled and the reason raised: `FenceLost`
        means that another holder took over.
        """
        step = _Step(session, trio.current_time() + session.tenure.due_in_s())
        result: T | None = None
        self._begin(step)
        try:
            with step.scope:
                result = await work()
        finally:
            await self._end(step)
        if step.scope.cancelled_caught and step.failure is not None:
            raise step.failure
        return result

    def _begin(self, step: _Step) -> None:
        if not self._under_way:
            self._alarm = _Alarm()
            self._alarm.start()
        self._under_way += 1
        self._alarm.add(step)

    async def _end(self, step: _Step) -> None:
        self._alarm.steps.discard(step)
        self._under_way -= 1
        alarm = None if self._under_way else self._alarm
        await step.end_heartbeat()
        if alarm is not None:
            await alarm.end()
