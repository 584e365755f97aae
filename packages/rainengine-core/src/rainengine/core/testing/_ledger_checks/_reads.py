"""Checks of reading records back: paging, outcomes, unknown kinds."""

from __future__ import annotations

import json

from rainengine.core.records import NewRecord, StoredRecord, UnknownRecord
from rainengine.core.testing._expect import expect_equal
from rainengine.core.testing._maker import LedgerMaker, one_ledger
from rainengine.core.testing._samples import START_MS, note, outcome, trigger


async def check_records_are_read_in_pages(maker: LedgerMaker) -> None:
    """`after` and `limit` cut a session into pages without overlap or gap."""
    async with one_ledger(maker) as ledger:
        await ledger.append("s", [note(str(n)) for n in range(25)], expected=None)
        whole = list(await ledger.read("s"))
        pages: list[StoredRecord] = []
        for after in range(0, 30, 7):
            pages += await ledger.read("s", after=after, limit=7)
        expect_equal(whole, pages, "pages of seven")
        expect_equal([], list(await ledger.read("s", after=25)), "page after the last record")
        expect_equal([], list(await ledger.read("s", after=99)), "page far after it")
        expect_equal([], list(await ledger.read("s", limit=0)), "page of nothing")


async def check_a_page_has_a_thousand_records_unless_asked(maker: LedgerMaker) -> None:
    """`read` returns 1,000 records where no limit is given."""
    async with one_ledger(maker) as ledger:
        await ledger.append("s", [note(str(n)) for n in range(1003)], expected=None)
        expect_equal(1000, len(await ledger.read("s")), "records in the default page")
        expect_equal(3, len(await ledger.read("s", after=1000)), "records in the next page")
        expect_equal(1003, len(await ledger.read("s", limit=5000)), "records in a large page")


async def check_an_outcome_is_found_by_its_trigger_key(maker: LedgerMaker) -> None:
    """`find_outcome` gives the outcome of the run with this key, and of no other."""
    async with one_ledger(maker) as ledger:
        await ledger.append(
            "s", [trigger("one", run="r1"), trigger("two", run="r2")], expected=None
        )
        expect_equal(None, await ledger.find_outcome("s", "one"), "outcome before there is one")
        done = outcome("r1", response="first")
        await ledger.append("s", [done, note()], expected=None)
        expect_equal(done.record, await ledger.find_outcome("s", "one"), "outcome of the run")
        expect_equal(None, await ledger.find_outcome("s", "two"), "outcome of another run")
        expect_equal(None, await ledger.find_outcome("s", "three"), "outcome of no run")
        expect_equal(None, await ledger.find_outcome("t", "one"), "outcome in another session")


async def check_the_newest_outcome_of_a_resumed_run_is_found(maker: LedgerMaker) -> None:
    """Of a run that was suspended and resumed, the newest outcome is found."""
    paused, ended = outcome("r1", reason="suspended"), outcome("r1", response="done")
    resumption = trigger("yes", run="r2", resumes="r1")
    async with one_ledger(maker) as ledger:
        await ledger.append("s", [trigger("key", run="r1"), paused], expected=None)
        expect_equal(paused.record, await ledger.find_outcome("s", "key"), "while suspended")
        await ledger.append("s", [resumption, ended], expected=None)
        expect_equal(ended.record, await ledger.find_outcome("s", "key"), "once resumed")


async def check_a_resuming_trigger_finds_what_came_after_it(maker: LedgerMaker) -> None:
    """The key of a trigger that resumed a run finds that run's outcomes after it, none before."""
    paused, ended = outcome("r1", reason="suspended"), outcome("r1", response="done")
    resumption = trigger("yes", run="r2", resumes="r1")
    async with one_ledger(maker) as ledger:
        await ledger.append("s", [trigger("key", run="r1"), paused, resumption], expected=None)
        expect_equal(None, await ledger.find_outcome("s", "yes"), "before the run went on")
        await ledger.append("s", [ended], expected=None)
        expect_equal(ended.record, await ledger.find_outcome("s", "yes"), "after it ended")


async def check_an_answer_that_came_too_late_finds_its_own_outcome(maker: LedgerMaker) -> None:
    """A trigger that was to resume a run, and was refused, finds the outcome that says so."""
    refused, ended = outcome("r2", reason="policy_aborted"), outcome("r1", response="done")
    resumption = trigger("yes", run="r2", resumes="r1")
    async with one_ledger(maker) as ledger:
        await ledger.append("s", [trigger("key", run="r1"), resumption], expected=None)
        await ledger.append("s", [ended, refused], expected=None)
        expect_equal(refused.record, await ledger.find_outcome("s", "yes"), "the refusal")
        expect_equal(ended.record, await ledger.find_outcome("s", "key"), "the run's own")


async def check_unknown_records_survive(maker: LedgerMaker) -> None:
    """A record of a kind or version from the future is stored and read back unchanged."""
    strange = {"b": [1, {"ü": None}], "a": 1.5}
    text = json.dumps(strange, ensure_ascii=False, separators=(", ", " : "))
    unknown = [
        UnknownRecord(stored_kind="from_the_future", stored_version=7, payload=text),
        UnknownRecord(stored_kind="tool_result", stored_version=99, payload=text),
    ]
    async with one_ledger(maker) as ledger:
        batch = [NewRecord(record, START_MS, "run", "key") for record in unknown]
        await ledger.append("s", [*batch, note()], expected=None)
        stored = (await ledger.read("s"))[:2]
        expect_equal(unknown, [one.record for one in stored], "records")
        envelopes = [(one.kind, one.version, one.idempotency_key) for one in stored]
        expected = [("from_the_future", 7, "key"), ("tool_result", 99, "key")]
        expect_equal(expected, envelopes, "envelopes")
        entries = await ledger.read_encoded("s")
        expect_equal([text, text], [entry.payload for entry in entries[:2]], "their exact text")


CHECKS = (
    check_records_are_read_in_pages,
    check_a_page_has_a_thousand_records_unless_asked,
    check_an_outcome_is_found_by_its_trigger_key,
    check_the_newest_outcome_of_a_resumed_run_is_found,
    check_a_resuming_trigger_finds_what_came_after_it,
    check_an_answer_that_came_too_late_finds_its_own_outcome,
    check_unknown_records_survive,
)
