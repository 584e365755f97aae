"""Reading: a small pool of connections, used in worker threads under the store's own limiter."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

import attrs
import trio

from rainengine.core.errors import LedgerClosed
from rainengine.store_sql._dialect import ConnectionT, Dialect

T = TypeVar("T")


@attrs.define(eq=False)
class Readers(Generic[ConnectionT]):
    """Connections that only read, opened as they are needed.

    One that has failed is closed, not used again.
    """

    _dialect: Dialect[ConnectionT]
    _connect: Callable[[], ConnectionT]
    _limiter: trio.CapacityLimiter
    _idle: deque[ConnectionT] = attrs.field(factory=deque[ConnectionT])
    _closed: bool = False

    async def run(self, work: Callable[[ConnectionT], T]) -> T:
        """Run `work` in a thread, with a connection. Driver's errors come out translated."""
        if self._closed:
            raise LedgerClosed("this ledger is closed: open it again to read")
        return await trio.to_thread.run_sync(self._with_connection, work, limiter=self._limiter)

    def _with_connection(self, work: Callable[[ConnectionT], T]) -> T:
        connection: ConnectionT | None = None
        try:
            connection = self._take()
            result = work(connection)
        except Exception as error:
            if connection is not None:
                connection.close()
            known = self._dialect.translate_error(error)
            if known is None:
                raise
            raise known from error
        self._give_back(connection)
        return result

    def _take(self) -> ConnectionT:
        try:
            return self._idle.pop()
        except IndexError:
            return self._connect()

    def _give_back(self, connection: ConnectionT) -> None:
        self._idle.append(connection)
        if self._closed:
            self._close_idle()

    async def close(self) -> None:
        """Close all connections; those in use as soon as they are given back."""
        self._closed = True
        await trio.to_thread.run_sync(self._close_idle)

    def _close_idle(self) -> None:
        while self._idle:
            try:
                self._idle.pop().close()
            except IndexError:
                return
