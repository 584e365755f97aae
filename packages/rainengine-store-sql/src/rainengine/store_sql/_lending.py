"""Transactions whose statements are somebody else's, and end with an append.

Rules.

1. The connection is lent by its dialect, which sees to it that the transaction stays ours.
2. Somebody else's code leaves traces on a connection: settings, row factories, temporary tables.
   So what is lent is never the connection that the writer or the workers' transactions use.
3. The append is judged after the code has run, by the session's row as it stands then:
   locked, so that it cannot change before the commit.
4. A connection that is lost is the ledger's failure, whatever the code makes of it.
5. Whoever is late loses: after `timeout_s` everything is rolled back, although the code returned.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Generic, TypeVar

import attrs

from rainengine.core.abc import Enclosed, LeaseChange
from rainengine.core.errors import LedgerError, LedgerUnavailable, TransactionTimeout
from rainengine.core.records import Head
from rainengine.store_sql._dialect import ConnectionT, Dialect
from rainengine.store_sql._drafts import draft_append
from rainengine.store_sql._judgement import Change
from rainengine.store_sql._rows import Key
from rainengine.store_sql._transactions import Transactor
from rainengine.store_sql._writer import Writer

T = TypeVar("T")


@attrs.frozen
class LendingWriter:
    """Runs transactions on the writer's thread, each on a connection that is opened for it."""

    _writer: Writer[Any]
    _connect: Callable[[], Any]

    async def run(self, work: Callable[[Any], T], *, timeout_s: float) -> T:
        """Run `work` in one transaction; see `Transactor.run`."""
        return await self._writer.run(work, timeout_s=timeout_s, connect=self._connect)


class Raised(Exception):
    """Carries what somebody else's code raised past the translation of drivers' errors."""

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error))
        self.error = error


@attrs.frozen(kw_only=True, eq=False)
class LentTransaction(Generic[ConnectionT]):
    """Somebody's work, and the session that what it returns is appended to.

    `now_ms` is the store's clock at the call.
    """

    dialect: Dialect[ConnectionT]
    work: Callable[[Any], Enclosed]
    key: Key
    expected: Head | None
    fence: int | None
    lease: LeaseChange | None
    timeout_s: float
    now_ms: int
    cap: int

    async def run(self, transactor: Transactor) -> Change:
        """Have it run. Raises what `Transactions.transact` does."""
        try:
            return await transactor.run(self._in_transaction, timeout_s=self.timeout_s)
        except Raised as raised:
            raise raised.error from None

    def _in_transaction(self, connection: ConnectionT) -> Change:
        until_s = time.monotonic() + self.timeout_s
        enclosed = self._lend(connection, until_s)
        draft = draft_append(
            self.key,
            enclosed.records,
            expected=self.expected,
            fence=self.fence,
            lease=self.lease,
            index=enclosed.index,
            outbox=enclosed.outbox,
            now_ms=self.now_ms,
            cap=self.cap,
        )
        verdict = self.dialect.append_within(connection, draft)
        if isinstance(verdict, LedgerError):
            raise verdict
        return verdict

    def _lend(self, connection: ConnectionT, until_s: float) -> Enclosed:
        loan = self.dialect.lend(connection)
        try:
            enclosed = self.work(connection)
        except Exception as error:
            _check_time(until_s)
            loan.end(returned=False)
            if self.dialect.lost(connection):
                raise _lost() from error
            raise Raised(error) from error
        _check_time(until_s)
        loan.end(returned=True)
        return enclosed


def _lost() -> LedgerUnavailable:
    return LedgerUnavailable("the connection was lost during the transaction: nothing was stored")


def _check_time(until_s: float) -> None:
    if time.monotonic() >= until_s:
        raise TransactionTimeout("the function took longer than it may: have it do less")
