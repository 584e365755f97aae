"""Committing one batch, whatever happens: the half of the writer that knows the database."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Generic

import attrs

from rainengine.core.abc import Appended
from rainengine.core.errors import LedgerError, LedgerUnavailable
from rainengine.store_sql._dialect import Batch, CommitUnknown, ConnectionT, Dialect
from rainengine.store_sql._drafts import Draft
from rainengine.store_sql._judgement import Change, Verdict
from rainengine.store_sql._settlement import settle
from rainengine.store_sql._statements import Statements


@attrs.frozen(kw_only=True)
class LedgerStats:
    """What a store has written: transactions, batches taken, appends and records stored."""

    commits: int
    batches: int
    appends: int
    records: int


@attrs.define(eq=False)
class Committer(Generic[ConnectionT]):
    """Owns the writer's connection. Not for use by two threads at a time."""

    _dialect: Dialect[ConnectionT]
    _connect: Callable[[], ConnectionT]
    _statements: Statements
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

    def commit(self, batch: Batch) -> list[Appended | LedgerError]:
        """Store a batch and return an answer a draft. Raises nothing."""
        self._batches += 1
        return [self._answer(verdict) for verdict in self._verdicts(batch)]

    def disconnect(self) -> None:
        """Close the connection, if there is one."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(Exception):  # it is given up either way
                connection.close()

    def _answer(self, verdict: Verdict) -> Appended | LedgerError:
        if not isinstance(verdict, Change):
            return verdict
        self._appends += 1
        self._records += len(verdict.records)
        return verdict.appended

    def _verdicts(self, batch: Batch) -> Sequence[Verdict]:
        try:
            return self._attempt(batch)
        except CommitUnknown as lost:
            return self._settle(batch, lost)
        except Exception as error:  # noqa: BLE001 - every waiting caller gets an answer
            return self._after(error, batch)

    def _attempt(self, batch: Batch) -> Sequence[Verdict]:
        try:
            if self._connection is None:
                self._connection = self._connect()
            committed = self._dialect.commit_batch(self._connection, batch)
        except Exception:
            self.disconnect()
            raise
        self._commits += committed.commits
        return committed.verdicts

    def _after(self, error: Exception, batch: Batch) -> Sequence[Verdict]:
        if batch.snapshots:
            return self._verdicts(Batch(batch.drafts)) if batch.drafts else ()
        concerns_all = isinstance(self._meaning(error), LedgerUnavailable)
        if concerns_all or len(batch.drafts) == 1:
            return [self._failure(error) for _ in batch.drafts]
        return [verdict for draft in batch.drafts for verdict in self._verdicts(Batch([draft]))]

    def _meaning(self, error: Exception) -> LedgerError | None:
        return error if isinstance(error, LedgerError) else self._dialect.translate_error(error)

    def _failure(self, error: Exception) -> LedgerError:
        known = self._meaning(error)
        if known is None:
            known = LedgerUnavailable(f"nothing was stored: {type(error).__name__}: {error}")
        if known is not error:
            known.__cause__ = error
        return known

    def _settle(self, batch: Batch, lost: CommitUnknown) -> Sequence[Verdict]:
        return [
            settle(draft, verdict, send=self._send, stored=self._holds)
            if isinstance(verdict, Change)
            else verdict
            for draft, verdict in zip(batch.drafts, lost.verdicts, strict=True)
        ]

    def _send(self, draft: Draft) -> Verdict:
        return self._attempt(Batch([draft]))[0]

    def _holds(self, lost: Change) -> bool:
        """Whether the session holds what a lost commit was to make of it."""
        if self._connection is None:
            raise LedgerUnavailable("there is no connection to look with")
        row, key = lost.row, (lost.row.tenant, lost.row.session_id)
        if lost.records:
            parameters = (*key, row.head)
            found = self._connection.execute(self._statements.hash_at, parameters).fetchone()
            return found is not None and found[0] == row.hash
        found = self._connection.execute(self._statements.lease, key).fetchone()
        lease = (row.lease_owner, row.lease_expires_at_ms, row.fence)
        return found is not None and tuple(found[:3]) == lease
