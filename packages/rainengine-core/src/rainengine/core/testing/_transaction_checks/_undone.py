"""What undoes transactions: everything but a clean end."""

from __future__ import annotations

import operator
import threading
import time
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from typing import Any

import trio

from rainengine.core.abc import Appended, OutboxItem
from rainengine.core.errors import (
    FenceLost,
    InadmissibleValue,
    LeaseHeld,
    SequenceConflict,
    TransactionMisused,
    TransactionTimeout,
)
from rainengine.core.testing._expect import expect, expect_equal
from rainengine.core.testing._ledger_checks._leases import TAKE
from rainengine.core.testing._maker import LedgerMaker
from rainengine.core.testing._samples import OTHER_HEAD, note
from rainengine.core.testing._transaction_checks._bench import (
    TransactionalLedger,
    new_bench,
    nothing,
)

ENDLESS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n"


async def check_what_is_raised_undoes_everything(maker: LedgerMaker) -> None:
    """The caller gets the very error that the function raised, and nothing is stored."""
    async with new_bench(maker) as bench:
        for error in (KeyError("mine"), SequenceConflict("s", 1, 2)):

            def fail(_: object, error: Exception = error) -> None:
                raise error

            try:
                await bench.do(fail)
            except (KeyError, SequenceConflict) as raised:
                expect(raised is error, f"{error!r} came out as {raised!r}")
            expect_equal(0, await bench.effects(), "effects")
        expect_equal(0, (await bench.one.head("s")).sequence, "head")


async def check_a_drivers_error_comes_out_as_it_is(maker: LedgerMaker) -> None:
    """What a function's own statement raises is not taken for a failure of the ledger."""
    raised: list[Exception] = []

    def fail(connection: Any) -> None:  # noqa: ANN401 - the driver's
        try:
            connection.execute("INSERT INTO nothing_of_this_name VALUES (1)")
        except Exception as error:
            raised.append(error)
            raise

    async with new_bench(maker) as bench:
        try:
            await bench.do(fail)
        except Exception as error:  # noqa: BLE001 - the driver's
            expect(error is raised[0], f"{raised[0]!r} came out as {error!r}")
        expect_equal((1, 0), (len(raised), await bench.effects()), "failures, and effects")


async def check_another_head_undoes_the_effect(maker: LedgerMaker) -> None:
    """Where the session has another head than expected, nothing is stored."""
    async with new_bench(maker) as bench:
        first = await bench.one.append("s", [note()], expected=None)
        await bench.other.append("s", [note()], expected=None)
        for expected in (first.head, OTHER_HEAD):
            async with bench.refusal(SequenceConflict, "another head"):
                await bench.do(expected=expected)


async def check_an_older_fence_undoes_the_effect(maker: LedgerMaker) -> None:
    """Where somebody has taken the session since, or holds it, nothing is stored."""
    async with new_bench(maker) as bench:
        await bench.one.append("s", [note()], expected=None, lease=TAKE)
        await bench.one.append("s", [], expected=None, fence=1, lease=TAKE)
        async with bench.refusal(FenceLost, "an older fence"):
            await bench.do(fence=1)
        async with bench.refusal(LeaseHeld, "no fence"):
            await bench.do()


async def check_an_older_fence_counts_at_the_end(maker: LedgerMaker) -> None:
    """A session that is taken while the function runs refuses its effect.

    Where the database has one writer at a time, the other comes after it, and finds it stored.
    """
    async with new_bench(maker) as bench:
        await bench.one.append("s", [note()], expected=None, lease=TAKE)
        begun, over = threading.Event(), threading.Event()
        ends: list[str] = []

        def hold(_: object) -> None:
            begun.set()
            over.wait(0.1)

        async def effect() -> None:
            try:
                await bench.do(hold, fence=1)
                ends.append("stored")
            except FenceLost:
                ends.append("refused")

        async def take() -> None:
            await trio.to_thread.run_sync(begun.wait)
            await bench.other.append("s", [], expected=None, fence=1, lease=TAKE)
            ends.append("taken")
            over.set()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(effect)
            nursery.start_soon(take)
        expected = {"taken, refused": 0, "stored, taken": 1}.get(", ".join(ends))
        expect_equal(expected, await bench.effects(), f"effects, after {ends}")


async def check_records_that_cannot_be_stored_undo_the_effect(maker: LedgerMaker) -> None:
    """Records and outbox items that break the admission rule are refused, effect and all."""
    async with new_bench(maker) as bench:
        async with bench.refusal(InadmissibleValue, "a record with a NUL"):
            await bench.do(nothing, note("a\0b"))
        async with bench.refusal(InadmissibleValue, "a payload with a NUL"):
            await bench.do(outbox=[OutboxItem(topic="t", payload="a\0b")])


async def check_of_many_upon_one_head_one_is_stored(maker: LedgerMaker) -> None:
    """Of transactions that expect one head, on two handles, one takes effect; the rest conflict."""
    async with new_bench(maker) as bench:
        head = (await bench.one.append("s", [note()], expected=None)).head
        stored: list[Appended] = []

        async def attempt(ledger: TransactionalLedger) -> None:
            try:
                stored.append(await bench.do(ledger=ledger, expected=head))
            except SequenceConflict:
                return

        await _all_at_once(partial(attempt, (bench.one, bench.other)[n % 2]) for n in range(8))
        expect_equal((1, 1), (len(stored), await bench.effects()), "answers, and effects")


async def _all_at_once(tasks: Iterable[Callable[[], Awaitable[None]]]) -> None:
    async with trio.open_nursery() as nursery:
        for task in tasks:
            nursery.start_soon(task)


async def check_what_takes_too_long_is_undone(maker: LedgerMaker) -> None:
    """An endless statement is stopped, what returns late counts as late, and nothing is stored."""
    limit_s = 0.05

    def endless(connection: Any) -> None:  # noqa: ANN401 - the driver's
        connection.execute(ENDLESS).fetchone()

    def late(_: object) -> None:
        until_s = time.monotonic() + limit_s
        while time.monotonic() < until_s:
            pass

    def swallow(connection: Any) -> None:  # noqa: ANN401 - the driver's
        try:
            endless(connection)
        except Exception:  # noqa: BLE001 - the driver's
            return

    async with new_bench(maker) as bench:
        for work in (endless, late, swallow):
            async with bench.refusal(TransactionTimeout, work.__name__):
                await bench.do(work, timeout_s=limit_s)


async def check_a_transaction_is_not_the_functions_to_end(maker: LedgerMaker) -> None:
    """What ends the transaction by the driver's own means is refused, even if that is ignored."""

    def ignore(connection: Any, how: str) -> None:  # noqa: ANN401 - the driver's
        try:
            getattr(connection, how)()
        except Exception:  # noqa: BLE001 - the driver's
            return

    async with new_bench(maker) as bench:
        for how in ("commit", "rollback", "close"):
            async with bench.refusal(TransactionMisused, how):
                await bench.do(operator.methodcaller(how))
            async with bench.refusal(TransactionMisused, f"{how}, ignored"):
                await bench.do(partial(ignore, how=how))


CHECKS = (
    check_what_is_raised_undoes_everything,
    check_a_drivers_error_comes_out_as_it_is,
    check_another_head_undoes_the_effect,
    check_an_older_fence_undoes_the_effect,
    check_an_older_fence_counts_at_the_end,
    check_records_that_cannot_be_stored_undo_the_effect,
    check_of_many_upon_one_head_one_is_stored,
    check_what_takes_too_long_is_undone,
    check_a_transaction_is_not_the_functions_to_end,
)
