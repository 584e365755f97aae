"""The contract of every ledger, kept by SQLite with several handles on one file."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from pathlib import Path

import attrs
import pytest

from rainengine.core.testing import LEDGER_CHECKS, WORK_CHECKS, LedgerCheck, ScriptedClock
from rainengine.store_sql import SqlLedgerStore, StoreSettings, _due
from rainengine.store_sqlite import open_sqlite_ledger


@attrs.frozen
class SqliteMaker:
    """Opens one file again and again, under one clock that a test moves."""

    path: Path
    clock: ScriptedClock
    settings: StoreSettings = StoreSettings()

    def open(self) -> AbstractAsyncContextManager[SqlLedgerStore]:
        return open_sqlite_ledger(self.path, clock=self.clock, settings=self.settings)

    async def let_pass(self, ms: int) -> None:
        self.clock.jump(ms)


@pytest.mark.parametrize("check", [*LEDGER_CHECKS, *WORK_CHECKS], ids=lambda check: check.__name__)
async def test_sqlite_keeps_the_contract(check: LedgerCheck, tmp_path: Path) -> None:
    """Every check of the ledger's contract holds on SQLite."""
    await check(SqliteMaker(tmp_path / "ledger.db", ScriptedClock()))


@pytest.mark.parametrize("check", WORK_CHECKS, ids=lambda check: check.__name__)
async def test_a_backlog_is_worked_off_by_the_same_rules(
    check: LedgerCheck, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where too much is due to be looked at by time, it is found by key, and no rule changes."""
    monkeypatch.setattr(_due, "EARLY", 1)
    await check(SqliteMaker(tmp_path / "ledger.db", ScriptedClock()))


async def test_the_largest_record_is_a_setting(tmp_path: Path) -> None:
    """A store takes what its settings say, and says so, for all tenants."""
    (check,) = [c for c in LEDGER_CHECKS if c.__name__ == "check_what_is_too_large_is_refused"]
    maker = SqliteMaker(tmp_path / "x.db", ScriptedClock(), StoreSettings(max_payload_bytes=2_000))
    await check(maker)
    async with maker.open() as store:
        assert [store.max_payload_bytes, store.for_tenant("acme").max_payload_bytes] == [2_000] * 2
