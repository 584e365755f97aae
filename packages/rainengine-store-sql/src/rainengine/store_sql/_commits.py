"""Committing one batch, whatever happens: the half of the writer that knows the database."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Generic, TypeAlias, TypeVar

import attrs

from rainengine.core.abc import Appended
from rainengine.core.errors import LedgerError, LedgerUnavailable
from rainengine.store_sql._dialect import Batch, CommitUnknown, ConnectionT, Dialect
from rainengine.store_sql._drafts import Done, Draft, Transaction
from rainengine.store_sql._judgement import Change, Verdict
from rainengine.store_sql._pool import close_quietly
from rainengine.store_sql._settlement import settle
from rainengine.store_sql._statements import Statements
from rainengine.store_sql._transactions import finish, meaning

PAUSE_S = 0.05
"""Between two attempts to find out what became of a commit."""

Answered: TypeAlias = tuple[Draft, Appended | LedgerError | None]
T = TypeVar("T")


@attrs.frozen(kw_only=True)
class LedgerStats:
    """What a store has written: transactions, batches taken, appends and records stored."""

    commits: int
    batches: int
    appends: int
    records: int


@attrs.define(eq=False)
class Committer(Generic[ConnectionT]):
    """Owns the writer's connection. Not for use by two threads at a time.

    For `settle_for_s` seconds it asks again what became of a commit whose answer was lost.
    """

    _dialect: Dialect[ConnectionT]
    _connect: Callable[[], ConnectionT]
    _statements: Statements
    _settle_for_s: float = 0
    _connection: ConnectionT | None = None
    _commits: int = 0
    _batches: int = 0
    _appends: int = 0
    _records: int = 0

    def stats(self) -> LedgerStats:
        """What was written so far. May be asked from any thread."""
        return LedgerStats(
            commits=self._commits,
            batches=self._batches,
            appends=self._appends,
            records=self._records,
        )

    def commit(self, batch: Batch) -> Iterator[list[Answered]]:
        """Store a batch and yield the drafts with their answers, at first all that have one.

        What the batch did not get to is then tried alone; None stands for what somebody else is
        still busy with, and is to be tried again later. Raises nothing.
        """
        self._batches += 1
        judged = list(zip(batch.drafts, self._verdicts(batch), strict=True))
        yield [(draft, self._answer(verdict)) for draft, verdict in judged if verdict is not None]
        for draft in [draft for draft, verdict in judged if verdict is None]:
            (verdict,) = self._verdicts(Batch([draft]))
            yield [(draft, None if verdict is None else self._answer(verdict))]

    def transact(self, transaction: Transaction) -> Done | BaseException:
        """Do what a transaction is for, alone, and return what came of it. Raises nothing."""

        def attempt(connection: ConnectionT) -> object:
            self._dialect.begin(connection, transaction.timeout_s)
            return finish(self._dialect, connection, transaction.work)

        try:
            done = Done(self._on(transaction.connect, attempt))
        except BaseException as error:  # noqa: BLE001 - its caller gets it; the writer lives on
            return meaning(self._dialect, error)
        self._commits += 1
        if isinstance(done.value, Change):
            self._answer(done.value)
        return done

    def _on(
        self, connect: Callable[[], ConnectionT] | None, action: Callable[[ConnectionT], T]
    ) -> T:
        if connect is None:
            return self._on_connection(action)
        connection = connect()
        try:
            return action(connection)
        finally:
            close_quietly(connection)

    def disconnect(self) -> None:
        """Close the connection, if there is one."""
        connection, self._connection = self._connection, None
        if connection is not None:
            close_quietly(connection)

    def _on_connection(self, action: Callable[[ConnectionT], T], *, again: bool = False) -> T:
        """Do something on the connection, which is opened if need be and closed if it fails.

        With `again`, where the one that was kept turns out to be lost, once more on a new one.
        """
        kept = self._connection
        connection = self._connection = kept or self._connect()
        try:
            return action(connection)
        except BaseException as error:
            lost = self._dialect.lost(connection)
            self.disconnect()
            unstored = isinstance(error, Exception) and not isinstance(error, CommitUnknown)
            if not (again and kept is not None and lost and unstored):
                raise
        return self._on_connection(action)

    def _answer(self, verdict: Verdict) -> Appended | LedgerError:
        if not isinstance(verdict, Change):
            return verdict
        self._appends += 1
        self._records += len(verdict.records)
        return verdict.appended

    def _verdicts(self, batch: Batch) -> Sequence[Verdict | None]:
        """Return a verdict a draft, or None where it is to be tried alone."""
        try:
            return self._attempt(batch)
        except CommitUnknown as lost:
            return self._settle(batch, lost)
        except Exception as error:  # noqa: BLE001 - every waiting caller gets an answer
            return self._after(error, batch)

    def _attempt(self, batch: Batch) -> Sequence[Verdict | None]:
        committed = self._on_connection(
            lambda one: self._dialect.commit_batch(one, batch), again=True
        )
        self._commits += committed.commits
        return committed.verdicts

    def _after(self, error: Exception, batch: Batch) -> Sequence[Verdict | None]:
        if batch.snapshots:
            return self._verdicts(Batch(batch.drafts)) if batch.drafts else ()
        concerns_all = isinstance(self._meaning(error), LedgerUnavailable)
        if concerns_all or len(batch.drafts) == 1:
            return [self._failure(error) for _ in batch.drafts]
        return [None] * len(batch.drafts)

    def _meaning(self, error: Exception) -> LedgerError | None:
        return error if isinstance(error, LedgerError) else self._dialect.translate_error(error)

    def _failure(self, error: Exception) -> LedgerError:
        known = self._meaning(error)
        if known is None:
            known = LedgerUnavailable(f"nothing was stored: {type(error).__name__}: {error}")
        if known is not error:
            known.__cause__ = error
        return known

    def _settle(self, batch: Batch, lost: CommitUnknown) -> Sequence[Verdict | None]:
        wait = self._patience()
        return [
            settle(draft, verdict, send=self._send, stored=self._holds, wait=wait)
            if isinstance(verdict, Change)
            else verdict
            for draft, verdict in zip(batch.drafts, lost.verdicts, strict=True)
        ]

    def _patience(self) -> Callable[[Exception], bool]:
        until_s = time.monotonic() + self._settle_for_s

        def wait(error: Exception) -> bool:
            lasting = not isinstance(self._meaning(error), LedgerUnavailable)
            if lasting and not isinstance(error, CommitUnknown):
                return False
            if time.monotonic() + PAUSE_S > until_s:
                return False
            time.sleep(PAUSE_S)
            return True

        return wait

    def _send(self, draft: Draft) -> Verdict:
        (verdict,) = self._attempt(Batch([draft]))
        if verdict is None:
            raise LedgerUnavailable("the storage did not get to it")
        return verdict

    def _holds(self, lost: Change) -> bool:
        """Whether the session holds what a lost commit was to make of it."""
        return self._on_connection(lambda one: self._found(one, lost))

    def _found(self, connection: ConnectionT, lost: Change) -> bool:
        row, key = lost.row, (lost.row.tenant, lost.row.session_id)
        if lost.records:
            parameters = (*key, row.head)
            found = connection.execute(self._statements.hash_at, parameters).fetchone()
            return found is not None and found[0] == row.hash
        found = connection.execute(self._statements.lease, key).fetchone()
        lease = (row.lease_owner, row.lease_expires_at_ms, row.fence)
        return found is not None and tuple(found[:3]) == lease
