"""Transactions whose statements are a skill's: what SQLite keeps them from."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import attrs
import pytest

from rainengine.core.testing import TRANSACTION_CHECKS, LedgerCheck, ScriptedClock
from rainengine.store_sql import SqlLedgerStore
from rainengine.store_sqlite import open_sqlite_ledger


@attrs.frozen
class Maker:
    """Opens one database again and again."""

    path: Path
    clock: ScriptedClock = attrs.field(factory=ScriptedClock)

    @asynccontextmanager
    async def open(self) -> AsyncIterator[SqlLedgerStore]:
        async with open_sqlite_ledger(self.path, clock=self.clock) as store:
            yield store

    async def let_pass(self, ms: int) -> None:
        self.clock.jump(ms)


@pytest.mark.parametrize("check", TRANSACTION_CHECKS, ids=lambda check: check.__name__)
async def test_contract(check: LedgerCheck, tmp_path: Path) -> None:
    """Every check of the contract of transactions holds on SQLite."""
    await check(Maker(tmp_path / "x.db"))
