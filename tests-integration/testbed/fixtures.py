"""Fixtures for tests on real servers. The conftest.py of the root loads them.

One server serves a whole test run (with pytest-xdist, that of one worker), and each test gets
a database of its own. `RAINENGINE_TEST_POSTGRES_URL` names another server to use, by a user who
may make databases. Tests that stop, restart or fill a server start their own all the same.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from testbed.databases import Databases
    from testbed.ledgers import EmptyLedgers

GIVEN = "RAINENGINE_TEST_POSTGRES_URL"


@pytest.fixture(scope="session")
def postgres_databases() -> Iterator[Databases]:
    """The databases of the run's PostgreSQL server."""
    from testbed.databases import Databases
    from testbed.postgres import run_postgres

    if given := os.environ.get(GIVEN):
        yield Databases(given)
        return
    with run_postgres() as server:
        yield server.databases


@pytest.fixture
def postgres_url(postgres_databases: Databases) -> Iterator[str]:
    """The URL of a fresh, empty database on PostgreSQL."""
    name = postgres_databases.create()
    yield postgres_databases.url(name)
    postgres_databases.drop(name)


@pytest.fixture(scope="session")
def empty_ledgers(postgres_databases: Databases) -> Iterator[EmptyLedgers]:
    """Databases with the schema of a ledger, to be copied."""
    from testbed.ledgers import EmptyLedgers

    ledgers = EmptyLedgers(postgres_databases)
    ledgers.prepare()
    yield ledgers
    ledgers.drop()


@pytest.fixture
def ledger_url(empty_ledgers: EmptyLedgers) -> Iterator[str]:
    """The URL of a fresh, empty ledger on PostgreSQL."""
    with empty_ledgers.copied() as url:
        yield url
