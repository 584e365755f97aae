"""The contract of every ledger, kept by PostgreSQL, however its handles are spread."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from rainengine.core.testing import (
    LEDGER_CHECKS,
    WORK_CHECKS,
    LedgerCheck,
    LedgerMaker,
    ScriptedClock,
)
from rainengine.store_pg import PostgresSettings
from testbed.ledgers import EmptyLedgers, PostgresMaker, TwoProcesses
from testbed.remote import OtherProcess


@pytest.fixture(scope="module")
def other_process() -> Iterator[OtherProcess]:
    """A process that opens handles."""
    process = OtherProcess()
    yield process
    process.end()


@pytest.fixture(scope="module", params=["two handles", "two processes, partitions"])
def maker(
    request: pytest.FixtureRequest, empty_ledgers: EmptyLedgers, other_process: OtherProcess
) -> Iterator[LedgerMaker]:
    """One database for all checks: each works under new tenants."""
    if request.param == "two handles":
        with empty_ledgers.copied() as url:
            yield PostgresMaker(url=url)
        return
    empty_ledgers.prepare(4)
    with empty_ledgers.copied(4) as url:
        yield TwoProcesses(url=url, other=other_process)


@pytest.mark.parametrize("check", [*LEDGER_CHECKS, *WORK_CHECKS], ids=lambda check: check.__name__)
async def test_postgres_keeps_the_contract(check: LedgerCheck, maker: LedgerMaker) -> None:
    """Every check of the ledger's contract holds on PostgreSQL."""
    await check(maker)


async def test_the_largest_record_is_a_setting(ledger_url: str) -> None:
    """A store takes what its settings say, and says so, for all tenants."""
    (check,) = [c for c in LEDGER_CHECKS if c.__name__ == "check_what_is_too_large_is_refused"]
    maker = PostgresMaker(
        url=ledger_url, clock=ScriptedClock(), settings=PostgresSettings(max_payload_bytes=2_000)
    )
    await check(maker)
    async with maker.open() as store:
        assert [store.max_payload_bytes, store.for_tenant("acme").max_payload_bytes] == [2_000] * 2
