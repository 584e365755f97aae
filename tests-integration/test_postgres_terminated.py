"""The server ends a connection at any statement: the run ends as if it had not.

A plain run takes some of the statements of one workload. `RAINENGINE_SWEEP=full` takes each
statement of all workloads, and each moment.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import attrs
import psycopg
import pytest
import trio

from rainengine.core import SystemClock
from rainengine.core.errors import DuplicateTrigger, LedgerError
from rainengine.core.records import Message, NewRecord, TriggerRecord
from rainengine.core.testing import (
    TRANSACTIONAL,
    WORKLOADS,
    Event,
    Evidence,
    InMemoryReceiver,
    Judge,
    Process,
    Witness,
    Workload,
    account_of,
)
from rainengine.store_pg import open_postgres_ledger
from testbed.ledgers import EmptyLedgers
from testbed.proxy import Fault, RoundTrip, no_fault, open_proxy

FULL = os.environ.get("RAINENGINE_SWEEP") == "full"
SWEPT = [*[w for w in WORKLOADS if FULL or w.name == "mixed effects"], TRANSACTIONAL]
EVERY = {"mixed effects": 5, "transactions": 13}
TRIES = 5


def _terminate(url: str, pid: int) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("SELECT pg_terminate_backend(%s, 10000)", (pid,))


def terminated_before(url: str) -> Fault:
    """The server ends the connection, and gets the request only then."""

    async def strike(trip: RoundTrip) -> None:
        await trio.to_thread.run_sync(_terminate, url, trip.backend)
        await no_fault(trip)

    return strike


def terminated_meanwhile(url: str) -> Fault:
    """The server ends the connection while it is busy with the request, or has just been."""

    async def strike(trip: RoundTrip) -> None:
        await trip.forward()
        await trio.to_thread.run_sync(_terminate, url, trip.backend)
        await trip.reply(await trip.answered())

    return strike


def terminated_after(url: str) -> Fault:
    """The server ends the connection when it has answered; the answer arrives."""

    async def strike(trip: RoundTrip) -> None:
        await trip.forward()
        answer = await trip.answered()
        await trio.to_thread.run_sync(_terminate, url, trip.backend)
        await trip.reply(answer)

    return strike


@attrs.define
class Trial:
    """A workload on a new ledger behind a proxy."""

    workload: Workload
    url: str
    trips: int = 0
    struck: bool = False
    failures: list[LedgerError] = attrs.field(factory=list)

    async def run(self, fault: Fault | None = None, at: int = 0) -> Evidence:
        """Work until it is done, with one fault on the way; return what is left."""
        events: list[Event] = []
        witness, receiver = Witness(events.append), InMemoryReceiver()
        async with open_proxy(self.url) as proxy:
            if fault is not None:
                proxy.arm(fault, on=at)
            answers = await self._persist(proxy.url, witness, receiver)
            self.trips, self.struck = proxy.trips, not proxy.armed
        async with open_postgres_ledger(self.url) as store:
            await witness.look(store, self.workload.session_ids)
            accounts = [await account_of(store, name) for name in self.workload.session_ids]
            tally = await self.workload.tally(store)
        judge = Judge()
        judge.hear(events)
        return Evidence(
            answers=answers,
            accounts=accounts,
            judge=judge,
            effects=receiver.deeds.counts | dict(tally),
            blows=len(self.failures),
        )

    async def _persist(self, url: str, witness: Witness, receiver: InMemoryReceiver) -> Any:
        """Try again where the ledger failed, as callers do."""
        for _ in range(TRIES):
            try:
                async with open_postgres_ledger(url) as store:
                    await witness.look(store, self.workload.session_ids)
                    process = Process(self.workload, store, witness, receiver, SystemClock())
                    return await process.work()
            except LedgerError as failure:
                self.failures.append(failure)
        raise AssertionError(f"no end after {TRIES} tries")


@contextmanager
def _trial(workload: Workload, ledgers: EmptyLedgers) -> Iterator[Trial]:
    with ledgers.copied() as url:
        yield Trial(workload, url)


@pytest.mark.parametrize("moment", [terminated_before, terminated_meanwhile, terminated_after])
@pytest.mark.parametrize("workload", SWEPT, ids=lambda workload: workload.name)
async def test_terminated_at_any_statement_it_ends_as_the_twin(
    workload: Workload, moment: Any, empty_ledgers: EmptyLedgers
) -> None:
    """Nothing acknowledged is lost, nothing finished is done again, and the end is the twin's."""
    with _trial(workload, empty_ledgers) as undisturbed:
        twin = await undisturbed.run()
    assert twin.findings(twin) == []
    struck = []
    for at in range(1, undisturbed.trips + 1, 1 if FULL else EVERY[workload.name]):
        with trio.fail_after(60), _trial(workload, empty_ledgers) as trial:
            evidence = await trial.run(moment(trial.url), at)
            assert (at, evidence.findings(twin)) == (at, [])
            struck.append(trial.struck)
    assert sum(struck) > 0.8 * len(struck)  # runs differ in how many results share a commit


async def test_connections_that_died_while_idle_are_noticed_by_nobody(ledger_url: str) -> None:
    """After the server has ended every connection, reads and appends of all kinds just work."""
    async with (
        open_postgres_ledger(ledger_url) as ledger,
        open_postgres_ledger(ledger_url) as other,
    ):
        first = await ledger.append("known", [_trigger("k")], expected=None)
        for use in (
            partial(ledger.append, "known", [_trigger("k2")], expected=first.head),
            partial(other.append, "known", [_trigger("k3")], expected=None),
            partial(ledger.append, "new", [_trigger("k")], expected=None),
            partial(ledger.read, "known"),
            partial(ledger.release, "known", owner="me", fence=0),
        ):
            await trio.to_thread.run_sync(_terminate_all, ledger_url)
            await use()
        await trio.to_thread.run_sync(_terminate_all, ledger_url)
        with pytest.raises(DuplicateTrigger):
            await other.append("known", [_trigger("k")], expected=None)
        assert (await ledger.head("known")).sequence == 3


def _trigger(key: str) -> NewRecord:
    message = Message(user_id="u", content="hello")
    return NewRecord(TriggerRecord(trigger_id=key, trigger=message, body_hash=""), 0, key, key)


def _terminate_all(url: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
