"""The worker: what keeps sessions going when nobody else does."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Protocol, runtime_checkable

import attrs
import trio

from rainengine.core import RandomIds, SystemClock
from rainengine.core.abc import (
    Clock,
    IdSource,
    LedgerStore,
    Outbox,
    OutboxPublisher,
    WorkQueue,
)
from rainengine.core.errors import InvalidConfiguration, LedgerError
from rainengine.runtime._crew import Crew, Parts, assemble
from rainengine.runtime._delivering import Deliverer
from rainengine.runtime._engines import EngineFor, Engines
from rainengine.runtime._patience import Key
from rainengine.runtime._settings import WorkerSettings
from rainengine.runtime._shift import Shift
from rainengine.runtime._stats import WorkerStats

_DISCARD_EVERY_S = 3_600.0


@runtime_checkable
class WorkStore(LedgerStore, WorkQueue, Protocol):
    """A store that workers can serve. Where it is an `Outbox` too, they deliver it."""


class Worker:
    """Keeps the sessions of a store going: recovers runs, fires wakes, delivers the outbox.

    `engine_for` makes the engine for an agent on one tenant's ledger; where it returns None, the
    agent's sessions wait. Engines are kept and used again. Give all of them one `owner`, unique
    among the processes that share the store. Without a `publisher` the outbox is left alone.

    Any number of workers may serve one store. Raises `InvalidConfiguration` for a store that
    cannot be asked for what is due, or that has no outbox to publish.
    """

    def __init__(
        self,
        store: WorkStore,
        engine_for: EngineFor,
        *,
        publisher: OutboxPublisher | None = None,
        settings: WorkerSettings = WorkerSettings(),  # noqa: B008  # frozen
        clock: Clock | None = None,
        ids: IdSource | None = None,
    ) -> None:
        engines = Engines(
            store=store,
            engine_for=engine_for,
            limit=settings.cached_engines,
            retry_s=settings.agent_retry_s,
        )
        self._parts = Parts(
            queue=_checked(store),
            engines=engines,
            outbox=None if publisher is None else _outbox_of(store),
            publisher=publisher,
            settings=settings,
            clock=clock or SystemClock(),
            fraction=(ids or RandomIds()).fraction,
        )
        self._crew: Crew | None = None

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Work until `drain` is called, or for ever; `await nursery.start(worker.run)`.

        A ledger that is away is waited for, and a session that raises errors holds up no other.
        May be cancelled at any time: what it was doing is then taken up as after a crash, by any
        worker, when the leases have run out. Raises `LedgerClosed`.
        """
        with self._at_work(patient=True) as crew:
            async with trio.open_nursery() as nursery:
                for lane in crew.lanes:
                    await nursery.start(lane.run)
                if crew.deliverer is not None:
                    nursery.start_soon(_discard_now_and_then, crew.shift, crew.deliverer)
                task_status.started()

    async def run_once(self) -> WorkerStats:
        """Do all that is due now, then return what that was: for hosts that poll by themselves.

        Wakes are brought in, then runs are brought to their ends, then the outbox is delivered.
        What comes due meanwhile may be left to the next call.
        Raises `LedgerUnavailable` or `AppendUnknown` where the ledger is away.
        """
        before = self.stats()
        with self._at_work(patient=False) as crew:
            for lane in crew.lanes:
                await lane.sweep()
            if crew.deliverer is not None:
                await _discard(crew.shift, crew.deliverer)
        return self.stats().since(before)

    async def drain(self) -> None:
        """Stop: take no more, finish the steps that are under way, give the leases back.

        Returns once `run` or `run_once` has ended. What takes longer than `drain_timeout_s` is
        cancelled. Does nothing where nothing is running.
        """
        crew = self._crew
        if crew is None:
            return
        crew.shift.end()
        latest = trio.current_time() + self._parts.settings.drain_timeout_s
        crew.scope.deadline = min(crew.scope.deadline, latest)
        await crew.over.wait()

    def nudge(self) -> None:
        """Look for work now instead of at the next poll; a host may call it after `submit`."""
        for lane in self._crew.lanes if self._crew is not None else ():
            lane.nudge()

    def stats(self) -> WorkerStats:
        """Return what was done so far, and what is in hand."""
        lanes = () if self._crew is None else self._crew.lanes
        resting = self._parts.resting
        waiting = resting["wake"].waiting | resting["run"].waiting
        return WorkerStats(
            **attrs.asdict(self._parts.counts),
            under_way=sum(lane.under_way for lane in lanes),
            backed_off=len(set[Key]().union(*(one.failed for one in resting.values()))),
            waiting_for_agent=len(waiting),
            missing_agents=tuple(sorted(set(waiting.values()))),
        )

    @contextmanager
    def _at_work(self, *, patient: bool) -> Generator[Crew]:
        if self._crew is not None:
            raise RuntimeError("this worker is at work already: drain it, or make another one")
        crew = self._crew = assemble(self._parts, patient=patient)
        try:
            with crew.scope:
                yield crew
        finally:
            self._crew = None
            crew.over.set()
        if crew.shift.fatal is not None:
            raise crew.shift.fatal


async def _discard_now_and_then(shift: Shift, deliverer: Deliverer) -> None:
    bell = shift.bell()
    while not shift.ending:
        await _discard(shift, deliverer)
        await bell.heard(_DISCARD_EVERY_S * (1 + shift.fraction()) / 2)


async def _discard(shift: Shift, deliverer: Deliverer) -> None:
    try:
        await deliverer.discard()
    except LedgerError as error:
        shift.notice(error)


def _checked(store: WorkStore) -> WorkQueue:
    if not isinstance(store, WorkStore):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise InvalidConfiguration("store", f"{store!r} cannot be asked for what is due")
    return store


def _outbox_of(store: WorkStore) -> Outbox:
    if not isinstance(store, Outbox):
        raise InvalidConfiguration("publisher", f"{store!r} has no outbox to publish")
    return store
