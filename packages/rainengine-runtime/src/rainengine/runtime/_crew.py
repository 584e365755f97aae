"""Putting a shift's work together: wakes, runs, and the outbox if there is a publisher."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import attrs
import trio

from rainengine.core.abc import (
    Clock,
    DueSession,
    Outbox,
    OutboxPublisher,
    WorkKind,
    WorkQueue,
)
from rainengine.runtime._delivering import Deliverer
from rainengine.runtime._driving import Driver, Waker
from rainengine.runtime._engines import Engines
from rainengine.runtime._lane import Lane, Verdict
from rainengine.runtime._patience import Resting
from rainengine.runtime._scanning import Scanner
from rainengine.runtime._settings import WorkerSettings
from rainengine.runtime._shift import Shift
from rainengine.runtime._stats import Counts

KINDS: tuple[WorkKind, ...] = ("wake", "run", "outbox")


@attrs.frozen(eq=False, kw_only=True)
class Parts:
    """What outlives a shift. `outbox` and `publisher` are there both or not at all."""

    queue: WorkQueue
    engines: Engines
    outbox: Outbox | None
    publisher: OutboxPublisher | None
    settings: WorkerSettings
    clock: Clock
    fraction: Callable[[], float]
    counts: Counts = attrs.field(factory=Counts)
    resting: dict[WorkKind, Resting] = attrs.field(
        init=False,
        default=attrs.Factory(
            lambda self: {k: Resting(self.fraction) for k in KINDS}, takes_self=True
        ),
    )
    scanners: dict[WorkKind, Scanner] = attrs.field(
        init=False,
        default=attrs.Factory(lambda self: {k: self.scanner(k) for k in KINDS}, takes_self=True),
    )

    def scanner(self, kind: WorkKind) -> Scanner:
        """What finds the sessions of one kind of work."""
        return Scanner(
            queue=self.queue,
            kind=kind,
            page_size=self.settings.page_size,
            fraction=self.fraction,
            # Wakes are due by the clock that fires them, leases and claims by the store's own.
            now_ms=self.clock.now_ms if kind == "wake" else _by_the_stores_clock,
        )


@attrs.frozen(eq=False, kw_only=True)
class Crew:
    """All that works during one shift."""

    shift: Shift
    lanes: tuple[Lane, ...]
    deliverer: Deliverer | None
    scope: trio.CancelScope = attrs.field(factory=trio.CancelScope)
    over: trio.Event = attrs.field(factory=trio.Event)


def assemble(parts: Parts, *, patient: bool) -> Crew:
    """Make the crew for one shift; without `patient` a ledger that is away ends it.

    What the last shift put off is forgotten: it may have been in another run of trio, whose times
    mean nothing here.
    """
    for resting in parts.resting.values():
        resting.clear()
    parts.engines.ask_anew()
    shift = Shift(
        settings=parts.settings, fraction=parts.fraction, counts=parts.counts, patient=patient
    )
    runs = _runs(parts, shift)
    lanes = [_wakes(parts, shift, bring_up=runs.offer), runs]
    if parts.outbox is None or parts.publisher is None:
        return Crew(shift=shift, lanes=tuple(lanes), deliverer=None)
    deliverer = Deliverer(
        outbox=parts.outbox, publisher=parts.publisher, shift=shift, clock=parts.clock
    )
    lanes.append(_lane(parts, shift, "outbox", deliverer.deliver))
    return Crew(shift=shift, lanes=tuple(lanes), deliverer=deliverer)


def _runs(parts: Parts, shift: Shift) -> Lane:
    driver = Driver(engines=parts.engines, shift=shift)
    return _lane(parts, shift, "run", driver.drive, driver.let_go)


def _wakes(parts: Parts, shift: Shift, *, bring_up: Callable[[DueSession], None]) -> Lane:
    waker = Waker(engines=parts.engines, shift=shift, clock=parts.clock, bring_up=bring_up)
    return _lane(parts, shift, "wake", waker.wake)


async def _keep(session: DueSession) -> None:
    """Nothing is held, so there is nothing to give back."""


def _lane(
    parts: Parts,
    shift: Shift,
    kind: WorkKind,
    work: Callable[[DueSession], Awaitable[Verdict]],
    let_go: Callable[[DueSession], Awaitable[None]] = _keep,
) -> Lane:
    return Lane(
        scanner=parts.scanners[kind],
        resting=parts.resting[kind],
        shift=shift,
        work=work,
        let_go=let_go,
        later=parts.engines.seems_absent,
    )


def _by_the_stores_clock() -> None:
    """No time: the store judges by its own."""
