"""The writer over a database that a test controls."""

from __future__ import annotations

import threading
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from functools import partial

import attrs
import trio
import trio.testing

from rainengine.core.errors import (
    AppendUnknown,
    LedgerBusy,
    LedgerCorrupt,
    LedgerError,
    LedgerFull,
    LedgerUnavailable,
)
from rainengine.core.records import CancelRequest, NewRecord
from rainengine.store_sql import (
    Batch,
    Change,
    Committed,
    Draft,
    Key,
    SessionRow,
    SqlLedgerStore,
    StoreSettings,
    Value,
    Verdict,
    absent,
    judge,
    open_store,
)

RECORD = NewRecord(CancelRequest(reason="enough"), 0)


@attrs.define(eq=False)
class Rows:
    """A result that is always empty."""

    def fetchone(self) -> Sequence[Value] | None:
        return None

    def fetchall(self) -> Sequence[Sequence[Value]]:
        return ()


@attrs.define(eq=False)
class FakeConnection:
    closed: bool = False

    def execute(self, sql: str, parameters: object = (), /) -> Rows:
        return Rows()

    def close(self) -> None:
        self.closed = True


@attrs.define(eq=False)
class FakeDatabase:
    """Implements `Dialect` with a dictionary.

    `faults` are raised by the next commits, in order; `poison` by every batch that holds that
    session. While `gate` is unset a commit hangs, as on a disk that does not answer.
    """

    rows: dict[Key, SessionRow] = attrs.field(factory=dict[Key, SessionRow])
    faults: list[Exception] = attrs.field(factory=list[Exception])
    poison: str | None = None
    gate: threading.Event = attrs.field(factory=threading.Event)
    connections: list[FakeConnection] = attrs.field(factory=list[FakeConnection])
    batches: list[Batch] = attrs.field(factory=list[Batch])

    def connect(self) -> FakeConnection:
        self.connections.append(FakeConnection())
        return self.connections[-1]

    def begin(self, connection: FakeConnection, timeout_s: float | None = None) -> None:
        assert not connection.closed

    def commit(self, connection: FakeConnection) -> None:
        assert not connection.closed

    def append_within(self, connection: FakeConnection, draft: Draft) -> Verdict:
        return judge(draft, self.rows.get(draft.key, absent(draft.key)), {})

    def lost(self, connection: FakeConnection) -> bool:
        return False

    def commit_batch(self, connection: FakeConnection, batch: Batch) -> Committed:
        self.begin(connection)
        self.batches.append(batch)
        self.gate.wait()
        if self.faults:
            raise self.faults.pop(0)
        if self.poison in {draft.key[1] for draft in batch.drafts}:
            raise ZeroDivisionError("poison")
        verdicts = [self.append_within(connection, draft) for draft in batch.drafts]
        for verdict in verdicts:
            if isinstance(verdict, Change):
                self.rows[verdict.row.tenant, verdict.row.session_id] = verdict.row
        return Committed(verdicts, 1)

    def translate_error(self, error: Exception) -> LedgerError | None:
        return LedgerFull("no room") if isinstance(error, MemoryError) else None

    def head(self, session_id: str) -> int:
        row = self.rows.get(("default", session_id))
        return 0 if row is None else row.head


@asynccontextmanager
async def _store(
    database: FakeDatabase, settings: StoreSettings | None = None
) -> AsyncGenerator[SqlLedgerStore]:
    async with open_store(
        database,
        connect_writer=database.connect,
        connect_reader=database.connect,
        settings=settings or StoreSettings(),
    ) as store:
        yield store


async def _outcome(ledger: SqlLedgerStore, session_id: str, into: dict[str, object]) -> None:
    try:
        done = await ledger.append(session_id, [RECORD], expected=None)
    except LedgerError as error:
        into[session_id] = type(error)
    else:
        into[session_id] = done.head.sequence


async def _append_all(ledger: SqlLedgerStore, *session_ids: str) -> dict[str, object]:
    outcomes: dict[str, object] = {}
    async with trio.open_nursery() as nursery:
        for session_id in session_ids:
            nursery.start_soon(_outcome, ledger, session_id, outcomes)
    return outcomes


async def test_a_fault_of_the_storage_fails_its_batch_and_no_other() -> None:
    """All appends of a batch fail with the storage's error; the next batch has a new connection."""
    database = FakeDatabase(faults=[MemoryError()])
    database.gate.set()
    async with _store(database) as ledger:
        assert await _append_all(ledger, "a", "b") == {"a": LedgerFull, "b": LedgerFull}
        assert await _append_all(ledger, "a", "b") == {"a": 1, "b": 1}
    assert [connection.closed for connection in database.connections] == [True, True]
    assert len(database.batches) == 2


async def test_an_error_that_one_append_may_have_caused_fails_only_that() -> None:
    """After an unknown error each append of the batch is tried alone."""
    database = FakeDatabase(poison="b")
    database.gate.set()
    async with _store(database) as ledger:
        outcomes = await _append_all(ledger, "a", "b", "c")
    assert outcomes == {"a": 1, "b": LedgerUnavailable, "c": 1}


async def test_corruption_found_in_a_batch_concerns_one_append() -> None:
    """A ledger error of the dialect itself comes out as it is, without failing the others."""
    database = FakeDatabase(faults=[LedgerCorrupt("damaged"), LedgerCorrupt("damaged")])
    database.gate.set()
    async with _store(database) as ledger:
        outcomes = await _append_all(ledger, "a", "b")
    assert sorted(map(str, outcomes.values())) == ["1", str(LedgerCorrupt)]


async def test_a_storage_that_hangs_is_given_up() -> None:
    """What the writer has begun is `AppendUnknown`, what it has not is taken back for good."""
    database = FakeDatabase()
    outcomes: dict[str, object] = {}
    async with _store(database, StoreSettings(append_timeout_s=0.05)) as ledger:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_outcome, ledger, "begun", outcomes)
            while not database.batches:
                await trio.lowlevel.checkpoint()
            nursery.start_soon(_outcome, ledger, "waiting", outcomes)
        assert outcomes == {"begun": AppendUnknown, "waiting": LedgerBusy}
        database.gate.set()
        assert await _append_all(ledger, "later") == {"later": 1}
    assert [database.head(name) for name in ("begun", "waiting", "later")] == [1, 0, 1]


async def test_closing_does_not_wait_for_ever() -> None:
    """Where the storage hangs at the end, closing gives its appends up after the timeout."""
    database = FakeDatabase()
    outcomes: dict[str, object] = {}
    settings = StoreSettings(append_timeout_s=0.05)
    async with trio.open_nursery() as nursery, _store(database, settings) as ledger:
        nursery.start_soon(_outcome, ledger, "s", outcomes)
        while not database.batches:
            await trio.lowlevel.checkpoint()
    assert outcomes == {"s": AppendUnknown}
    database.gate.set()


async def test_a_clock_that_jumps_gives_nothing_up(
    mock_clock: trio.testing.MockClock,
) -> None:
    """The deadline of appends is judged by real time: a test's clock may jump over it."""
    database = FakeDatabase()
    outcomes: dict[str, object] = {}
    async with _store(database) as ledger, trio.open_nursery() as nursery:
        nursery.start_soon(_outcome, ledger, "s", outcomes)
        while not database.batches:
            await trio.lowlevel.checkpoint()
        for _ in range(10):
            mock_clock.jump(3600)
            await trio.testing.wait_all_tasks_blocked()
        assert outcomes == {}
        database.gate.set()
    assert outcomes == {"s": 1}


async def test_many_appends_while_the_writer_is_busy_share_the_next_batch() -> None:
    """What gathers during one commit goes into the next one together."""
    database = FakeDatabase()
    async with _store(database) as ledger, trio.open_nursery() as nursery:
        nursery.start_soon(partial(ledger.append, "first", [RECORD], expected=None))
        while not database.batches:
            await trio.lowlevel.checkpoint()
        for n in range(100):
            nursery.start_soon(partial(ledger.append, f"s{n}", [RECORD], expected=None))
        await trio.testing.wait_all_tasks_blocked()
        database.gate.set()
    assert [len(batch.drafts) for batch in database.batches] == [1, 100]
