"""What checks of transactions work on."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Protocol, runtime_checkable
from uuid import uuid4

import attrs

from rainengine.core.abc import (
    Appended,
    Enclosed,
    LeaseChange,
    LedgerStore,
    OutboxItem,
    SessionIndex,
    Transactions,
)
from rainengine.core.errors import RainEngineError
from rainengine.core.records import Head, NewRecord
from rainengine.core.testing._expect import CheckFailed, expect_equal, refusal
from rainengine.core.testing._ledger_checks._capabilities import PATIENCE_S
from rainengine.core.testing._maker import FullLedger, LedgerMaker, new_tenant, tenant_of
from rainengine.core.testing._samples import note


@runtime_checkable
class TransactionalLedger(FullLedger, Transactions, Protocol):
    """A ledger with every capability that these checks look at."""


class _Seen(Exception):
    """Carries what a transaction has read out of it, and rolls it back."""


def nothing(_: object) -> None:
    """Do no more than the bench does."""


@attrs.frozen
class Bench:
    """A new tenant's ledger through two handles, and a table of effects in its database."""

    one: TransactionalLedger
    other: TransactionalLedger
    table: str

    async def do(
        self,
        work: Callable[[Any], object] = nothing,
        *records: NewRecord,
        ledger: TransactionalLedger | None = None,
        expected: Head | None = None,
        fence: int | None = None,
        lease: LeaseChange | None = None,
        index: SessionIndex | None = None,
        outbox: Sequence[OutboxItem] = (),
        timeout_s: float = PATIENCE_S,
    ) -> Appended:
        """Add to the table, do `work` and append `records`, a note where there are none."""

        def enclose(connection: Any) -> Enclosed:  # noqa: ANN401 - the driver's
            connection.execute(f"INSERT INTO {self.table} VALUES (1)")  # noqa: S608 - our own name
            work(connection)
            return Enclosed(records=records or (note(),), index=index, outbox=outbox)

        return await (ledger or self.one).transact(
            "s", enclose, expected=expected, fence=fence, lease=lease, timeout_s=timeout_s
        )

    async def effects(self) -> int:
        """How many effects there are, as the other handle sees them."""

        def count(connection: Any) -> Enclosed:  # noqa: ANN401 - the driver's
            statement = f"SELECT count(*) FROM {self.table}"  # noqa: S608 - our own name
            raise _Seen(connection.execute(statement).fetchone()[0])

        try:
            await self.other.transact("s", count, expected=None, timeout_s=PATIENCE_S)
        except _Seen as seen:
            found: int = seen.args[0]
            return found
        raise CheckFailed("what a transaction raised did not come out of it")

    @asynccontextmanager
    async def refusal(self, error: type[RainEngineError], what: str) -> AsyncGenerator[None]:
        """Expect exactly this error from the block, that it changed nothing, and all goes on."""
        before = await self.effects()
        async with refusal(self.one, "s", error, what):
            yield
        expect_equal(before, await self.effects(), f"{what}: the effects")
        await self.one.append("elsewhere", [note()], expected=None)


@asynccontextmanager
async def new_bench(maker: LedgerMaker) -> AsyncGenerator[Bench]:
    """Open two handles and create the table."""
    tenant, table = new_tenant(), f"effects_{uuid4().hex}"
    async with maker.open() as one, maker.open() as other:
        bench = Bench(_of(one, tenant), _of(other, tenant), table)
        create = partial(_create, table=table)
        await bench.one.transact("the table", create, expected=None, timeout_s=PATIENCE_S)
        yield bench


def _of(store: LedgerStore, tenant: str) -> TransactionalLedger:
    ledger = tenant_of(store, tenant)
    if not isinstance(ledger, TransactionalLedger):
        raise TypeError(f"{ledger!r} has no transactions")
    return ledger


def _create(connection: Any, table: str) -> Enclosed:  # noqa: ANN401 - the driver's
    connection.execute(f"CREATE TABLE {table} (n INTEGER)")
    return Enclosed(records=[note()])
