"""The in-memory ledger keeps every promise of the contract."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import attrs
import pytest

from rainengine.core.inmemory import InMemoryLedger
from rainengine.core.testing import LEDGER_CHECKS, LedgerCheck, ScriptedClock


@attrs.define
class InMemoryMaker:
    """Opens handles on one backing store and moves its clock by hand."""

    clock: ScriptedClock = attrs.field(factory=ScriptedClock)
    backing: InMemoryLedger | None = None

    @asynccontextmanager
    async def open(self) -> AsyncIterator[InMemoryLedger]:
        handle = InMemoryLedger(self.clock, backing=self.backing)
        self.backing = self.backing or handle
        yield handle

    async def let_pass(self, ms: int) -> None:
        self.clock.jump(ms)


@pytest.mark.parametrize("check", LEDGER_CHECKS, ids=lambda check: check.__name__)
async def test_contract(check: LedgerCheck) -> None:
    """The in-memory ledger keeps the promise that the check states."""
    await check(InMemoryMaker())
