"""Checks of what an append does: sequences, hashes, conflicts, duplicate keys."""

from __future__ import annotations

import attrs

from rainengine.core.abc import OutboxItem, SessionIndex
from rainengine.core.codec import genesis_hash
from rainengine.core.errors import DuplicateTrigger, SequenceConflict
from rainengine.core.records import Head
from rainengine.core.testing._expect import expect_equal, refusal
from rainengine.core.testing._maker import (
    LedgerMaker,
    new_tenant,
    one_ledger,
    tenant_of,
    two_ledgers,
)
from rainengine.core.testing._samples import OTHER_HEAD, cancel, note, outcome, trigger


async def check_an_empty_session_has_the_genesis_hash(maker: LedgerMaker) -> None:
    """A session without records is at sequence 0 with the genesis hash of its place."""
    async with one_ledger(maker) as ledger:
        genesis = Head(0, genesis_hash(ledger.tenant, "s"))
        expect_equal(genesis, await ledger.head("s"), "head of an empty session")
        expect_equal([], list(await ledger.read("s")), "records of an empty session")


async def check_genesis_differs_by_tenant_and_session(maker: LedgerMaker) -> None:
    """The same records under another tenant or session id have other hashes."""
    async with maker.open() as store:
        one, other = (tenant_of(store, new_tenant()) for _ in range(2))
        places = [(one, "a"), (one, "b"), (other, "a")]
        heads = {
            (await ledger.append(session_id, [note()], expected=None)).head.hash
            for ledger, session_id in places
        }
        expect_equal(3, len(heads), "different hashes of one record in three places")


async def check_sequences_count_from_one_without_gaps(maker: LedgerMaker) -> None:
    """Sequences count from 1 in each session, within and across appends."""
    async with one_ledger(maker) as ledger:
        first = await ledger.append("s", [note("1"), note("2")], expected=await ledger.head("s"))
        second = await ledger.append("s", [note("3")], expected=first.head)
        third = await ledger.append("s", [trigger(), note("5")], expected=second.head)
        firsts = [done.first_sequence for done in (first, second, third)]
        expect_equal([1, 3, 4], firsts, "first sequences of the appends")
        heads = [done.head.sequence for done in (first, second, third)]
        expect_equal([2, 3, 5], heads, "heads after the appends")
        sequences = [stored.sequence for stored in await ledger.read("s")]
        expect_equal([1, 2, 3, 4, 5], sequences, "stored sequences")


async def check_an_append_returns_the_head(maker: LedgerMaker) -> None:
    """The head that an append returns is the one that `head` shows, with its record's hash."""
    async with one_ledger(maker) as ledger:
        done = await ledger.append("s", [note(), note()], expected=None)
        expect_equal(done.head, await ledger.head("s"), "head after the append")
        expect_equal(done.head.hash, (await ledger.read("s"))[-1].hash, "hash of the last record")
        expect_equal(0, done.fence, "fence where no lease was ever taken")


async def check_records_come_back_as_they_went_in(maker: LedgerMaker) -> None:
    """Records and their envelopes read back equal, times going backwards included."""
    batch = [trigger("key", run="r1"), note("später", at=5), note("🌧", at=-3), outcome("r1")]
    async with one_ledger(maker) as ledger:
        await ledger.append("s", batch, expected=None)
        stored = await ledger.read("s")
        expect_equal([new.record for new in batch], [s.record for s in stored], "records")
        expect_equal(
            [(n.record.kind, n.occurred_at_ms, n.trigger_id, n.idempotency_key) for n in batch],
            [(s.kind, s.occurred_at_ms, s.trigger_id, s.idempotency_key) for s in stored],
            "envelopes",
        )
        expect_equal({("s", 1)}, {(s.session_id, s.version) for s in stored}, "place and version")


async def check_another_handle_sees_what_was_appended(maker: LedgerMaker) -> None:
    """What one handle has appended, another one reads and builds upon."""
    async with two_ledgers(maker) as (one, other):
        done = await one.append("s", [note("1")], expected=None)
        expect_equal(done.head, await other.head("s"), "head seen by the other handle")
        again = await other.append("s", [note("2")], expected=done.head)
        expect_equal(again.head, await one.head("s"), "head seen by the first handle")


async def check_a_stale_head_is_refused(maker: LedgerMaker) -> None:
    """An append upon a head that has passed raises `SequenceConflict` and stores nothing."""
    async with one_ledger(maker) as ledger:
        stale = await ledger.head("s")
        await ledger.append("s", [note()], expected=stale)
        async with refusal(ledger, "s", SequenceConflict, "stale head"):
            await ledger.append("s", [note()], expected=stale)


async def check_a_head_in_the_future_is_refused(maker: LedgerMaker) -> None:
    """An append upon a head that is not reached yet raises `SequenceConflict`."""
    async with one_ledger(maker) as ledger:
        async with refusal(ledger, "s", SequenceConflict, "future head of a new session"):
            await ledger.append("s", [note()], expected=OTHER_HEAD)
        await ledger.append("s", [note()], expected=None)
        async with refusal(ledger, "s", SequenceConflict, "future head"):
            await ledger.append("s", [note()], expected=OTHER_HEAD)


async def check_a_head_of_another_history_is_refused(maker: LedgerMaker) -> None:
    """The same sequence with another hash is another history: `SequenceConflict`."""
    async with one_ledger(maker) as ledger:
        async with refusal(ledger, "s", SequenceConflict, "another genesis"):
            await ledger.append("s", [note()], expected=Head(0, b"\1" * 32))
        done = await ledger.append("s", [note()], expected=None)
        async with refusal(ledger, "s", SequenceConflict, "another hash"):
            await ledger.append("s", [note()], expected=Head(done.head.sequence, b"\1" * 32))


async def check_a_conflict_says_where_the_session_is(maker: LedgerMaker) -> None:
    """`SequenceConflict` carries session, expected and actual sequence."""
    async with one_ledger(maker) as ledger:
        stale = await ledger.head("s")
        await ledger.append("s", [note(), note()], expected=stale)
        try:
            await ledger.append("s", [note()], expected=stale)
        except SequenceConflict as error:
            facts = (error.session_id, error.expected, error.actual)
            expect_equal(("s", 0, 2), facts, "facts in the error")


async def check_without_expectation_it_goes_to_the_head(maker: LedgerMaker) -> None:
    """`expected=None` appends at whatever head the session has."""
    async with one_ledger(maker) as ledger:
        await ledger.append("s", [note("1")], expected=None)
        done = await ledger.append("s", [cancel(), trigger()], expected=None)
        expect_equal((2, 3), (done.first_sequence, done.head.sequence), "place of the append")


async def check_a_trigger_key_is_taken_once(maker: LedgerMaker) -> None:
    """A second trigger with a session's key raises `DuplicateTrigger` and names the first."""
    async with one_ledger(maker) as ledger:
        await ledger.append("s", [note(), trigger("key", run="r1")], expected=None)
        async with refusal(ledger, "s", DuplicateTrigger, "same key again"):
            await ledger.append("s", [trigger("key", run="r2"), note()], expected=None)
        try:
            await ledger.append("s", [trigger("key", run="r2")], expected=None)
        except DuplicateTrigger as error:
            facts = (error.session_id, error.idempotency_key, error.sequence)
            expect_equal(("s", "key", 2), facts, "facts in the error")


async def check_a_trigger_key_is_taken_once_within_an_append(maker: LedgerMaker) -> None:
    """Two triggers with one key in one append raise `DuplicateTrigger`."""
    async with (
        one_ledger(maker) as ledger,
        refusal(ledger, "s", DuplicateTrigger, "same key twice in one append"),
    ):
        batch = [trigger("key", run="r1"), note(), trigger("key", run="r2")]
        await ledger.append("s", batch, expected=None)


async def check_trigger_keys_belong_to_a_session_of_a_tenant(maker: LedgerMaker) -> None:
    """The same key is free in another session and under another tenant; no key never clashes."""
    async with maker.open() as store:
        one, other = (tenant_of(store, new_tenant()) for _ in range(2))
        await one.append("a", [trigger("key")], expected=None)
        await one.append("b", [trigger("key")], expected=None)
        await other.append("a", [trigger("key")], expected=None)
        await one.append("a", [trigger(None), trigger(None), trigger("other")], expected=None)
        expect_equal(4, (await one.head("a")).sequence, "triggers in the first session")


async def check_only_triggers_claim_keys(maker: LedgerMaker) -> None:
    """A key on a record that is no trigger claims nothing, and a trigger may still take it."""
    keyed = attrs.evolve(note(), idempotency_key="key")
    async with one_ledger(maker) as ledger:
        await ledger.append("s", [keyed, keyed], expected=None)
        await ledger.append("s", [trigger("key"), keyed], expected=None)
        expect_equal(4, (await ledger.head("s")).sequence, "records")


async def check_extras_are_refused_with_their_append(maker: LedgerMaker) -> None:
    """A refused append changes neither the listing nor the lease nor what is to be delivered."""
    index = SessionIndex(state="completed", agent="agent", wake_due_at_ms=5)
    item = OutboxItem(topic="topic", payload={"n": 1})
    async with one_ledger(maker) as ledger:
        await ledger.append("s", [note()], expected=None, index=SessionIndex(state="running"))
        async with refusal(ledger, "s", SequenceConflict, "append with index and outbox"):
            await ledger.append("s", [note()], expected=OTHER_HEAD, index=index, outbox=[item])
        done = await ledger.append("s", [note()], expected=None, index=index, outbox=[item, item])
        expect_equal(2, done.head.sequence, "head after an append with extras")


CHECKS = (
    check_an_empty_session_has_the_genesis_hash,
    check_genesis_differs_by_tenant_and_session,
    check_sequences_count_from_one_without_gaps,
    check_an_append_returns_the_head,
    check_records_come_back_as_they_went_in,
    check_another_handle_sees_what_was_appended,
    check_a_stale_head_is_refused,
    check_a_head_in_the_future_is_refused,
    check_a_head_of_another_history_is_refused,
    check_a_conflict_says_where_the_session_is,
    check_without_expectation_it_goes_to_the_head,
    check_a_trigger_key_is_taken_once,
    check_a_trigger_key_is_taken_once_within_an_append,
    check_trigger_keys_belong_to_a_session_of_a_tenant,
    check_only_triggers_claim_keys,
    check_extras_are_refused_with_their_append,
)
