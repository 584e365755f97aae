"""How Postgres takes a batch: judged by remembered rows, stored in one statement if they hold.

Theory. Judging needs a session's row, and reading it first would cost a round trip and, to be
safe, a lock that is held over it. But the process that works on a session knows its row from its
own last append. So drafts are judged by the rows as they are remembered, and one statement stores
all that was accepted, provided that the rows still are the same (`_statements.py`).

Rules.

1. Only an acceptance may rest on a remembered row. Whatever was refused by one, or not got by the
   statement because it has changed or is locked, is tried once more by rows that are read anew,
   and then alone: the row is locked, read, judged by what it really says and by the database's
   time, and written in the same transaction.
2. What depends on the time, taking over a lease that has run out, is always decided that way.
3. A connection that is lost while a commit is under way leaves its outcome unknown, whatever the
   server said last. Any other error means that the transaction was rolled back.
4. Deadlocks and serialization failures cannot come from these statements under READ COMMITTED, but
   from others' or from settings of the database: they are tried again, alone. So is whatever may
   be one append's fault.
5. A session that others have written to is not remembered, unless somebody holds its lease: who
   writes to it next would hardly ever be right about it.
6. While the writer waits for a row all other sessions wait: so it waits briefly, and comes back.

Rejected: `UPDATE … FROM unnest(…)` without SKIP LOCKED (deadlocks between processes);
`ON CONFLICT DO NOTHING` on records (a gap under a moved head); comparing the head only (an append
would overwrite a lease or a fence that changed without a record).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, cast

import attrs
import psycopg
from psycopg.pq import ConnStatus, TransactionStatus

from rainengine.core.errors import LedgerCorrupt, LedgerError
from rainengine.store_pg import _statements as sql
from rainengine.store_pg._arrays import Texts
from rainengine.store_pg._clock import DatabaseClock
from rainengine.store_pg._connect import PgConnection
from rainengine.store_pg._errors import LOCKED, TRY_AGAIN, concerns_all, translate_error
from rainengine.store_pg._lending import LentConnection, PostgresLoan
from rainengine.store_pg._reading import ask_now, refresh
from rainengine.store_sql import (
    Batch,
    Change,
    Committed,
    CommitUnknown,
    Draft,
    Key,
    Loan,
    SessionRow,
    SnapshotRow,
    Verdict,
    absent,
    judge,
    session_row,
)

MAX_REMEMBERED = 8192
MAX_TRIES = 5
_PAUSE_S = 0.01
_WAIT_BRIEFLY = b"SET LOCAL lock_timeout = 50"

_log = logging.getLogger("rainengine.store_pg")


@attrs.define(eq=False)
class PostgresDialect:
    """Implements `Dialect` for psycopg. One instance a writer.

    `clock` is the database's, or None where another clock judges leases.
    `preamble` is sent at the beginning of each transaction; with `bare` a batch is sent without
    one, as a statement that is a transaction by itself. An append to a session that others keep
    locked is given up `patience_s` seconds after it was asked for.
    """

    _clock: DatabaseClock | None
    _preamble: str
    _bare: bool
    _patience_s: float
    _rows: dict[Key, SessionRow] = attrs.field(factory=dict[Key, SessionRow])
    _shared: dict[Key, None] = attrs.field(factory=dict[Key, None])
    _connection: PgConnection | None = None

    def begin(self, connection: PgConnection, timeout_s: float | None = None) -> None:
        """Begin a transaction. Each of its statements may take `timeout_s` seconds."""
        limit = "" if timeout_s is None else _limit(timeout_s)
        connection.execute(f"{self._preamble}{limit}".encode())
        refresh(self._clock, connection)

    def commit(self, connection: PgConnection) -> None:
        """Commit what `begin` began. Raises `CommitUnknown` where the connection is lost."""
        try:
            connection.execute(b"COMMIT")
        except psycopg.Error as error:
            if self.lost(connection):
                raise CommitUnknown from error
            raise

    def lend(self, connection: PgConnection) -> Loan:
        """Lend a connection, in a transaction that `begin` began, to code that is not ours."""
        return PostgresLoan(cast("LentConnection", connection))

    def translate_error(self, error: Exception) -> LedgerError | None:
        """Return the ledger's error for one that psycopg raised, None for any other."""
        return translate_error(error)

    def lost(self, connection: PgConnection) -> bool:
        """Whether the connection to the server is gone."""
        return connection.closed or connection.pgconn.status != ConnStatus.OK

    def commit_batch(self, connection: PgConnection, batch: Batch) -> Committed:
        """Store what is accepted in one statement; None stands for what has to be tried alone."""
        verdicts = self._together(connection, batch.drafts) if batch.drafts else []
        commits = int(any(isinstance(verdict, Change) for verdict in verdicts))
        if len(verdicts) == 1 and verdicts[0] is None:
            verdicts = [self._alone(connection, batch.drafts[0])]
            commits = int(isinstance(verdicts[0], Change))
        if batch.snapshots:
            commits += self._keep(connection, batch.snapshots)
        return Committed(verdicts, commits)

    # Together, by remembered rows.

    def _together(self, connection: PgConnection, drafts: Sequence[Draft]) -> list[Verdict | None]:
        """Try what is remembered, and once more what others have changed, by rows read anew."""
        self._forget_if_reconnected(connection)
        got: dict[int, Change] = {}
        self._attempt(connection, drafts, got)
        if len(got) < len(drafts):
            for n, draft in enumerate(drafts):
                if n not in got:
                    self._rows.pop(draft.key, None)
            self._attempt(connection, drafts, got)
        return [got.get(n) for n in range(len(drafts))]

    def _attempt(
        self, connection: PgConnection, drafts: Sequence[Draft], got: dict[int, Change]
    ) -> None:
        """Store what is not `got` yet and is accepted by the rows as they are known; add it."""
        changes: dict[int, Change] = {}
        left = {n: draft for n, draft in enumerate(drafts) if n not in got}
        try:
            with self._framed(connection):
                changes = _accepted(left, self._known_rows(connection, left.values()))
                stored = self._write(connection, drafts, changes) if changes else set[int]()
        except psycopg.Error as error:
            self._rows.clear()
            if self.lost(connection):
                known = {**got, **changes}
                raise CommitUnknown([known.get(n) for n in range(len(drafts))]) from error
            if concerns_all(error) and not got:
                raise
            _roll_back(connection)
            return
        self._remember(changes, stored)
        got.update({n: changes[n] for n in stored})

    @contextmanager
    def _framed(self, connection: PgConnection) -> Generator[None]:
        """Make a transaction of statements, unless each is one by itself."""
        if not self._bare:
            self.begin(connection)
        yield
        if not self._bare:
            connection.execute(b"COMMIT")

    def _forget_if_reconnected(self, connection: PgConnection) -> None:
        if self._connection is not connection or len(self._rows) > MAX_REMEMBERED:
            self._rows.clear()
            self._connection = connection
        if len(self._shared) > MAX_REMEMBERED:
            self._shared.clear()

    def _known_rows(
        self, connection: PgConnection, drafts: Iterable[Draft]
    ) -> dict[Key, SessionRow | None]:
        """Return the drafts' rows; those not remembered are read, unless the session is new."""
        found: dict[Key, SessionRow | None] = {}
        missing: list[Key] = []
        for draft in drafts:
            row = self._rows.get(draft.key)
            if row is None and _begins(draft):
                row = absent(draft.key)
            elif row is None:
                missing.append(draft.key)
            found[draft.key] = row
        if missing:
            found.update(_read_rows(connection, missing))
        return found

    def _write(
        self,
        connection: PgConnection,
        drafts: Sequence[Draft],
        changes: Mapping[int, Change],
    ) -> set[int]:
        statement, parameters = _statement(drafts, changes)
        answer = connection.execute(statement, parameters, prepare=self._bare).fetchall()
        if answer and self._clock is not None:
            self._clock.observe(answer[0][1])
        return {n for n, _ in answer}

    def _remember(self, changes: Mapping[int, Change], got: Collection[int]) -> None:
        for n, change in changes.items():
            row = change.row
            key = row.tenant, row.session_id
            if n not in got:
                self._rows.pop(key, None)
                self._shared[key] = None
            elif row.lease_owner is not None or key not in self._shared:
                self._rows[key] = row

    def _keep(self, connection: PgConnection, snapshots: Sequence[SnapshotRow]) -> int:
        """Keep snapshots, in a transaction of their own. They are disposable, and may fail."""
        newest = {row[:3]: row for row in snapshots}
        try:
            with self._framed(connection):
                columns = sql.snapshot_columns(list(newest.values()))
                connection.execute(sql.UPSERT_SNAPSHOTS, columns)
        except psycopg.Error:
            _log.debug("snapshots were not kept", exc_info=True)
            if not self.lost(connection):
                _roll_back(connection)
            return 0
        return 1

    # Alone, by the row itself.

    def _alone(self, connection: PgConnection, draft: Draft) -> Verdict | None:
        """Store an append, or return None while others keep its session locked."""
        for tries in range(1, MAX_TRIES + 1):
            try:
                return self._locked(connection, draft)
            except psycopg.Error as error:
                if self.lost(connection) or not self._may_wait(error, draft, tries):
                    raise
                _roll_back(connection)
                if error.sqlstate == LOCKED:
                    return None
                time.sleep(_PAUSE_S * tries)
        raise AssertionError

    def _may_wait(self, error: psycopg.Error, draft: Draft, tries: int) -> bool:
        if error.sqlstate == LOCKED:
            return time.monotonic() - draft.submitted_s < self._patience_s
        return error.sqlstate in TRY_AGAIN and tries < MAX_TRIES

    def _locked(self, connection: PgConnection, draft: Draft) -> Verdict:
        self.begin(connection)
        connection.execute(_WAIT_BRIEFLY)  # all other sessions wait meanwhile
        verdict = self.append_within(connection, draft)
        if not isinstance(verdict, Change):
            _roll_back(connection)
            return verdict
        try:
            self.commit(connection)
        except CommitUnknown as unknown:
            raise CommitUnknown([verdict]) from unknown
        self._remember({0: verdict}, [0])
        return verdict

    def append_within(self, connection: PgConnection, draft: Draft) -> Verdict:
        """Lock the session's row, judge by it and write, within a transaction; commit nothing."""
        self._rows.pop(draft.key, None)
        while True:
            row = connection.execute(sql.LOCK_SESSION, draft.key).fetchone()
            verdict = self._judge_locked(connection, draft, row)
            if not isinstance(verdict, Change):
                return verdict
            if self._write(connection, [draft], {0: verdict}):
                return verdict
            # Another process has just made the session: its row is there to be locked now.

    def _judge_locked(
        self, connection: PgConnection, draft: Draft, found: tuple[Any, ...] | None
    ) -> Verdict:
        if self._clock is not None:
            now_ms = ask_now(connection)
            self._clock.observe(now_ms)
            draft = attrs.evolve(draft, now_ms=now_ms)
        try:
            row = absent(draft.key) if found is None else session_row(draft.key, found)
        except LedgerCorrupt as corrupt:
            return corrupt
        return judge(draft, row, _stored_keys(connection, draft) if draft.triggers else {})


def _begins(draft: Draft) -> bool:
    return draft.expected is not None and draft.expected.sequence == 0


def _accepted(
    drafts: Mapping[int, Draft], rows: Mapping[Key, SessionRow | None]
) -> dict[int, Change]:
    judged = ((n, _judged_by(rows.get(draft.key), draft)) for n, draft in drafts.items())
    return {n: change for n, change in judged if change is not None}


def _judged_by(row: SessionRow | None, draft: Draft) -> Change | None:
    """Return the change if the draft is accepted, whatever the time and the stored keys are."""
    if row is None:
        row = absent(draft.key)
    if _rests_on_time(row, draft):
        return None
    verdict = judge(draft, row, {})
    return verdict if isinstance(verdict, Change) else None


def _rests_on_time(row: SessionRow, draft: Draft) -> bool:
    if row.lease_owner is None:
        return False
    if draft.lease is None:
        return draft.fence is None and not draft.intake
    return draft.lease.action == "take" and draft.lease.owner != row.lease_owner


def _read_rows(connection: PgConnection, keys: Sequence[Key]) -> dict[Key, SessionRow]:
    found: dict[Key, SessionRow] = {}
    for row in connection.execute(sql.SELECT_SESSIONS, sql.key_columns(keys)).fetchall():
        try:
            found[row[0], row[1]] = session_row((row[0], row[1]), row)
        except LedgerCorrupt:
            continue  # tried alone, it tells
    return found


def _stored_keys(connection: PgConnection, draft: Draft) -> dict[str, int]:
    keys = Texts.of([key for _, key in draft.triggers])
    rows = connection.execute(sql.SELECT_KEYS, (*draft.key, keys)).fetchall()
    return dict(cast("list[tuple[str, int]]", rows))


def _statement(drafts: Sequence[Draft], changes: Mapping[int, Change]) -> tuple[bytes, list[bytes]]:
    moved = {n: change for n, change in changes.items() if _has_row(change.before)}
    born = [(n, *change.row) for n, change in changes.items() if n not in moved]
    keyed = [(n, key) for n in moved for _, key in drafts[n].triggers]
    outbox = [(n, *row[2:]) for n, change in changes.items() for row in change.outbox]
    statement = sql.store_changes(
        moved=bool(moved), born=bool(born), keyed=bool(keyed), outbox=bool(outbox)
    )
    return statement, [
        *(sql.keyed_columns(keyed) if keyed else ()),
        *(sql.moved_columns([_moved(n, change) for n, change in moved.items()]) if moved else ()),
        *(sql.born_columns(born) if born else ()),
        *sql.record_columns([(n, *r[2:]) for n, c in changes.items() for r in c.records]),
        *(sql.outbox_columns(outbox) if outbox else ()),
    ]


def _has_row(before: SessionRow) -> bool:
    """Whether a session has a row; it may have one without records, by its lease."""
    return before.head > 0 or before.fence > 0


def _moved(n: int, change: Change) -> tuple[Any, ...]:
    return (n, *change.before[: 2 + sql.BEFORE], *change.row[2:])


def _limit(timeout_s: float) -> str:
    """Return what bounds a transaction's statements, and the time between them."""
    ms = _ms(timeout_s)
    return (
        f"; SET LOCAL statement_timeout = {ms}"
        f"; SET LOCAL idle_in_transaction_session_timeout = {2 * ms}"
    )


def _ms(seconds: float) -> int:
    """Return milliseconds for Postgres, to which 0 would mean for ever."""
    return max(round(seconds * 1000), 1)


def _roll_back(connection: PgConnection) -> None:
    """End a transaction. psycopg's own way would forget all that is prepared."""
    if connection.info.transaction_status != TransactionStatus.IDLE:
        connection.pgconn.exec_(b"ROLLBACK")
