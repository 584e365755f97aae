"""Checks of what many writers do to one another, and of cancelled appends."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from functools import partial

import trio

from rainengine.core.abc import LeaseChange
from rainengine.core.errors import (
    DuplicateTrigger,
    LeaseHeld,
    RainEngineError,
    SequenceConflict,
)
from rainengine.core.records import Head, StoredRecord
from rainengine.core.testing._expect import CheckFailed, expect, expect_equal
from rainengine.core.testing._ledger_checks._capabilities import PATIENCE_S, chained
from rainengine.core.testing._maker import FullLedger, LedgerMaker, one_ledger, two_ledgers
from rainengine.core.testing._samples import note, trigger

WRITERS = 16


async def check_writers_with_expected_heads_never_fork(maker: LedgerMaker) -> None:
    """16 writers on one session, through two handles, make one history with all their records."""
    rounds = 4
    async with two_ledgers(maker) as ledgers:
        await _all_at_once(
            partial(_write_until_stored, ledgers[n % 2], f"w{n}", rounds) for n in range(WRITERS)
        )
        head = await ledgers[0].head("s")
        expect_equal(head, await _verified(ledgers[0]), "head that the chain leads to")
        contents = [_content(stored) for stored in await ledgers[1].read("s")]
        wanted = [f"w{n}.{i}" for n in range(WRITERS) for i in range(rounds)]
        expect_equal(sorted(wanted), sorted(contents), "every record, each once")
        for n in range(WRITERS):
            own = [text for text in contents if text.startswith(f"w{n}.")]
            expect_equal([f"w{n}.{i}" for i in range(rounds)], own, f"order of writer {n}")


async def _write_until_stored(ledger: FullLedger, name: str, rounds: int) -> None:
    for i in range(rounds):
        while True:
            head = await ledger.head("s")
            try:
                done = await ledger.append("s", [note(f"{name}.{i}")], expected=head)
            except SequenceConflict:
                continue
            expect_equal(head.sequence + 1, done.first_sequence, "place of the append")
            break


async def check_a_batch_is_never_torn(maker: LedgerMaker) -> None:
    """Batches of many writers stand whole, one after the other, wherever the head was."""
    async with two_ledgers(maker) as ledgers:
        await _all_at_once(
            partial(_append_batch, ledgers[n % 2], [f"w{n}.{i}" for i in range(5)])
            for n in range(WRITERS)
        )
        contents = [_content(stored) for stored in await ledgers[0].read("s")]
        batches = [contents[start : start + 5] for start in range(0, len(contents), 5)]
        wanted = [[f"w{n}.{i}" for i in range(5)] for n in range(WRITERS)]
        expect_equal(sorted(wanted), sorted(batches), "whole batches")


async def check_a_tailing_reader_skips_nothing(maker: LedgerMaker) -> None:
    """A reader that follows a session under 16 writers sees each record once, in order."""
    appends = 6
    async with two_ledgers(maker) as ledgers:
        seen: list[StoredRecord] = []
        with trio.fail_after(PATIENCE_S):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_tail, ledgers[1], WRITERS * appends, seen)
                for n in range(WRITERS):
                    texts = [f"w{n}.{i}" for i in range(appends)]
                    nursery.start_soon(_append_singly, ledgers[n % 2], texts)
        sequences = [stored.sequence for stored in seen]
        expect_equal(list(range(1, WRITERS * appends + 1)), sequences, "sequences seen")
        expect_equal(list(await ledgers[0].read("s")), seen, "records seen")


async def _tail(ledger: FullLedger, count: int, seen: list[StoredRecord]) -> None:
    while len(seen) < count:
        after = seen[-1].sequence if seen else 0
        head = await ledger.wait_past("s", after)
        page = await ledger.read("s", after=after, limit=7)
        expect(bool(page), f"records after {after} where the head is at {head.sequence}")
        seen += page


async def check_a_key_is_won_by_one_of_many(maker: LedgerMaker) -> None:
    """Of 16 triggers with one key at the same time, one is stored and the others are refused."""
    async with two_ledgers(maker) as ledgers:
        refused = await _refusals(
            lambda n: ledgers[n % 2].append("s", [trigger("key", run=f"r{n}")], expected=None)
        )
        expect_equal([DuplicateTrigger] * (WRITERS - 1), refused, "refusals")
        expect_equal(1, len(await ledgers[0].read("s")), "records stored")


async def check_a_lease_is_won_by_one_of_many(maker: LedgerMaker) -> None:
    """Of 16 owners who take a lease at the same time, one gets it and the others are refused."""
    async with two_ledgers(maker) as ledgers:
        refused = await _refusals(
            lambda n: ledgers[n % 2].append(
                "s", [note()], expected=None, lease=LeaseChange("take", f"o{n}", 3_600_000)
            )
        )
        expect_equal([LeaseHeld] * (WRITERS - 1), refused, "refusals")
        expect_equal(1, (await ledgers[1].lease_of("s")).fence, "fence")


async def _refusals(append: Callable[[int], Awaitable[object]]) -> list[type[RainEngineError]]:
    refused: list[type[RainEngineError]] = []

    async def attempt(n: int) -> None:
        try:
            await append(n)
        except RainEngineError as error:
            refused.append(type(error))

    await _all_at_once(partial(attempt, n) for n in range(WRITERS))
    return refused


async def check_many_sessions_at_once_are_all_stored(maker: LedgerMaker) -> None:
    """400 appends under way at once all wait their turn; none is dropped."""
    count = 400
    async with one_ledger(maker) as ledger:
        await _all_at_once(
            partial(ledger.append, f"s{n}", [note(str(n))], expected=None) for n in range(count)
        )
        for n in range(count):
            (stored,) = await ledger.read(f"s{n}")
            expect_equal(str(n), _content(stored), f"record of session {n}")


async def check_many_appends_to_one_session_keep_their_order(maker: LedgerMaker) -> None:
    """400 appends to one session under way at once are all stored, without gaps."""
    count = 400
    async with one_ledger(maker) as ledger:
        await _all_at_once(
            partial(ledger.append, "s", [note(str(n))], expected=None) for n in range(count)
        )
        contents = [_content(stored) for stored in await ledger.read("s")]
        expect_equal(sorted(map(str, range(count))), sorted(contents), "records")
        expect_equal(count, (await _verified(ledger)).sequence, "head")


async def check_a_cancelled_append_has_a_known_fate(maker: LedgerMaker) -> None:
    """After a cancelled append the session holds all of it or nothing, and that stays so."""
    batch = [trigger("key"), note("1"), note("2")]
    async with two_ledgers(maker) as (one, other):
        for moment in range(8):
            session_id = f"s{moment}"
            async with trio.open_nursery() as nursery:
                nursery.start_soon(partial(one.append, session_id, batch, expected=None))
                for _ in range(moment):
                    await trio.lowlevel.checkpoint()
                nursery.cancel_scope.cancel()
            head = await other.head(session_id)
            if head.sequence not in (0, len(batch)):
                raise CheckFailed(f"{head.sequence} of {len(batch)} records were stored")
            done = await one.append(session_id, [note("3")], expected=head)
            expect_equal(head.sequence + 1, done.head.sequence, "head after the next append")


async def check_a_cancelled_caller_stores_nothing(maker: LedgerMaker) -> None:
    """An append by a caller that is cancelled already stores nothing."""
    async with one_ledger(maker) as ledger:
        with trio.CancelScope() as scope:
            scope.cancel()
            await ledger.append("s", [note()], expected=None)
        expect(scope.cancelled_caught, "the cancellation is delivered")
        expect_equal(0, (await ledger.head("s")).sequence, "head")


async def _append_batch(ledger: FullLedger, texts: list[str]) -> None:
    await ledger.append("s", [note(text) for text in texts], expected=None)


async def _append_singly(ledger: FullLedger, texts: list[str]) -> None:
    for text in texts:
        await ledger.append("s", [note(text)], expected=None)


async def _verified(ledger: FullLedger) -> Head:
    return chained(ledger, "s", await ledger.read_encoded("s", limit=10_000))


def _content(stored: StoredRecord) -> str:
    return str(stored.record.event.content)  # type: ignore[attr-defined]


async def _all_at_once(calls: Iterable[Callable[[], Awaitable[object]]]) -> None:
    with trio.fail_after(PATIENCE_S):
        async with trio.open_nursery() as nursery:
            for call in calls:
                nursery.start_soon(call)


CHECKS = (
    check_writers_with_expected_heads_never_fork,
    check_a_batch_is_never_torn,
    check_a_tailing_reader_skips_nothing,
    check_a_key_is_won_by_one_of_many,
    check_a_lease_is_won_by_one_of_many,
    check_many_sessions_at_once_are_all_stored,
    check_many_appends_to_one_session_keep_their_order,
    check_a_cancelled_append_has_a_known_fate,
    check_a_cancelled_caller_stores_nothing,
)
