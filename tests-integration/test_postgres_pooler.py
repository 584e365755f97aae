"""PostgreSQL by way of a pooler in transaction mode: no transaction knows the one before.

A plain run takes every third check of the contracts, `RAINENGINE_SWEEP=full` all of them.
Needs a server of its own, which asks for no password: the pooler knows none.
"""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Iterator

import psycopg
import pytest
import trio

from rainengine.core.errors import LedgerUnavailable
from rainengine.core.testing import (
    LEDGER_CHECKS,
    TRANSACTION_CHECKS,
    WORK_CHECKS,
    LedgerCheck,
)
from rainengine.store_pg import PostgresSettings, migrate, open_postgres_ledger
from testbed.ledgers import PostgresMaker
from testbed.pooler import Pooler, open_pooler
from testbed.postgres import run_postgres

FULL = os.environ.get("RAINENGINE_SWEEP") == "full"
CHECKS = [*LEDGER_CHECKS, *WORK_CHECKS, *TRANSACTION_CHECKS][:: 1 if FULL else 3]
SETTINGS = PostgresSettings(pooler=True)


@pytest.fixture(scope="module")
def shared_url() -> Iterator[str]:
    """One database for all checks: each works under new tenants."""
    with run_postgres() as server:
        url = server.url("postgres")
        trio.run(migrate, url)
        yield url


@pytest.fixture
async def pooler(shared_url: str) -> AsyncGenerator[Pooler]:
    """A pooler with few connections."""
    async with open_pooler(shared_url, size=4) as pooler:
        yield pooler


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
async def test_the_contract_is_kept_through_a_pooler(check: LedgerCheck, pooler: Pooler) -> None:
    """The checks of a ledger's contracts hold where each transaction has another connection."""
    await check(PostgresMaker(url=pooler.url, settings=SETTINGS))
    assert pooler.transactions > 0


async def test_a_pooler_is_named_to_those_who_did_not_say_so(pooler: Pooler) -> None:
    """Without the setting the login is refused, and the error says which setting it takes."""
    with pytest.raises(LedgerUnavailable, match="pooler=True"):
        async with open_postgres_ledger(pooler.url) as ledger:
            await ledger.head("s")


async def test_the_pooler_does_pass_connections_on(pooler: Pooler) -> None:
    """What a client has set or prepared is not there in its next transaction."""

    def lose_it() -> None:
        with psycopg.connect(pooler.url, autocommit=True, prepare_threshold=0) as connection:
            for _ in range(2):
                connection.execute("SELECT 1")

    with pytest.raises(psycopg.errors.InvalidSqlStatementName):
        await trio.to_thread.run_sync(lose_it)
