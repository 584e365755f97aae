"""Reading: a small pool of connections, used in worker threads under the store's own limiter."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Generic, TypeVar

import attrs
import trio

from rainengine.core.errors import LedgerClosed
from rainengine.store_sql._dialect import ConnectionT, Dialect
from rainengine.store_sql._pool import Pool

T = TypeVar("T")


@attrs.define(eq=False)
class Readers(Generic[ConnectionT]):
    """Connections that only read. `frame` is entered around whatever is read on one."""

    _dialect: Dialect[ConnectionT]
    _pool: Pool[ConnectionT]
    _limiter: trio.CapacityLimiter
    _frame: Callable[[ConnectionT], AbstractContextManager[object]] = nullcontext

    async def run(self, work: Callable[[ConnectionT], T]) -> T:
        """Run `work` in a thread, with a connection. Driver's errors come out translated."""
        if self._pool.closed:
            raise LedgerClosed("this ledger is closed: open it again to read")
        return await trio.to_thread.run_sync(self._with_connection, work, limiter=self._limiter)

    def _with_connection(self, work: Callable[[ConnectionT], T]) -> T:
        try:
            connection, result = self._pool.attempt(lambda one: self._framed(one, work))
        except Exception as error:
            known = self._dialect.translate_error(error)
            if known is None:
                raise
            raise known from error
        self._pool.give_back(connection)
        return result

    def _framed(self, connection: ConnectionT, work: Callable[[ConnectionT], T]) -> T:
        with self._frame(connection):
            return work(connection)

    async def close(self) -> None:
        """Close all connections; those in use as soon as they are given back."""
        await self._pool.close()
