"""How SQLite takes a batch: judge by the rows under the write lock, then write all at once.

`BEGIN IMMEDIATE` takes the database's one write lock first, so what is read afterwards stays
true until COMMIT and every draft can be judged before anything is written.

The rows of sessions are remembered between batches. `PRAGMA data_version` tells, under the lock,
whether any other connection has committed since; if one has, all rows are forgotten.
So a batch of a process that is alone with its file reads nothing.

A COMMIT that fails is over, except where fsync or the like failed (SQLITE_IOERR): all its frames
may be in the write-ahead log by then and count after a crash, hence `CommitUnknown`.
Where a write failed (SQLITE_IOERR_WRITE), the last frame, which makes them count, is not there.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from typing import Any

import attrs

from rainengine.core.errors import LedgerCorrupt, LedgerError, TransactionMisused
from rainengine.store_sql import (
    Batch,
    Change,
    Committed,
    CommitUnknown,
    Draft,
    Key,
    Loan,
    SessionRow,
    Verdict,
    absent,
    judge,
    session_row,
)
from rainengine.store_sqlite import _statements as sql
from rainengine.store_sqlite._errors import translate_error
from rainengine.store_sqlite._lending import SqliteLoan

MAX_REMEMBERED = 8192
OPERATIONS_A_LOOK = 1000
"""How many operations of SQLite's machine pass between two looks at the time."""

_NO_KEYS: Mapping[str, int] = {}


@attrs.define(eq=False)
class SqliteDialect:
    """Implements `Dialect` for the standard library's sqlite3. One instance a writer."""

    _rows: dict[Key, SessionRow] = attrs.field(factory=dict[Key, SessionRow])
    _seen: tuple[int, int] = (0, 0)

    def begin(self, connection: sqlite3.Connection, timeout_s: float | None = None) -> None:
        """Take the write lock, waiting for it as long as `busy_timeout` says.

        Forgets what was remembered: the transaction may change it.
        """
        self._rows.clear()
        connection.execute("BEGIN IMMEDIATE")
        connection.set_progress_handler(_alarm(timeout_s), OPERATIONS_A_LOOK)

    def commit(self, connection: sqlite3.Connection) -> None:
        """Commit what `begin` began."""
        connection.set_progress_handler(None, 0)
        try:
            _commit(connection, ())
        except sqlite3.IntegrityError as error:  # the ledger itself has no foreign keys
            raise TransactionMisused(f"left rows that break a constraint: {error}") from error

    def append_within(self, connection: sqlite3.Connection, draft: Draft) -> Verdict:
        """Judge a draft, and write it if it is accepted, in a transaction that `begin` began."""
        (verdict,) = self._judge_all(connection, [draft])
        if isinstance(verdict, Change):
            _write(connection, Batch([draft]), [verdict])
        return verdict

    def lend(self, connection: sqlite3.Connection) -> Loan:
        """Lend a connection, in a transaction that `begin` began, to code that is not ours."""
        return SqliteLoan(connection)

    def translate_error(self, error: Exception) -> LedgerError | None:
        """Return the ledger's error for one that sqlite3 raised, None for any other."""
        return translate_error(error)

    def lost(self, connection: sqlite3.Connection) -> bool:
        """Whether the connection leads nowhere any more: never, to a file."""
        return False

    def commit_batch(self, connection: sqlite3.Connection, batch: Batch) -> Committed:
        """Judge and store a batch in one transaction."""
        try:
            connection.execute("BEGIN IMMEDIATE")
            self._forget_if_others_wrote(connection)
            verdicts = self._judge_all(connection, batch.drafts)
            changes = [verdict for verdict in verdicts if isinstance(verdict, Change)]
            if not changes and not batch.snapshots:
                connection.execute("ROLLBACK")
                return Committed(verdicts, 0)
            _write(connection, batch, changes)
            _commit(connection, verdicts)
        except BaseException:
            self._rows.clear()
            raise
        self._remember(changes)
        return Committed(verdicts, 1)

    def _forget_if_others_wrote(self, connection: sqlite3.Connection) -> None:
        (version,) = connection.execute("PRAGMA data_version").fetchone()
        seen = (id(connection), version)
        if seen != self._seen or len(self._rows) > MAX_REMEMBERED:
            self._rows.clear()
            self._seen = seen

    def _remember(self, changes: Sequence[Change]) -> None:
        rows = self._rows
        for change in changes:
            row = change.row
            rows[row.tenant, row.session_id] = row

    def _judge_all(self, connection: sqlite3.Connection, drafts: Sequence[Draft]) -> list[Verdict]:
        found = self._rows_of(connection, drafts)
        keyed = [d for d in drafts if d.triggers and isinstance(found[d.key], SessionRow)]
        stored = _stored_keys(connection, keyed) if keyed else {}
        return [_judge(draft, found[draft.key], stored) for draft in drafts]

    def _rows_of(
        self, connection: sqlite3.Connection, drafts: Sequence[Draft]
    ) -> dict[Key, SessionRow | LedgerError | None]:
        rows = self._rows
        found: dict[Key, SessionRow | LedgerError | None] = {
            draft.key: rows.get(draft.key) for draft in drafts
        }
        missing = [key for key, row in found.items() if row is None]
        for keys in _portions(missing):
            parameters = list(chain.from_iterable(keys))
            for row in connection.execute(sql.select_sessions(len(keys)), parameters).fetchall():
                found[row[0], row[1]] = _checked((row[0], row[1]), row)
        return found


def _alarm(timeout_s: float | None) -> Callable[[], bool] | None:
    if timeout_s is None:
        return None
    until_s = time.monotonic() + timeout_s
    return lambda: time.monotonic() > until_s


def _checked(key: Key, row: Sequence[Any]) -> SessionRow | LedgerError:
    try:
        return session_row(key, row)
    except LedgerCorrupt as error:
        return error


def _judge(
    draft: Draft, row: SessionRow | LedgerError | None, stored: Mapping[Key, Mapping[str, int]]
) -> Verdict:
    if isinstance(row, LedgerError):
        return row
    return judge(draft, absent(draft.key) if row is None else row, stored.get(draft.key, _NO_KEYS))


def _stored_keys(
    connection: sqlite3.Connection, drafts: Sequence[Draft]
) -> dict[Key, dict[str, int]]:
    wanted = [(*draft.key, key) for draft in drafts for _, key in draft.triggers]
    stored: dict[Key, dict[str, int]] = {}
    for portion in _portions(wanted):
        parameters = list(chain.from_iterable(portion))
        rows = connection.execute(sql.select_keys(len(portion)), parameters).fetchall()
        for tenant, session_id, key, sequence in rows:
            stored.setdefault((tenant, session_id), {})[key] = sequence
    return stored


def _write(connection: sqlite3.Connection, batch: Batch, changes: Sequence[Change]) -> None:
    records = list(chain.from_iterable([change.records for change in changes]))
    outbox = list(chain.from_iterable([change.outbox for change in changes if change.outbox]))
    _put(connection, sql.insert_records, records)
    _put(connection, sql.upsert_sessions, [change.row for change in changes])
    _put(connection, sql.insert_outbox, outbox)
    for snapshot in batch.snapshots:
        connection.execute(sql.UPSERT_SNAPSHOT, snapshot)


def _put(
    connection: sqlite3.Connection,
    statement: Callable[[int], str],
    rows: Sequence[tuple[Any, ...]],
) -> None:
    for portion in _portions(rows):
        connection.execute(statement(len(portion)), list(chain.from_iterable(portion)))


def _portions(rows: Sequence[Any]) -> list[Sequence[Any]]:
    if len(rows) <= sql.MAX_ROWS:
        return [rows] if rows else []
    return [rows[start : start + sql.MAX_ROWS] for start in range(0, len(rows), sql.MAX_ROWS)]


def _commit(connection: sqlite3.Connection, verdicts: Sequence[Verdict]) -> None:
    try:
        connection.execute("COMMIT")
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", 0)
        if code & 0xFF == sqlite3.SQLITE_IOERR and code != sqlite3.SQLITE_IOERR_WRITE:
            raise CommitUnknown(verdicts) from error
        raise
