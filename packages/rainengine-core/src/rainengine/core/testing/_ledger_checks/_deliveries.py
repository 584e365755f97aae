"""Checks of several who deliver at the same time."""

from __future__ import annotations

from collections import Counter

import trio

from rainengine.core.abc import OutboxEntry, OutboxItem
from rainengine.core.testing._expect import expect_equal
from rainengine.core.testing._ledger_checks._outbox import report
from rainengine.core.testing._ledger_checks._queue import HOUR_MS, due_ids
from rainengine.core.testing._maker import LedgerMaker, WorkStore, new_tenant, two_stores
from rainengine.core.testing._samples import note

CLAIMERS = 8
PATIENCE_S = 30


async def check_each_row_is_claimed_by_one_of_many(maker: LedgerMaker) -> None:
    """Of 8 who claim at the same time, over two handles, each row goes to one."""
    async with two_stores(maker) as stores:
        tenant = new_tenant()
        items = [OutboxItem(topic=f"t{n % 3}", payload=n) for n in range(24)]
        claimed: list[OutboxEntry] = []

        async def claim(store: WorkStore) -> None:
            claimed.extend(await store.claim(tenant, "s", claim_ms=HOUR_MS, limit=5))

        await stores[0].for_tenant(tenant).append("s", [note()], expected=None, outbox=items)
        with trio.fail_after(PATIENCE_S):
            async with trio.open_nursery() as nursery:
                for n in range(CLAIMERS):
                    nursery.start_soon(claim, stores[n % 2])
        twice = [key for key, count in Counter(one.key for one in claimed).items() if count > 1]
        expect_equal([], twice, "rows that two have")
        for topic in ("t0", "t1", "t2"):
            found = sorted(one.ordinal for one in claimed if one.topic == topic)
            first = [item for item in range(24) if f"t{item % 3}" == topic][: len(found)]
            expect_equal(first, found, f"rows of {topic}, from its first on")


async def check_many_deliver_everything_once_and_in_order(maker: LedgerMaker) -> None:
    """Claims, failures, returns and appends at the same time: each row once, topics in order."""
    topics = ("t0", "t1", "t2")
    async with two_stores(maker) as stores:
        tenant = new_tenant()
        delivered: list[OutboxEntry] = []
        over = trio.Event()
        with trio.fail_after(PATIENCE_S):
            async with trio.open_nursery() as nursery:
                for n in range(CLAIMERS):
                    nursery.start_soon(_keep_delivering, stores[n % 2], tenant, n, delivered, over)
                for n in range(30):
                    items = [OutboxItem(topic=topic, payload=n) for topic in topics]
                    ledger = stores[n % 2].for_tenant(tenant)
                    await ledger.append("s", [note()], expected=None, outbox=items)
                while len(delivered) < 30 * len(topics):  # noqa: ASYNC110 - others go on meanwhile
                    await trio.sleep(0.001)
                over.set()
        for topic in topics:
            found = [entry.payload for entry in delivered if entry.topic == topic]
            expect_equal(list(range(30)), found, f"what was delivered of {topic}")
        expect_equal([], await due_ids(stores[0], "outbox", tenant), "due in the end")


async def _keep_delivering(
    store: WorkStore, tenant: str, number: int, delivered: list[OutboxEntry], over: trio.Event
) -> None:
    while not over.is_set():
        await _deliver(store, tenant, number, delivered)


async def _deliver(
    store: WorkStore, tenant: str, number: int, delivered: list[OutboxEntry]
) -> None:
    """Claim a few rows; deliver one, have the next one fail, and give back the others."""
    entries = await store.claim(tenant, "s", claim_ms=HOUR_MS, limit=2 + number % 3)
    if entries:
        delivered.append(entries[0])
        await report(store, "delivered", entries[0])
        await report(store, "failed", *entries[1:2])
        await report(store, "returned", *entries[2:])


CHECKS = (
    check_each_row_is_claimed_by_one_of_many,
    check_many_deliver_everything_once_and_in_order,
)
