"""What transactions store, and what they leave alone."""

from __future__ import annotations

import threading
from functools import partial
from typing import Any

import trio

from rainengine.core.abc import LeaseChange, Outbox, OutboxItem, SessionIndex
from rainengine.core.errors import SequenceConflict
from rainengine.core.testing._expect import expect_equal
from rainengine.core.testing._ledger_checks._capabilities import PATIENCE_S
from rainengine.core.testing._ledger_checks._leases import TAKE
from rainengine.core.testing._maker import FullLedger, LedgerMaker
from rainengine.core.testing._samples import note, trigger
from rainengine.core.testing._transaction_checks._bench import new_bench, nothing


async def check_an_effect_is_stored_with_its_records(maker: LedgerMaker) -> None:
    """Rows, records, index and lease are there together, for every handle."""
    async with new_bench(maker) as bench:
        first = await bench.one.append("s", [trigger()], expected=None, lease=TAKE)
        done = await bench.do(
            nothing,
            note("a"),
            note("b"),
            expected=first.head,
            fence=1,
            lease=LeaseChange("extend", "a", 1),
            index=SessionIndex(state="running", agent="mine"),
        )
        expect_equal((2, 3, 1), (done.first_sequence, done.head.sequence, done.fence), "answer")
        expect_equal(1, await bench.effects(), "effects")
        expect_equal(done.head, await bench.other.head("s"), "head for the other handle")
        lease = await bench.one.lease_of("s")
        expect_equal(("a", 1), (lease.owner, lease.fence), "lease")


async def check_what_is_published_is_delivered(maker: LedgerMaker) -> None:
    """Outbox items of a transaction are rows behind its last record; skipped without `Outbox`."""
    async with new_bench(maker) as bench, maker.open() as store:
        items = [OutboxItem(topic="t", payload={"n": n}) for n in range(2)]
        done = await bench.do(nothing, note(), note(), outbox=items)
        if not isinstance(store, Outbox):
            return
        entries = await store.claim(bench.one.tenant, "s", claim_ms=1_000)
        found = [(entry.sequence, entry.ordinal, entry.payload) for entry in entries]
        expected = [(done.head.sequence, n, {"n": n}) for n in range(2)]
        expect_equal(expected, found, "rows of the outbox")


async def check_a_transaction_needs_no_certain_head(maker: LedgerMaker) -> None:
    """Without an expected head the records come behind whatever there is."""
    async with new_bench(maker) as bench:
        await bench.one.append("s", [trigger(), note()], expected=None)
        done = await bench.do()
        expect_equal((3, 1), (done.first_sequence, await bench.effects()), "place, and effects")


async def check_appends_see_what_a_transaction_did(maker: LedgerMaker) -> None:
    """Appends behind a transaction, through any handle, are judged by the session as it is."""
    async with new_bench(maker) as bench:
        first = await bench.one.append("s", [note()], expected=None)
        done = await bench.do(expected=first.head)
        for ledger in (bench.one, bench.other):
            async with bench.refusal(SequenceConflict, "append upon the head before"):
                await ledger.append("s", [note()], expected=first.head)
            done = await ledger.append("s", [note()], expected=done.head)


async def check_waiting_ends_with_a_transaction(maker: LedgerMaker) -> None:
    """`wait_past` returns the head that a transaction has made."""
    async with new_bench(maker) as bench:
        heads: list[object] = []

        async def wait(ledger: FullLedger) -> None:
            heads.append(await ledger.wait_past("s", 0))

        with trio.fail_after(PATIENCE_S):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(wait, bench.one)
                nursery.start_soon(wait, bench.other)
                done = await bench.do()
        expect_equal([done.head] * 2, heads, "heads that the waiters saw")


async def check_a_cancelled_transaction_is_waited_for(maker: LedgerMaker) -> None:
    """A transaction that has begun comes to its end; the cancellation comes after it."""
    begun, over = threading.Event(), threading.Event()

    def hold(_: object) -> None:
        begun.set()
        over.wait(PATIENCE_S)

    async with new_bench(maker) as bench:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(bench.do, hold))
            await trio.to_thread.run_sync(begun.wait)
            nursery.cancel_scope.cancel()
            over.set()
        expect_equal((1, 1), (await bench.effects(), (await bench.one.head("s")).sequence), "end")


async def check_row_factories_do_not_stay(maker: LedgerMaker) -> None:
    """A row factory that a function sets reaches neither the ledger's statements nor the next."""
    seen: list[object] = []

    def set_row_factory(connection: Any) -> None:  # noqa: ANN401 - the driver's
        seen.append(connection.row_factory)
        connection.row_factory = _no_row

    async with new_bench(maker) as bench:
        for _ in range(4):
            await bench.do(set_row_factory)
        expect_equal([seen[0]] * 4, seen, "row factories")
        expect_equal(4, (await bench.one.head("s")).sequence, "head")


def _no_row(*_: Any) -> None:  # noqa: ANN401 - whatever a driver hands over
    return None


CHECKS = (
    check_an_effect_is_stored_with_its_records,
    check_what_is_published_is_delivered,
    check_a_transaction_needs_no_certain_head,
    check_appends_see_what_a_transaction_did,
    check_waiting_ends_with_a_transaction,
    check_a_cancelled_transaction_is_waited_for,
    check_row_factories_do_not_stay,
)
