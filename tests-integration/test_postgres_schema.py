"""Ledgers of earlier releases on PostgreSQL: brought up to date, once, with all that is in them."""

from __future__ import annotations

from functools import partial
from importlib.resources import files
from typing import Any

import psycopg
import pytest
from alembic import command
from alembic.config import Config
from psycopg.rows import dict_row
from sqlalchemy import NullPool, create_engine

from rainengine.core.errors import SchemaMismatch
from rainengine.store_pg import check_schema, migrate, open_postgres_ledger
from testbed.databases import Databases
from testbed.fleet import open_fleet

FIRST_DATA = """
INSERT INTO rainengine_sessions VALUES
    ('t', 'r', 1, '\\x01', 1, 'me', 99, 'running', 'agent', NULL, 5, 6),
    ('t', 'w', 1, '\\x01', 0, NULL, 0, 'completed', NULL, 7, 5, 6);
INSERT INTO rainengine_records VALUES
    ('t', 'r', 1, 'cancel_request', 1, 5, NULL, NULL, '{"reason":"enough"}', '\\x01');
INSERT INTO rainengine_outbox VALUES
    ('t', 'r', 1, 0, 'topic', '{"n":1}', 2, 8, NULL, NULL, NULL, 'no route'),
    ('t', 'r', 1, 1, 'topic', '{"n":2}', 1, 8, NULL, 9, NULL, NULL)
"""
"""What a ledger of the first schema may hold."""

TABLES = ("rainengine_sessions", "rainengine_records", "rainengine_outbox")
LAYOUT = """
SELECT table_name, column_name, data_type, is_nullable, column_default
FROM information_schema.columns WHERE table_schema = 'public'
UNION ALL SELECT tablename, indexname, indexdef, '', '' FROM pg_indexes WHERE schemaname = 'public'
ORDER BY 1, 2
"""
DISTURBING = "CREATE TABLE rainengine_sessions_waking (n int)"
"""In the way of an index, as something of the database's owner might be."""


def _make_first(url: str, partitions: int | None) -> None:
    """Make a ledger as the first release did, with data."""
    engine = create_engine(
        "postgresql+psycopg://", creator=partial(psycopg.connect, url), poolclass=NullPool
    )
    config = Config()
    config.set_main_option("script_location", str(files("rainengine.store_sql") / "migrations"))
    config.attributes["partitions"] = partitions
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
    _execute(url, FIRST_DATA)


def _execute(url: str, statement: str) -> None:
    with psycopg.connect(url) as connection:
        connection.execute(statement.encode())


def _ask(url: str, statement: str) -> list[dict[str, Any]]:
    with psycopg.connect(url, row_factory=dict_row) as connection:
        return connection.execute(statement.encode()).fetchall()


def _rows(url: str) -> dict[str, list[dict[str, Any]]]:
    return {table: _ask(url, f"SELECT * FROM {table} ORDER BY 1, 2, 3, 4") for table in TABLES}


@pytest.mark.parametrize("partitions", [None, 4])
async def test_a_ledger_of_the_first_schema_is_upgraded_with_its_data(
    partitions: int | None, postgres_url: str, postgres_databases: Databases
) -> None:
    """Migrating makes today's schema of it, all rows stay, and what was due is due."""
    _make_first(postgres_url, partitions)
    before = _rows(postgres_url)
    await migrate(postgres_url)
    after = _rows(postgres_url)
    assert [row.pop("claims") for row in after["rainengine_outbox"]] == [0, 0]
    assert after == before
    async with open_postgres_ledger(postgres_url) as ledger:
        due = [await ledger.due(kind, now_ms=100) for kind in ("run", "wake", "outbox")]
        assert [[one.session_id for one in sessions] for sessions in due] == [["r"], ["w"], ["r"]]
    fresh = postgres_databases.create()
    await migrate(postgres_databases.url(fresh), partitions=partitions)
    assert _ask(postgres_url, LAYOUT) == _ask(postgres_databases.url(fresh), LAYOUT)
    postgres_databases.drop(fresh)


async def test_an_upgrade_that_fails_leaves_the_ledger_as_it_was(postgres_url: str) -> None:
    """An upgrade is one transaction: it can be made again once nothing is in its way."""
    _make_first(postgres_url, None)
    _execute(postgres_url, DISTURBING)
    before, layout = _rows(postgres_url), _ask(postgres_url, LAYOUT)
    with pytest.raises(Exception, match="rainengine_sessions_waking"):
        await migrate(postgres_url)
    assert _rows(postgres_url) == before
    assert _ask(postgres_url, LAYOUT) == layout
    with pytest.raises(SchemaMismatch, match=r"up to date with migrate\(\)"):
        await check_schema(postgres_url)
    _execute(postgres_url, "DROP TABLE rainengine_sessions_waking")
    await migrate(postgres_url)
    await check_schema(postgres_url)


@pytest.mark.parametrize("schema", ["none", "the first"])
async def test_processes_that_start_at_once_change_the_schema_once(
    schema: str, postgres_url: str
) -> None:
    """Of several processes that find no schema, or an older one, one acts and all of them open."""
    if schema == "the first":
        _make_first(postgres_url, None)
    async with open_fleet() as fleet:
        members = [await fleet.start("open_or_create", url=postgres_url) for _ in range(4)]
        assert [await member.result() for member in members] == ["opened"] * 4
    await check_schema(postgres_url)
