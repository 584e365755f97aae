"""Checks of the outbox: who may deliver what."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from rainengine.core.abc import (
    LeaseChange,
    OutboxEntry,
    OutboxItem,
    OutboxReport,
)
from rainengine.core.errors import DuplicateTrigger, SequenceConflict
from rainengine.core.records import JsonValue
from rainengine.core.testing._expect import expect, expect_equal, refusal
from rainengine.core.testing._ledger_checks._queue import HOUR_MS, SHORT_MS, due_ids
from rainengine.core.testing._maker import (
    LedgerMaker,
    WorkStore,
    new_tenant,
    one_store,
    tenant_of,
    two_stores,
)
from rainengine.core.testing._samples import OTHER_HEAD, note, trigger

Ending = Literal["delivered", "failed", "dead", "returned"]


async def publish(store: WorkStore, tenant: str, *topics: str, session_id: str = "s") -> None:
    """Append an item a topic; an append each, so that they stand in order of their sequences."""
    for topic in topics:
        item = OutboxItem(topic=topic, payload=topic)
        await store.for_tenant(tenant).append(session_id, [note()], expected=None, outbox=[item])


async def report(
    store: WorkStore,
    outcome: Ending,
    *entries: OutboxEntry,
    error: str | None = None,
    retry_in_ms: int = 0,
) -> None:
    """Settle rows, all in the same way."""
    reports = [
        OutboxReport(entry=entry, outcome=outcome, error=error, retry_in_ms=retry_in_ms)
        for entry in entries
    ]
    await store.settle(reports)


def places(entries: Sequence[OutboxEntry]) -> list[tuple[str, int]]:
    return [(entry.topic, entry.sequence) for entry in entries]


async def check_rows_are_claimed_as_they_were_appended(maker: LedgerMaker) -> None:
    """A row has its append's last sequence, its place in it, topic, payload, and first attempt."""
    payloads: list[JsonValue] = [
        {"n": 1, "text": "ü \U0001f327"},
        [None, True, 2.5],
        "a",
        2**53,
        None,
    ]
    async with two_stores(maker) as (one, other):
        tenant = new_tenant()
        items = [OutboxItem(topic=f"topic {n % 2}", payload=p) for n, p in enumerate(payloads)]
        ledger = one.for_tenant(tenant)
        await ledger.append("s", [note(), note()], expected=None, outbox=items)
        entries = await other.claim(tenant, "s", claim_ms=HOUR_MS)
        expected = [
            (tenant, "s", 2, n, f"topic {n % 2}", payload, 1) for n, payload in enumerate(payloads)
        ]
        expect_equal(expected, [_facts(entry) for entry in entries], "rows")
        expect_equal(5, len({entry.key for entry in entries}), "keys of their own")


def _facts(entry: OutboxEntry) -> tuple[object, ...]:
    place = (entry.tenant, entry.session_id, entry.sequence, entry.ordinal)
    return (*place, entry.topic, entry.payload, entry.attempts)


async def check_a_session_is_due_until_its_rows_are_delivered(maker: LedgerMaker) -> None:
    """A session with rows is due, held or not; not while they are claimed, nor once delivered."""
    item = OutboxItem(topic="t", payload=1)
    take = LeaseChange("take", "a", HOUR_MS)
    async with two_stores(maker) as (one, other):
        tenant = new_tenant()
        ledger = one.for_tenant(tenant)
        await ledger.append("s", [trigger()], expected=None, lease=take, outbox=[item])
        expect_equal(["s"], await due_ids(other, "outbox", tenant), "due before")
        entries = await other.claim(tenant, "s", claim_ms=HOUR_MS)
        expect_equal([], await due_ids(one, "outbox", tenant), "due while it is claimed")
        await report(other, "delivered", *entries)
        expect_equal([], await due_ids(one, "outbox", tenant), "due when it is delivered")
        expect_equal([], list(await one.claim(tenant, "s", claim_ms=HOUR_MS)), "rows then")


async def check_a_refused_append_leaves_no_rows(maker: LedgerMaker) -> None:
    """Outbox items are stored with their append, or not at all."""
    item = OutboxItem(topic="t", payload=1)
    async with one_store(maker) as store:
        tenant = new_tenant()
        ledger = tenant_of(store, tenant)
        await ledger.append("s", [trigger("key")], expected=None)
        async with refusal(ledger, "s", SequenceConflict, "stale head"):
            await ledger.append("s", [note()], expected=OTHER_HEAD, outbox=[item])
        async with refusal(ledger, "s", DuplicateTrigger, "used key"):
            await ledger.append("s", [note(), trigger("key")], expected=None, outbox=[item])
        expect_equal([], await due_ids(store, "outbox", tenant), "due")
        expect_equal([], list(await store.claim(tenant, "s", claim_ms=HOUR_MS)), "rows")


async def check_a_claim_holds_its_rows(maker: LedgerMaker) -> None:
    """Nobody else gets claimed rows, nor later ones of their topic, through any handle."""
    async with two_stores(maker) as (one, other):
        tenant = new_tenant()
        await publish(one, tenant, "t", "t")
        mine = await one.claim(tenant, "s", claim_ms=HOUR_MS)
        expect_equal([("t", 1), ("t", 2)], places(mine), "rows claimed")
        await publish(one, tenant, "t")
        for store in (one, other):
            expect_equal([], list(await store.claim(tenant, "s", claim_ms=HOUR_MS)), "claimed")


async def check_a_claim_that_runs_out_is_free_again(maker: LedgerMaker) -> None:
    """After its time anybody may claim a row; the attempt has counted, the claim has a number."""
    async with two_stores(maker) as (one, other):
        tenant = new_tenant()
        await publish(one, tenant, "t")
        (first,) = await one.claim(tenant, "s", claim_ms=SHORT_MS)
        await maker.let_pass(2 * SHORT_MS)
        expect_equal(["s"], await due_ids(other, "outbox", tenant), "due again")
        (second,) = await other.claim(tenant, "s", claim_ms=HOUR_MS)
        expect_equal((first.key, 2), (second.key, second.attempts), "key and attempt")
        expect(second.claim > first.claim, "each claim has a higher number")


async def check_the_oldest_rows_are_claimed_first(maker: LedgerMaker) -> None:
    """`limit` counts rows of all topics together, oldest first; the others of a topic wait."""
    async with two_stores(maker) as (one, other):
        tenant = new_tenant()
        await publish(one, tenant, "b", "a", "b", "c", "a")
        mine = await one.claim(tenant, "s", claim_ms=HOUR_MS, limit=3)
        expect_equal([("b", 1), ("a", 2), ("b", 3)], places(mine), "the oldest three")
        rest = await other.claim(tenant, "s", claim_ms=HOUR_MS)
        expect_equal([("c", 4)], places(rest), "what is in no topic that is claimed")
        await report(one, "delivered", *mine[:2])
        rest = await other.claim(tenant, "s", claim_ms=HOUR_MS)
        expect_equal([("a", 5)], places(rest), "what is free then")
        expect_equal([], list(await other.claim(tenant, "s", claim_ms=1, limit=0)), "none")


async def check_a_row_behind_a_claimed_one_is_not_taken(maker: LedgerMaker) -> None:
    """Claims go up to the first row that somebody has, though those before it be free."""
    async with two_stores(maker) as (one, other):
        tenant = new_tenant()
        await publish(one, tenant, "t", "t", "t", "t")
        mine = await one.claim(tenant, "s", claim_ms=HOUR_MS, limit=3)
        await report(one, "returned", mine[0])
        await report(one, "delivered", mine[1])
        rest = await other.claim(tenant, "s", claim_ms=HOUR_MS)
        expect_equal([("t", 1)], places(rest), "rows before the third, which is claimed")


async def check_tenants_deliver_apart(maker: LedgerMaker) -> None:
    """Another tenant's session of the same name has rows of its own."""
    async with one_store(maker) as store:
        one, other = new_tenant(), new_tenant()
        await publish(store, one, "t")
        expect_equal([], list(await store.claim(other, "s", claim_ms=HOUR_MS)), "rows")
        expect_equal([], await due_ids(store, "outbox", other), "due")
        expect_equal(1, len(await store.claim(one, "s", claim_ms=HOUR_MS)), "rows of the owner")


CHECKS = (
    check_rows_are_claimed_as_they_were_appended,
    check_a_session_is_due_until_its_rows_are_delivered,
    check_a_refused_append_leaves_no_rows,
    check_a_claim_holds_its_rows,
    check_a_claim_that_runs_out_is_free_again,
    check_the_oldest_rows_are_claimed_first,
    check_a_row_behind_a_claimed_one_is_not_taken,
    check_tenants_deliver_apart,
)
