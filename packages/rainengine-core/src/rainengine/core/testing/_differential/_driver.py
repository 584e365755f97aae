"""Crashing a workload at every append, and comparing each end with that of an uncrashed twin."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Literal, TypeAlias

import attrs

from rainengine.core.abc import Clock, Ledger
from rainengine.core.errors import AppendUnknown, LedgerError
from rainengine.core.inmemory import InMemoryLedger
from rainengine.core.testing._crashing import CrashingLedger, SimulatedCrash
from rainengine.core.testing._differential._account import account_of
from rainengine.core.testing._differential._evidence import Evidence
from rainengine.core.testing._differential._judgement import Finding, Judge
from rainengine.core.testing._differential._process import Answer, Process, Stuck, Workload
from rainengine.core.testing._differential._receivers import InMemoryReceiver
from rainengine.core.testing._differential._witness import Event, Witness
from rainengine.core.testing._environment import ScriptedClock
from rainengine.core.testing._expect import CheckFailed
from rainengine.core.testing._faulty import FailAfter, FailBefore, FaultyLedger
from rainengine.core.testing._maker import LedgerMaker

Variant: TypeAlias = Literal["crash", "unknown", "double"]

VARIANTS: tuple[Variant, ...] = ("crash", "unknown", "double")

_SHOWN = 20


@attrs.frozen
class Blow:
    """What befalls a process at its append number `at`, which is stored or not.

    Of a `crash` it dies; of an `unknown` it lives on without knowing what became of the append.
    """

    how: Literal["crash", "unknown"]
    at: int
    stored: bool

    def __str__(self) -> str:
        side = "after" if self.stored else "before"
        return f"{self.how} {side} storing append {self.at}"


@attrs.frozen(kw_only=True)
class Trial:
    """One run with its blows, and what it broke."""

    blows: tuple[Blow, ...]
    findings: tuple[Finding, ...]

    def __str__(self) -> str:
        told = "\n".join(f"    {finding}" for finding in self.findings[:_SHOWN])
        more = len(self.findings) - _SHOWN
        end = f"\n    and {more} more" if more > 0 else ""
        return f"  {', then '.join(map(str, self.blows)) or 'the twin'}:\n{told}{end}"


@attrs.frozen(kw_only=True)
class DifferentialReport:
    """What came of all trials of a workload.

    `appends` is how many the uncrashed twin made, `trials` how many runs were compared with it,
    `blows` how many crashes and unknown appends they suffered, `failed` what they broke.
    """

    workload: str
    appends: int
    trials: int
    blows: int
    failed: tuple[Trial, ...]

    def __str__(self) -> str:
        head = (
            f"workload {self.workload!r}: {self.appends} appends, {self.trials} trials,"
            f" {self.blows} blows, {len(self.failed)} trials failed"
        )
        return "\n".join([head, *map(str, self.failed[:_SHOWN])])

    def check(self) -> None:
        """Raise `CheckFailed`, telling what broke where, unless every promise held."""
        if self.failed:
            raise CheckFailed(str(self))


class _InMemory:
    """Handles on one store in memory."""

    def __init__(self) -> None:
        self._clock = ScriptedClock()
        self._backing = InMemoryLedger(self._clock)

    @asynccontextmanager
    async def open(self) -> AsyncGenerator[InMemoryLedger]:
        yield InMemoryLedger(self._clock, backing=self._backing)

    async def let_pass(self, ms: int) -> None:
        self._clock.jump(ms)


async def differential(
    workload: Workload,
    backing: Callable[[], LedgerMaker] = _InMemory,
    *,
    variants: Sequence[Variant] = VARIANTS,
    stride: int = 1,
) -> DifferentialReport:
    """Run a workload once undisturbed, then with a blow at every append, and compare.

    `backing` makes a new, empty store for each run. Of `variants`, `crash` kills the process
    before and after each append and starts another under the same name; `unknown` answers each
    append with `AppendUnknown` instead, and the same process goes on; `double` kills the
    recovering process too, at every `stride`-th of its appends: without a stride, the number of
    its runs grows with the square of the number of appends.
    """
    undisturbed = _Run(workload, backing())
    twin = await undisturbed.evidence(())
    driver = _Driver(workload, backing, twin, undisturbed.appends, stride)
    driver.note((), twin.findings(twin))
    for variant in variants:
        await _SWEEPS[variant](driver)
    return DifferentialReport(
        workload=workload.name,
        appends=undisturbed.appends,
        trials=driver.trials,
        blows=driver.blows,
        failed=tuple(driver.failed),
    )


@attrs.define
class _Driver:
    workload: Workload
    backing: Callable[[], LedgerMaker]
    twin: Evidence
    appends: int
    stride: int
    trials: int = 0
    blows: int = 0
    failed: list[Trial] = attrs.field(factory=list[Trial])

    async def crash(self) -> None:
        for stored in (False, True):
            await self._until_past_the_end("crash", stored)

    async def unknown(self) -> None:
        for stored in (False, True):
            await self._until_past_the_end("unknown", stored)

    async def double(self) -> None:
        for stored in (False, True):
            at = 1
            while await self._double(Blow("crash", at, stored)) or at < self.appends:
                at += 1

    async def _double(self, first: Blow) -> bool:
        """Kill the process that recovers from `first` too; say whether that one was struck."""
        for stored in (False, True):
            at = 1 + (first.at + stored) % self.stride
            struck = await self._run(first, Blow("crash", at, stored))
            while struck == 2:  # noqa: PLR2004 - both
                at += self.stride
                struck = await self._run(first, Blow("crash", at, stored))
            if not struck:
                return False
        return True

    async def _until_past_the_end(self, how: Literal["crash", "unknown"], stored: bool) -> None:  # noqa: FBT001
        at = 1  # runs differ in how many results share an append, so one short run is no end
        while await self._run(Blow(how, at, stored)) or at < self.appends:
            at += 1

    async def _run(self, *blows: Blow) -> int:
        """Make one trial; return how many blows were struck."""
        self.trials += 1
        run = _Run(self.workload, self.backing())
        try:
            evidence = await run.evidence(blows)
        except (Stuck, LedgerError) as error:
            self.note(blows, [Finding("stuck", f"{type(error).__name__}: {error}")])
            return 0
        self.blows += evidence.blows
        self.note(blows, evidence.findings(self.twin))
        return evidence.blows

    def note(self, blows: tuple[Blow, ...], findings: Sequence[Finding]) -> None:
        if findings:
            self.failed.append(Trial(blows=blows, findings=tuple(findings)))


_SWEEPS = {"crash": _Driver.crash, "unknown": _Driver.unknown, "double": _Driver.double}


class _Run:
    """One run of the workload, from an empty store to its end."""

    def __init__(self, workload: Workload, maker: LedgerMaker) -> None:
        self._workload = workload
        self._maker = maker
        self._events: list[Event] = []
        self._witness = Witness(self._events.append)
        self._receiver = InMemoryReceiver()
        self._clock: Clock = ScriptedClock()
        self._blows = 0
        self.appends = 0

    async def evidence(self, blows: Sequence[Blow]) -> Evidence:
        """Let processes work, each with its blow, until one gets through."""
        waiting = list(blows)
        answers: list[Answer] | None = None
        while answers is None:
            blow = waiting.pop(0) if waiting else None
            async with self._maker.open() as store:
                answers = await self._live(store, blow)
        async with self._maker.open() as store:
            await self._witness.look(store, self._workload.session_ids)
            accounts = [await account_of(store, name) for name in self._workload.session_ids]
            tally = await self._workload.tally(store)
        judge = Judge()
        judge.hear(self._events)
        return Evidence(
            answers=answers,
            accounts=accounts,
            judge=judge,
            effects=self._receiver.deeds.counts | dict(tally),
            blows=self._blows,
        )

    async def _live(self, store: Ledger, blow: Blow | None) -> list[Answer] | None:
        """Let one process live; None where it died."""
        await self._witness.look(store, self._workload.session_ids)
        ledger = _struck(store, blow)
        process = Process(self._workload, ledger, self._witness, self._receiver, self._clock)
        try:
            return await self._persist(process, store, blow)
        except SimulatedCrash:
            self._blows += 1
            return None
        finally:
            self.appends = ledger.appends

    async def _persist(self, process: Process, store: Ledger, blow: Blow | None) -> list[Answer]:
        try:
            return await process.work()
        except AppendUnknown:
            if blow is None or blow.how != "unknown":
                raise
        self._blows += 1
        await self._witness.look(store, self._workload.session_ids)
        return await process.work()


def _struck(store: Ledger, blow: Blow | None) -> CrashingLedger | FaultyLedger:
    if blow is None:
        return CrashingLedger(store)
    if blow.how == "crash":
        return CrashingLedger(store, blow.at, "after" if blow.stored else "before")
    fault = FailAfter if blow.stored else FailBefore
    return FaultyLedger(store, {blow.at: fault(AppendUnknown("the storage did not say"))})
