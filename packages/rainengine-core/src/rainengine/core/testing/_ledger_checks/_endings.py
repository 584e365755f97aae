"""Checks of the outbox: what becomes of rows that were claimed."""

from __future__ import annotations

from rainengine.core.abc import OutboxEntry, OutboxReport
from rainengine.core.errors import InadmissibleValue
from rainengine.core.testing._expect import CheckFailed, expect, expect_equal
from rainengine.core.testing._ledger_checks._outbox import Ending, places, publish, report
from rainengine.core.testing._ledger_checks._queue import HOUR_MS, SHORT_MS, due_ids
from rainengine.core.testing._maker import (
    LedgerMaker,
    WorkStore,
    new_tenant,
    one_store,
    two_stores,
)


async def check_a_failing_row_holds_later_ones_of_its_topic(maker: LedgerMaker) -> None:
    """Until its next attempt is due nothing of the topic is claimed; other topics go on."""
    async with one_store(maker) as store:
        tenant = new_tenant()
        await publish(store, tenant, "bad", "bad", "good")
        first, *others = await store.claim(tenant, "s", claim_ms=HOUR_MS)
        await report(store, "failed", first, error="no route", retry_in_ms=HOUR_MS)
        await report(store, "returned", *others)
        rest = await store.claim(tenant, "s", claim_ms=HOUR_MS)
        expect_equal([("good", 3)], places(rest), "rows beside the failed one")
        await report(store, "delivered", *rest)
        await publish(store, tenant, "bad")
        expect_equal([], await due_ids(store, "outbox", tenant), "due meanwhile")
        expect_equal([], list(await store.claim(tenant, "s", claim_ms=HOUR_MS)), "rows meanwhile")


async def check_a_failed_row_is_tried_again(maker: LedgerMaker) -> None:
    """When `retry_in_ms` is over the row is due, and those behind it come along, in order."""
    async with one_store(maker) as store:
        tenant = new_tenant()
        await publish(store, tenant, "t", "t")
        first, second = await store.claim(tenant, "s", claim_ms=HOUR_MS)
        await report(store, "failed", first, retry_in_ms=SHORT_MS)
        await report(store, "returned", second)
        await publish(store, tenant, "t")
        await maker.let_pass(2 * SHORT_MS)
        expect_equal(["s"], await due_ids(store, "outbox", tenant), "due again")
        entries = await store.claim(tenant, "s", claim_ms=HOUR_MS)
        attempts = [(entry.sequence, entry.attempts) for entry in entries]
        expect_equal([(1, 2), (2, 1), (3, 1)], attempts, "rows and their attempts")


async def check_a_dead_row_gives_way(maker: LedgerMaker) -> None:
    """Once a row is dead, the later ones of its topic go on, and it is not tried again."""
    async with one_store(maker) as store:
        tenant = new_tenant()
        await publish(store, tenant, "t", "t")
        first, second = await store.claim(tenant, "s", claim_ms=HOUR_MS)
        await report(store, "dead", first, error="refused")
        await report(store, "returned", second)
        expect_equal(["s"], await due_ids(store, "outbox", tenant), "due")
        entries = await store.claim(tenant, "s", claim_ms=HOUR_MS)
        expect_equal([("t", 2)], places(entries), "rows behind the dead one")


async def check_a_returned_row_does_not_count(maker: LedgerMaker) -> None:
    """What was given back is due at once, and its next attempt has the same number."""
    async with one_store(maker) as store:
        tenant = new_tenant()
        await publish(store, tenant, "t")
        (first,) = await store.claim(tenant, "s", claim_ms=HOUR_MS)
        await report(store, "returned", first)
        expect_equal(["s"], await due_ids(store, "outbox", tenant), "due")
        (again,) = await store.claim(tenant, "s", claim_ms=HOUR_MS)
        expect_equal((first.attempts, True), (again.attempts, again.claim > first.claim), "attempt")


async def check_a_report_on_a_lost_claim_is_passed_over(maker: LedgerMaker) -> None:
    """Whatever is said of a row that somebody else has claimed since, their claim stands."""
    endings: tuple[Ending, ...] = ("delivered", "failed", "dead", "returned")
    async with two_stores(maker) as (one, other):
        tenant = new_tenant()
        await publish(one, tenant, "t", "u")
        late = await one.claim(tenant, "s", claim_ms=SHORT_MS)
        await maker.let_pass(2 * SHORT_MS)
        held = await other.claim(tenant, "s", claim_ms=HOUR_MS)
        for ending in endings:
            await report(one, ending, *late, error="late")
            free = await one.claim(tenant, "s", claim_ms=HOUR_MS)
            expect_equal([], list(free), f"rows that are free after a late {ending!r}")
        expect_equal([], list(await one.dead_letters(tenant)), "dead rows")
        await report(other, "returned", *held)
        again = await one.claim(tenant, "s", claim_ms=HOUR_MS)
        expect_equal([2, 2], [entry.attempts for entry in again], "attempts")


async def check_a_late_report_counts_where_nobody_was_quicker(maker: LedgerMaker) -> None:
    """What was delivered is delivered, though its claim had run out."""
    async with one_store(maker) as store:
        tenant = new_tenant()
        await publish(store, tenant, "t")
        entries = await store.claim(tenant, "s", claim_ms=SHORT_MS)
        await maker.let_pass(2 * SHORT_MS)
        await report(store, "delivered", *entries)
        expect_equal([], await due_ids(store, "outbox", tenant), "due")


async def check_reports_may_be_sent_again(maker: LedgerMaker) -> None:
    """A report on a row that was settled already changes nothing."""
    async with one_store(maker) as store:
        tenant = new_tenant()
        await publish(store, tenant, "returned", "failed", "delivered", "dead")
        returned, failed, delivered, dead = await store.claim(tenant, "s", claim_ms=HOUR_MS)
        reports = [
            OutboxReport(entry=returned, outcome="returned"),
            OutboxReport(entry=failed, outcome="failed"),
            OutboxReport(entry=delivered, outcome="delivered"),
            OutboxReport(entry=dead, outcome="dead", error="first"),
        ]
        await store.settle(reports)
        await store.settle(reports)
        for entry in (failed, delivered, dead):
            await report(store, "dead", entry, error="second")
        letters = await store.dead_letters(tenant)
        told = [(letter.entry.topic, letter.error) for letter in letters]
        expect_equal([("dead", "first")], told, "dead rows")
        again = await store.claim(tenant, "s", claim_ms=HOUR_MS)
        attempts = [(entry.topic, entry.attempts) for entry in again]
        expect_equal([("returned", 1), ("failed", 2)], attempts, "what is left")
        await store.settle([])


async def check_reports_are_admitted_together(maker: LedgerMaker) -> None:
    """One report that breaks a rule refuses all; what an error says is made fit to be stored."""
    async with one_store(maker) as store:
        tenant = new_tenant()
        await publish(store, tenant, "t")
        await publish(store, tenant, "t", session_id="other")
        (mine,) = await store.claim(tenant, "s", claim_ms=HOUR_MS)
        (other,) = await store.claim(tenant, "other", claim_ms=HOUR_MS)
        good = OutboxReport(entry=mine, outcome="delivered")
        for bad in (
            OutboxReport(entry=other, outcome="delivered"),
            OutboxReport(entry=mine, outcome="failed", retry_in_ms=-1),
            OutboxReport(entry=mine, outcome="failed", retry_in_ms=2**63),
            OutboxReport(entry=mine, outcome="lost"),  # type: ignore[arg-type]
        ):
            await _refuse(store, good, bad)
        await report(store, "dead", mine, error="a\0b\ud800" + "x" * 100_000)
        (letter,) = await store.dead_letters(tenant)
        expect((letter.error or "").startswith("a�b�x"), f"error {letter.error!r:.20}")


async def _refuse(store: WorkStore, *reports: OutboxReport) -> None:
    try:
        await store.settle(reports)
    except InadmissibleValue:
        return
    raise CheckFailed(f"{reports[-1]!r} was admitted")


async def check_dead_rows_are_listed(maker: LedgerMaker) -> None:
    """A tenant's dead rows come in pages, by session and place, with what they died of."""
    async with two_stores(maker) as (one, other):
        tenant, stranger = new_tenant(), new_tenant()
        expect_equal([], list(await one.dead_letters(tenant)), "before any died")
        for owner, session_id in ((tenant, "b"), (tenant, "a"), (stranger, "a"), (tenant, "ä")):
            await publish(one, owner, "t", "u", session_id=session_id)
            entries = await one.claim(owner, session_id, claim_ms=HOUR_MS)
            await report(one, "dead", *entries, error=f"died in {session_id}")
        found = await other.dead_letters(tenant)
        places = [(letter.entry.session_id, letter.entry.sequence) for letter in found]
        expect_equal([(s, n) for s in ("a", "b", "ä") for n in (1, 2)], places, "places")
        told = [(letter.entry.payload, letter.error) for letter in found[:2]]
        expect_equal([("t", "died in a"), ("u", "died in a")], told, "payloads and errors")
        expect(all(letter.died_at_ms > 0 for letter in found), "times")
        after: OutboxEntry | None = None
        for page in (found[:3], found[3:]):
            expect_equal(page, list(await other.dead_letters(tenant, after=after, limit=3)), "page")
            after = page[-1].entry
        expect_equal([], list(await other.dead_letters(tenant, after=after)), "after the last")


async def check_a_dead_row_can_be_redriven(maker: LedgerMaker) -> None:
    """It is tried again at once, before later ones, with fresh attempts; only a dead one is."""
    async with two_stores(maker) as (one, other):
        tenant = new_tenant()
        await publish(one, tenant, "t", "t")
        first, second = await one.claim(tenant, "s", claim_ms=HOUR_MS)
        expect(not await other.redrive(first), "a row that is claimed is not dead")
        await report(one, "dead", first, error="refused")
        await report(one, "failed", second, retry_in_ms=HOUR_MS)
        expect(await other.redrive(first), "a dead row is redriven")
        expect(not await other.redrive(first), "and is not dead any more")
        expect_equal([], list(await one.dead_letters(tenant)), "dead rows")
        expect_equal(["s"], await due_ids(one, "outbox", tenant), "due")
        entries = await other.claim(tenant, "s", claim_ms=HOUR_MS)
        expect_equal([("t", 1)], places(entries), "up to the one that waits")
        expect_equal((1, True), (entries[0].attempts, entries[0].claim > first.claim), "attempt")
        await report(one, "dead", first, error="late")
        expect_equal([], list(await one.dead_letters(tenant)), "after a report on its first life")


async def check_delivered_rows_are_discarded(maker: LedgerMaker) -> None:
    """Rows delivered before a time are deleted, up to a number; all others stay."""
    async with one_store(maker) as store:
        tenant = new_tenant()
        await publish(store, tenant, "t", "t", "t", "dead", "waits")
        entries = await store.claim(tenant, "s", claim_ms=HOUR_MS)
        await report(store, "delivered", *entries[:3])
        await report(store, "dead", entries[3])
        await report(store, "returned", entries[4])
        (letter,) = await store.dead_letters(tenant)
        await store.discard_delivered(before_ms=letter.died_at_ms - HOUR_MS)
        await _discard_all(store, before_ms=letter.died_at_ms + HOUR_MS, at_least=3)
        expect_equal([letter], list(await store.dead_letters(tenant)), "dead rows")
        left = await store.claim(tenant, "s", claim_ms=HOUR_MS)
        expect_equal([("waits", 5)], places(left), "rows that wait")


async def _discard_all(store: WorkStore, *, before_ms: int, at_least: int) -> None:
    total = 0
    while deleted := await store.discard_delivered(before_ms=before_ms, limit=2):
        expect(deleted <= 2, f"{deleted} rows of at most 2")  # noqa: PLR2004
        total += deleted
    expect(total >= at_least, f"{total} rows deleted where there were {at_least}")


CHECKS = (
    check_a_failing_row_holds_later_ones_of_its_topic,
    check_a_failed_row_is_tried_again,
    check_a_dead_row_gives_way,
    check_a_returned_row_does_not_count,
    check_a_report_on_a_lost_claim_is_passed_over,
    check_a_late_report_counts_where_nobody_was_quicker,
    check_reports_may_be_sent_again,
    check_reports_are_admitted_together,
    check_dead_rows_are_listed,
    check_a_dead_row_can_be_redriven,
    check_delivered_rows_are_discarded,
)
