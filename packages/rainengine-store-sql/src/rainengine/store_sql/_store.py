"""A store over an SQL database: all tenants' ledgers, and what runs while it is open."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext

import attrs
import trio

from rainengine.core.abc import Clock
from rainengine.core.codec import MAX_PAYLOAD_BYTES
from rainengine.core.environment import SystemClock
from rainengine.store_sql._commits import Committer
from rainengine.store_sql._dialect import ConnectionT, Dialect
from rainengine.store_sql._guard import DeadlineGuard
from rainengine.store_sql._ledger import Parts
from rainengine.store_sql._lending import LendingWriter
from rainengine.store_sql._options import above_0
from rainengine.store_sql._pool import Pool
from rainengine.store_sql._readers import Readers
from rainengine.store_sql._sql_store import SqlLedgerStore
from rainengine.store_sql._statements import statements
from rainengine.store_sql._transactions import PooledTransactor
from rainengine.store_sql._watch import Signals, Watchers
from rainengine.store_sql._writer import Writer


@attrs.frozen(kw_only=True)
class StoreSettings:
    """How a store behaves; the same for all databases.

    `append_timeout_s` is how long an append may take before its caller gets `AppendUnknown`
    (or `LedgerBusy`, where it had not been begun). `max_pending` is how many appends may be
    under way before callers wait for room. `poll_s` is how often `wait_past` looks for what
    other processes wrote. `readers` is the number of reading connections, `max_payload_bytes`
    the largest record. Raises `InvalidConfiguration` for what is not above 0.
    """

    append_timeout_s: float = attrs.field(default=30.0, validator=above_0)
    max_pending: int = attrs.field(default=1024, validator=above_0)
    poll_s: float = attrs.field(default=0.25, validator=above_0)
    readers: int = attrs.field(default=4, validator=above_0)
    max_payload_bytes: int = attrs.field(default=MAX_PAYLOAD_BYTES, validator=above_0)


@asynccontextmanager
async def open_store(
    dialect: Dialect[ConnectionT],
    *,
    connect_writer: Callable[[], ConnectionT],
    connect_reader: Callable[[], ConnectionT],
    connect_lent: Callable[[], ConnectionT] | None = None,
    renew_lent: Callable[[ConnectionT], object] = lambda _: None,
    placeholder: str = "?",
    clock: Clock | None = None,
    settings: StoreSettings,
    transaction_connections: int = 0,
    settle_for_s: float = 0,
    signals: Signals | None = None,
    frame_read: Callable[[ConnectionT], AbstractContextManager[object]] = nullcontext,
) -> AsyncGenerator[SqlLedgerStore]:
    """Run a store over a database whose schema is in place.

    The connections are opened in the threads that use them and have to be in autocommit mode.
    Transactions other than appends run on up to `transaction_connections` further ones from
    `connect_writer`, side by side; where that is 0, on the writer's own, between its batches.
    Those of skills are on connections of their own, too, from `connect_lent`: where there is room
    for several, they are kept, and `renew_lent` undoes what a skill may have left on one.
    What became of a commit whose answer was lost is asked for `settle_for_s` seconds, as long
    as the database is away, before the answer is `AppendUnknown`.
    By `signals` the processes on one database learn of each other's appends.
    `frame_read` is entered around whatever is read on a connection.
    Leaving the block stores what is still queued.
    """
    sql = statements(placeholder)
    committer = Committer(dialect, connect_writer, sql, settle_for_s)
    watchers = Watchers(settings.poll_s, signals)
    writer = Writer(committer, watchers.moved, settings.max_pending)
    limiter = trio.CapacityLimiter(settings.readers)
    readers = Readers(dialect, Pool(connect_reader, dialect.lost), limiter, frame_read)
    pooled = lent = None
    if transaction_connections:
        limiter = trio.CapacityLimiter(transaction_connections)
        pooled = PooledTransactor(dialect, Pool(connect_writer, dialect.lost), limiter)
        kept = Pool(connect_lent or connect_writer, dialect.lost, renew_lent)
        lent = PooledTransactor(dialect, kept, limiter)
    parts = Parts(
        dialect=dialect,
        writer=writer,
        transactor=pooled or writer,
        lender=lent or LendingWriter(writer, connect_lent or connect_writer),
        readers=readers,
        watchers=watchers,
        statements=sql,
        clock=clock or SystemClock(),
        cap=settings.max_payload_bytes,
    )
    guard = DeadlineGuard(writer, settings.append_timeout_s)
    writer.start()
    guard.start()
    try:
        yield SqlLedgerStore(parts, committer, timeout_s=settings.append_timeout_s)
    finally:
        with trio.CancelScope(shield=True):
            await writer.close(settings.append_timeout_s)
            await readers.close()
            for transactor in filter(None, (pooled, lent)):
                await transactor.close()
            await guard.stop()
