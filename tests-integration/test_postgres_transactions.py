"""Skills' transactions on PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from rainengine.core.testing import TRANSACTION_CHECKS, LedgerCheck, LedgerMaker
from rainengine.store_pg import PostgresSettings
from testbed.ledgers import EmptyLedgers, PostgresMaker

POOLER = PostgresSettings(pooler=True)


@pytest.fixture(scope="module", params=["two handles", "pooler"])
def maker(request: pytest.FixtureRequest, empty_ledgers: EmptyLedgers) -> Iterator[LedgerMaker]:
    """One database for all checks: each works under a new tenant."""
    with empty_ledgers.copied() as url:
        settings = POOLER if request.param == "pooler" else PostgresSettings()
        yield PostgresMaker(url=url, settings=settings)


@pytest.mark.parametrize("check", TRANSACTION_CHECKS, ids=lambda check: check.__name__)
async def test_postgres_keeps_the_contract(check: LedgerCheck, maker: LedgerMaker) -> None:
    """Every check of the contract of transactions holds on PostgreSQL."""
    await check(maker)
