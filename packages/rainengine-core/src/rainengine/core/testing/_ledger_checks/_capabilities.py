"""Checks of snapshots, waiting and encoded records."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count

import attrs
import trio

from rainengine.core.abc import EncodedEntry, Snapshot
from rainengine.core.codec import EncodedRecord, chain_hash, decode, genesis_hash
from rainengine.core.records import Head
from rainengine.core.testing._expect import expect_equal
from rainengine.core.testing._maker import FullLedger, LedgerMaker, one_ledger, two_ledgers
from rainengine.core.testing._samples import note, outcome, trigger

PATIENCE_S = 30


async def check_encoded_records_fit_the_chain(maker: LedgerMaker) -> None:
    """Each stored hash follows from the one before it and the record's stored fields."""
    async with one_ledger(maker) as ledger:
        await ledger.append(
            "s", [trigger("schlüssel"), note("ü"), note("\U0001f327")], expected=None
        )
        done = await ledger.append("s", [outcome(), note("\\u0000 as text")], expected=None)
        entries = await ledger.read_encoded("s")
        expect_equal(done.head, chained(ledger, "s", entries), "head that the records lead to")
        hashes = [stored.hash for stored in await ledger.read("s")]
        expect_equal([entry.hash for entry in entries], hashes, "hashes of decoded records")


async def check_encoded_records_decode_to_the_records(maker: LedgerMaker) -> None:
    """`read_encoded` and `read` show the same records, in the same pages."""
    async with one_ledger(maker) as ledger:
        await ledger.append("s", [trigger("key"), note("a"), note("b"), outcome()], expected=None)
        for page in ({}, {"after": 1, "limit": 2}, {"after": 4}):
            entries = await ledger.read_encoded("s", **page)
            stored = await ledger.read("s", **page)
            decoded = [decode(entry.kind, entry.version, entry.payload) for entry in entries]
            expect_equal([one.record for one in stored], decoded, f"records of page {page}")
            sequences = [one.sequence for one in stored]
            expect_equal(sequences, [entry.sequence for entry in entries], f"page {page}")


async def check_the_newest_snapshot_of_a_version_is_kept(maker: LedgerMaker) -> None:
    """Snapshots of two versions stand side by side; of each the newest is loaded."""
    async with one_ledger(maker) as ledger:
        done = await ledger.append("s", [note(str(n)) for n in range(5)], expected=None)
        hashes = [entry.hash for entry in await ledger.read_encoded("s")]
        expect_equal(None, await ledger.load_snapshot("s", 1), "snapshot before there is one")
        for version, sequence in ((1, 2), (2, 3), (1, 5)):
            snapshot = _snapshot(version, sequence, hashes[sequence - 1])
            ledger.offer_snapshot("s", snapshot)
            await _until_kept(ledger, snapshot)
        expect_equal(_snapshot(1, 5, done.head.hash), await ledger.load_snapshot("s", 1), "first")
        expect_equal(_snapshot(2, 3, hashes[2]), await ledger.load_snapshot("s", 2), "second")
        expect_equal(None, await ledger.load_snapshot("s", 3), "version without a snapshot")
        expect_equal(None, await ledger.load_snapshot("t", 1), "session without a snapshot")


async def check_snapshots_are_disposable(maker: LedgerMaker) -> None:
    """Offering a snapshot changes neither records nor head, for absent sessions either."""
    async with one_ledger(maker) as ledger:
        done = await ledger.append("s", [note()], expected=None)
        ledger.offer_snapshot("s", _snapshot(1, 1, done.head.hash))
        ledger.offer_snapshot("absent", _snapshot(1, 7, b"\1" * 32))
        again = await ledger.append("s", [note()], expected=done.head)
        expect_equal(2, again.head.sequence, "head after a snapshot")
        expect_equal(0, (await ledger.head("absent")).sequence, "head of the absent session")


async def check_waiting_ends_at_once_where_the_session_is_past(maker: LedgerMaker) -> None:
    """`wait_past` returns the head without waiting where its sequence is above already."""
    async with one_ledger(maker) as ledger:
        done = await ledger.append("s", [note(), note()], expected=None)
        with trio.fail_after(PATIENCE_S):
            expect_equal(done.head, await ledger.wait_past("s", 1), "head past 1")
            expect_equal(done.head, await ledger.wait_past("s", 0), "head past 0")


async def check_waiting_ends_with_an_append(maker: LedgerMaker) -> None:
    """All who wait for a session, through any handle, wake once it moves past their sequence."""
    heads: list[Head] = []
    async with two_ledgers(maker) as (one, other):
        with trio.fail_after(PATIENCE_S):
            async with trio.open_nursery() as nursery:
                for ledger in (one, other, other):
                    await nursery.start(_wait, ledger, 1, heads)
                await one.append("another", [note()], expected=None)
                await one.append("s", [note()], expected=None)
                await other.read("s")  # gives a waiter that woke too early the time to say so
                expect_equal([], heads, "nobody is past 1 yet")
                done = await one.append("s", [note()], expected=None)
        expect_equal([done.head] * 3, heads, "heads that the waiters saw")


async def _wait(
    ledger: FullLedger, sequence: int, heads: list[Head], *, task_status: trio.TaskStatus[None]
) -> None:
    task_status.started()
    heads.append(await ledger.wait_past("s", sequence))


def chained(ledger: FullLedger, session_id: str, entries: Sequence[EncodedEntry]) -> Head:
    """Recompute the chain through `entries`; raise `CheckFailed` at the first that does not fit."""
    head = Head(0, genesis_hash(ledger.tenant, session_id))
    for entry in entries:
        expect_equal(head.sequence + 1, entry.sequence, "next sequence")
        digest = chain_hash(head.hash, entry.sequence, _record_of(entry))
        expect_equal(digest, entry.hash, f"hash of record {entry.sequence}")
        head = Head(entry.sequence, digest)
    return head


def _record_of(entry: EncodedEntry) -> EncodedRecord:
    names = [field.name for field in attrs.fields(EncodedRecord)]
    return EncodedRecord(*[getattr(entry, name) for name in names])


def _snapshot(version: int, sequence: int, digest: bytes) -> Snapshot:
    return Snapshot(
        projection_version=version, sequence=sequence, hash=digest, payload=f'{{"at":{sequence}}}'
    )


async def _until_kept(ledger: FullLedger, snapshot: Snapshot) -> None:
    """Wait for a snapshot that was offered: stores keep them when they have time."""
    with trio.fail_after(PATIENCE_S):
        for _ in count():
            if await ledger.load_snapshot("s", snapshot.projection_version) == snapshot:
                return
            await trio.sleep(0.001)


CHECKS = (
    check_encoded_records_fit_the_chain,
    check_encoded_records_decode_to_the_records,
    check_the_newest_snapshot_of_a_version_is_kept,
    check_snapshots_are_disposable,
    check_waiting_ends_at_once_where_the_session_is_past,
    check_waiting_ends_with_an_append,
)
