"""Connections that are kept for whoever needs one next; used by worker threads."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Generic, TypeVar

import attrs
import trio

from rainengine.store_sql._dialect import Connection, ConnectionT

T = TypeVar("T")


@attrs.define(eq=False)
class Pool(Generic[ConnectionT]):
    """Opens connections as they are needed. How many are in use is up to its user's limiter.

    `renew` makes one that was used fit for the next, or raises: then it is closed.
    """

    _connect: Callable[[], ConnectionT]
    _lost: Callable[[ConnectionT], bool]
    _renew: Callable[[ConnectionT], object] = lambda _: None
    _idle: deque[ConnectionT] = attrs.field(factory=deque[ConnectionT])
    closed: bool = False

    def attempt(self, action: Callable[[ConnectionT], T]) -> tuple[ConnectionT, T]:
        """Do something on a connection, and return that, to be given back, with the result.

        One that fails is closed. Where a kept one turns out to be lost, all that are kept are
        closed and it is done once more, on a new one.
        """
        kept = self._kept()
        if kept is not None:
            try:
                return kept, action(kept)
            except Exception:
                lost = self._lost(kept)
                close_quietly(kept)
                if not lost:
                    raise
                self._close_idle()
        return self._attempt_on_a_new_one(action)

    def _attempt_on_a_new_one(self, action: Callable[[ConnectionT], T]) -> tuple[ConnectionT, T]:
        connection = self._connect()
        try:
            return connection, action(connection)
        except Exception:
            close_quietly(connection)
            raise

    def give_back(self, connection: ConnectionT) -> None:
        """Keep a connection for the next one who needs one."""
        try:
            self._renew(connection)
        except Exception:  # noqa: BLE001 - what was done on it is committed, and done well
            close_quietly(connection)
            return
        self._idle.append(connection)
        if self.closed:
            self._close_idle()

    async def close(self) -> None:
        """Close all connections; those in use as soon as they are given back."""
        self.closed = True
        await trio.to_thread.run_sync(self._close_idle)

    def _kept(self) -> ConnectionT | None:
        try:
            return self._idle.pop()
        except IndexError:
            return None

    def _close_idle(self) -> None:
        while (connection := self._kept()) is not None:
            close_quietly(connection)


def close_quietly(connection: Connection) -> None:
    """Close a connection that is given up either way."""
    with suppress(Exception):
        connection.close()
