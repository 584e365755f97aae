"""Running a function of a connection in one transaction that writes.

Where a database has one write lock, the writer does it, between two batches;
elsewhere `PooledTransactor` does, on connections of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, Protocol, TypeVar

import attrs
import trio

from rainengine.core.errors import AppendUnknown, LedgerClosed, LedgerError
from rainengine.store_sql._dialect import CommitUnknown, ConnectionT, Dialect
from rainengine.store_sql._pool import Pool, close_quietly

T = TypeVar("T")


class Transactor(Protocol):
    """What runs transactions for a store."""

    async def run(self, work: Callable[[Any], T], *, timeout_s: float) -> T:
        """Run `work` with a connection, in a thread, and commit what it did; all or nothing.

        `work` itself neither begins nor ends a transaction. What it asks of the database may
        take `timeout_s` seconds; its turn is waited for as long as an append would be.
        A cancellation is delivered only once the fate of the transaction is known.

        Whatever `work` raises rolls back and is raised here, a driver's error translated:

        - `TransactionTimeout`: it took too long
        - `LedgerUnavailable`: nothing was stored, now or later
        - `AppendUnknown`: it could not be found out whether it was stored
        """
        ...


@attrs.define(eq=False)
class PooledTransactor(Generic[ConnectionT]):
    """Runs transactions side by side, as many at once as the limiter lets through.

    How long a database that does not answer is waited for is up to the driver's settings.
    """

    _dialect: Dialect[ConnectionT]
    _pool: Pool[ConnectionT]
    _limiter: trio.CapacityLimiter

    async def run(self, work: Callable[[Any], T], *, timeout_s: float) -> T:
        """Run `work` in one transaction; see `Transactor.run`."""
        if self._pool.closed:
            raise LedgerClosed("this ledger is closed: open it again to write")
        return await trio.to_thread.run_sync(
            self._in_thread, work, timeout_s, limiter=self._limiter
        )

    def _in_thread(self, work: Callable[[ConnectionT], T], timeout_s: float) -> T:
        try:
            connection, _ = self._pool.attempt(lambda one: self._dialect.begin(one, timeout_s))
            result = self._finish(connection, work)
        except BaseException as error:  # noqa: BLE001 - it is raised on, as what it means
            raise meaning(self._dialect, error)  # noqa: B904 - it has its cause
        self._pool.give_back(connection)
        return result

    def _finish(self, connection: ConnectionT, work: Callable[[ConnectionT], T]) -> T:
        try:
            return finish(self._dialect, connection, work)
        except BaseException:
            close_quietly(connection)
            raise

    async def close(self) -> None:
        """Close all connections; those in use as soon as they are given back."""
        await self._pool.close()


def finish(dialect: Dialect[ConnectionT], connection: ConnectionT, work: Callable[[Any], T]) -> T:
    """Do what a transaction that has begun is for, and commit it."""
    result = work(connection)
    dialect.commit(connection)
    return result


def meaning(dialect: Dialect[Any], error: BaseException) -> BaseException:
    """Return what an error of a transaction is to its caller: itself, unless it is the driver's."""
    if isinstance(error, LedgerError) or not isinstance(error, Exception):
        return error
    known = _unknown() if isinstance(error, CommitUnknown) else dialect.translate_error(error)
    if known is None:
        return error
    known.__cause__ = error
    return known


def _unknown() -> AppendUnknown:
    return AppendUnknown(
        "the commit failed without saying whether it took effect: look once the storage is back"
    )
