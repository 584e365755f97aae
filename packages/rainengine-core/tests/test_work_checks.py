"""The checks of what workers ask of a store can fail: each is broken once, in memory."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any

import attrs
import pytest
import trio

from rainengine.core.abc import OutboxReport
from rainengine.core.errors import RainEngineError
from rainengine.core.inmemory import InMemoryLedger, OutboxRow
from rainengine.core.inmemory._outbox import Deliveries, Delivery
from rainengine.core.inmemory._session import Session
from rainengine.core.testing import WORK_CHECKS, CheckFailed, LedgerCheck, ScriptedClock

Spoil = Callable[[pytest.MonkeyPatch], None]


@attrs.define
class Maker:
    """Opens handles on one store in memory and moves its clock by hand."""

    clock: ScriptedClock = attrs.field(factory=ScriptedClock)
    backing: InMemoryLedger | None = None

    @asynccontextmanager
    async def open(self) -> AsyncGenerator[InMemoryLedger]:
        handle = InMemoryLedger(self.clock, backing=self.backing)
        self.backing = self.backing or handle
        yield handle

    async def let_pass(self, ms: int) -> None:
        self.clock.jump(ms)


def replacing(owner: type, name: str, make: Callable[[Any], Any]) -> Spoil:
    """Put what `make` makes of a method in its place."""

    def spoil(patch: pytest.MonkeyPatch) -> None:
        patch.setattr(owner, name, make(getattr(owner, name)))

    return spoil


def due_whenever(kind: str, condition: Callable[[Session, int], bool]) -> Spoil:
    """Have one kind of work be due by another condition."""

    def make(is_due: Any) -> Any:
        def wrong(session: Session, asked: str, now_ms: int) -> bool:
            return condition(session, now_ms) if asked == kind else is_due(session, asked, now_ms)

        return wrong

    return replacing(Session, "is_due", make)


def around(owner: type, name: str, change: Callable[..., Any]) -> Spoil:
    """Change what an async method returns, knowing what it was asked."""

    def make(method: Any) -> Any:
        async def wrong(self: Any, *args: Any, **options: Any) -> Any:
            return change(await method(self, *args, **options), *args, **options)

        return wrong

    return replacing(owner, name, make)


def asking(name: str, **wrong: Any) -> Spoil:
    """Have the store forget an argument."""

    def make(method: Any) -> Any:
        async def forgetful(self: Any, *args: Any, **options: Any) -> Any:
            return await method(self, *args, **{**options, **wrong})

        return forgetful

    return replacing(InMemoryLedger, name, make)


def looking_twice(_: Any) -> Any:
    """Let others in between finding rows and claiming them."""

    async def claim(
        self: Any, tenant: str, session_id: str, *, claim_ms: int, limit: int = 32
    ) -> Any:
        now_ms = self._clock.now_ms()
        rows = [
            row
            for rows in self._outbox(tenant, session_id).waiting.values()
            for row in rows
            if row.free(now_ms)
        ]
        await trio.lowlevel.checkpoint()
        taken = [row for row in rows[:limit] if row.delivered_at_ms is None]
        for row in taken:
            row.attempts, row.claim = row.attempts + 1, row.claim + 1
            row.claimed_until_ms = now_ms + claim_ms
        return [row.entry(tenant) for row in taken]

    return claim


def skipping_what_is_not_free(_: Any) -> Any:
    """Take what is free, whatever stands before it."""

    def claim(self: Deliveries, *, now_ms: int, until_ms: int, limit: int) -> list[Delivery]:
        free = [row for rows in self.waiting.values() for row in rows if row.free(now_ms)]
        claimed = sorted(free, key=lambda row: row.place)[:limit]
        for row in claimed:
            row.attempts, row.claim, row.claimed_until_ms = (
                row.attempts + 1,
                row.claim + 1,
                until_ms,
            )
        return claimed

    return claim


def topic_by_topic(claim: Any) -> Any:
    """Take all rows of the first topic before any of the next."""

    def wrong(self: Deliveries, *, now_ms: int, until_ms: int, limit: int) -> list[Delivery]:
        found: list[Delivery] = []
        for topic in sorted(self.waiting):
            one = Deliveries(waiting={topic: self.waiting[topic]})
            left = limit - len(found)
            found += claim(one, now_ms=now_ms, until_ms=until_ms, limit=left)
        return found

    return wrong


def settling_as(**changes: Any) -> Spoil:
    """Have reports say something else."""

    def make(settle: Any) -> Any:
        def wrong(self: Deliveries, report: OutboxReport, now_ms: int) -> None:
            settle(self, attrs.evolve(report, **changes), now_ms)

        return wrong

    return replacing(Deliveries, "settle", make)


def believing_anybody(settle: Any) -> Any:
    """Take every report for one on the newest claim."""

    def wrong(self: Deliveries, report: OutboxReport, now_ms: int) -> None:
        row = self.kept[report.entry.sequence, report.entry.ordinal]
        entry = attrs.evolve(report.entry, claim=row.claim)
        settle(self, attrs.evolve(report, entry=entry), now_ms)

    return wrong


def settling_for_ever(settle: Any) -> Any:
    """Take reports on rows that were given back already, or have failed."""

    def wrong(self: Deliveries, report: OutboxReport, now_ms: int) -> None:
        row = self.kept[report.entry.sequence, report.entry.ordinal]
        if row.delivered_at_ms is None and row.dead_at_ms is None:
            row.claimed_until_ms = row.claimed_until_ms or now_ms
        settle(self, report, now_ms)

    return wrong


def counting_what_is_returned(settle: Any) -> Any:
    """Have what was given back count as an attempt."""

    def wrong(self: Deliveries, report: OutboxReport, now_ms: int) -> None:
        settle(self, report, now_ms)
        row = self.kept[report.entry.sequence, report.entry.ordinal]
        row.attempts += report.outcome == "returned"

    return wrong


def refusing_late_reports(settle: Any) -> Any:
    """Take no reports on claims that ran out."""

    def wrong(self: Deliveries, report: OutboxReport, now_ms: int) -> None:
        row = self.kept[report.entry.sequence, report.entry.ordinal]
        if row.claimed_until_ms is None or row.claimed_until_ms > now_ms:
            settle(self, report, now_ms)

    return wrong


def redriving_tired(redrive: Any) -> Any:
    """Redrive with the attempts of before."""

    def wrong(self: Deliveries, entry: Any, now_ms: int) -> Any:
        row = self.kept.get((entry.sequence, entry.ordinal))
        attempts = row.attempts if row else 0
        redriven = redrive(self, entry, now_ms)
        if redriven and row:
            row.attempts = attempts
        return redriven

    return wrong


def storing_rows_first(refuse: Any) -> Any:
    """Keep the outbox items of an append that is refused."""

    def wrong(self: Session, records: Any, **how: Any) -> None:
        try:
            refuse(self, records, **how)
        except RainEngineError:
            row = OutboxRow(
                session_id=self.session_id, sequence=9, ordinal=0, topic="t", payload="1"
            )
            self.outbox.add(row, how["now_ms"])
            raise

    return wrong


def free_by(condition: Callable[[Delivery, int], bool]) -> Spoil:
    """Have rows be free by another condition."""
    return replacing(Delivery, "free", lambda _: condition)


SPOILS: list[tuple[Spoil, str]] = [
    (
        due_whenever("run", lambda session, _: session.owner is None),
        "check_a_run_that_nobody_holds_is_due",
    ),
    (
        due_whenever("run", lambda session, _: session.index.state == "running"),
        "check_a_run_is_due_once_its_lease_is_free",
    ),
    (
        due_whenever("run", lambda one, _: one.index.state == "running" and one.owner is None),
        "check_a_run_is_due_once_its_lease_has_expired",
    ),
    (
        due_whenever("run", lambda session, _: session.index.agent is not None),
        "check_a_run_needs_no_agent_to_be_due",
    ),
    (
        due_whenever("wake", lambda session, _: session.index.wake_due_at_ms is not None),
        "check_a_wake_is_due_when_its_time_has_come",
    ),
    (asking("due", now_ms=None), "check_the_time_to_judge_by_can_be_given"),
    (asking("due", after=None), "check_work_is_paged_across_tenants"),
    (
        around(InMemoryLedger, "due", lambda page, *_, **__: list(reversed(page))),
        "check_work_is_paged_across_tenants",
    ),
    (
        around(InMemoryLedger, "due", lambda page, *_, **__: [one for one in page for _ in "12"]),
        "check_a_session_is_due_once_for_all_that_it_has",
    ),
    (
        replacing(
            InMemoryLedger,
            "_sessions_after",
            lambda after: lambda self, at: after(self, (at[0], at[1] or "")),
        ),
        "check_a_tenant_can_be_jumped_past",
    ),
    (free_by(lambda row, now: row.due_at_ms <= now), "check_a_claim_holds_its_rows"),
    (
        free_by(lambda row, now: row.due_at_ms <= now),
        "check_a_session_is_due_until_its_rows_are_delivered",
    ),
    (
        free_by(lambda row, now: row.due_at_ms <= now and row.claimed_until_ms is None),
        "check_a_claim_that_runs_out_is_free_again",
    ),
    (
        free_by(lambda row, now: (row.claimed_until_ms or 0) <= now),
        "check_a_failing_row_holds_later_ones_of_its_topic",
    ),
    (
        replacing(Deliveries, "claim", skipping_what_is_not_free),
        "check_a_row_behind_a_claimed_one_is_not_taken",
    ),
    (
        replacing(Deliveries, "claim", skipping_what_is_not_free),
        "check_a_failing_row_holds_later_ones_of_its_topic",
    ),
    (replacing(Deliveries, "claim", topic_by_topic), "check_the_oldest_rows_are_claimed_first"),
    (
        replacing(InMemoryLedger, "claim", looking_twice),
        "check_each_row_is_claimed_by_one_of_many",
    ),
    (
        replacing(InMemoryLedger, "claim", looking_twice),
        "check_many_deliver_everything_once_and_in_order",
    ),
    (
        around(InMemoryLedger, "claim", lambda rows, *_, **__: rows[::-1]),
        "check_rows_are_claimed_as_they_were_appended",
    ),
    (
        replacing(Session, "refuse", storing_rows_first),
        "check_a_refused_append_leaves_no_rows",
    ),
    (settling_as(retry_in_ms=10**9), "check_a_failed_row_is_tried_again"),
    (settling_as(outcome="failed", retry_in_ms=10**9), "check_a_dead_row_gives_way"),
    (settling_as(error=None), "check_dead_rows_are_listed"),
    (
        replacing(Deliveries, "settle", counting_what_is_returned),
        "check_a_returned_row_does_not_count",
    ),
    (
        replacing(Deliveries, "settle", believing_anybody),
        "check_a_report_on_a_lost_claim_is_passed_over",
    ),
    (replacing(Deliveries, "settle", settling_for_ever), "check_reports_may_be_sent_again"),
    (
        replacing(Deliveries, "settle", refusing_late_reports),
        "check_a_late_report_counts_where_nobody_was_quicker",
    ),
    (asking("dead_letters", after=None), "check_dead_rows_are_listed"),
    (replacing(Deliveries, "redrive", redriving_tired), "check_a_dead_row_can_be_redriven"),
    (
        replacing(Deliveries, "redrive", lambda _: lambda *__: True),
        "check_a_dead_row_can_be_redriven",
    ),
    (asking("discard_delivered", before_ms=0), "check_delivered_rows_are_discarded"),
    (asking("discard_delivered", limit=1000), "check_delivered_rows_are_discarded"),
]


@pytest.mark.parametrize(("spoil", "caught_by"), SPOILS)
async def test_a_broken_store_is_caught(
    spoil: Spoil, caught_by: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A store that breaks a promise to workers fails the check that states it."""
    (check,) = [check for check in WORK_CHECKS if _name_of(check) == caught_by]
    spoil(monkeypatch)
    with pytest.raises(Exception) as caught:  # noqa: PT011 - looked at below
        await check(Maker())
    assert all(isinstance(leaf, CheckFailed) for leaf in _leaves(caught.value)), caught.value


def _name_of(check: LedgerCheck) -> str:
    return str(check.__name__)  # type: ignore[attr-defined]


def _leaves(error: BaseException) -> list[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        return [leaf for part in error.exceptions for leaf in _leaves(part)]
    return [error]


def test_every_check_states_its_promise() -> None:
    """Checks have names of their own and a docstring that says what holds."""
    names = [_name_of(check) for check in WORK_CHECKS]
    assert len(names) == len(set(names))
    assert all(name.startswith("check_") for name in names)
    assert all((check.__doc__ or "").endswith(".") for check in WORK_CHECKS)
