"""Ledgers on PostgreSQL: empty ones for tests, and makers of handles for contract checks."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from functools import partial

import attrs
import trio

from rainengine.core.abc import LedgerStore
from rainengine.core.testing import ScriptedClock
from rainengine.store_pg import PostgresSettings, migrate, open_postgres_ledger
from rainengine.store_sql import SqlLedgerStore
from testbed.databases import Databases
from testbed.remote import OtherProcess


@attrs.define
class EmptyLedgers:
    """Makes databases with an empty ledger, as copies: that is quicker than to create a schema."""

    databases: Databases
    _templates: dict[int | None, str] = attrs.field(factory=dict, init=False)

    def prepare(self, partitions: int | None = None) -> None:
        """Make the one to be copied, unless it is there. Not where trio runs already."""
        if partitions not in self._templates:
            name = self.databases.create()
            trio.run(partial(migrate, self.databases.url(name), partitions=partitions))
            self._templates[partitions] = name

    @contextmanager
    def copied(self, partitions: int | None = None) -> Iterator[str]:
        """Make a ledger as prepared, yield its URL, drop it. Blocks, but not for long."""
        name = self.databases.create(template=self._templates[partitions])
        try:
            yield self.databases.url(name)
        finally:
            self.databases.drop(name)

    def drop(self) -> None:
        """Drop what was copied."""
        for name in self._templates.values():
            self.databases.drop(name)


@attrs.frozen(kw_only=True)
class PostgresMaker:
    """Opens one database again and again, under one clock that a test moves."""

    url: str
    clock: ScriptedClock = attrs.field(factory=ScriptedClock)
    settings: PostgresSettings = PostgresSettings()

    def open(self) -> AbstractAsyncContextManager[SqlLedgerStore]:
        return open_postgres_ledger(self.url, clock=self.clock, settings=self.settings)

    async def let_pass(self, ms: int) -> None:
        self.clock.jump(ms)


@attrs.define(kw_only=True)
class TwoProcesses:
    """Opens a second handle in another process; the database's clock judges leases."""

    url: str
    other: OtherProcess
    settings: PostgresSettings = PostgresSettings()
    _open_here: bool = attrs.field(default=False, init=False)

    @asynccontextmanager
    async def open(self) -> AsyncGenerator[LedgerStore]:
        if self._open_here:
            async with self.other.open(self.url, self.settings) as remote:
                yield remote
            return
        self._open_here = True
        try:
            async with open_postgres_ledger(self.url, settings=self.settings) as store:
                yield store
        finally:
            self._open_here = False

    async def let_pass(self, ms: int) -> None:
        await trio.sleep(ms / 1000)
