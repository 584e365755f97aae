"""What a skill sets in its transaction does not reach the ledger's own append."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from rainengine.core.abc import Enclosed
from rainengine.core.records import KernelEventRecord, MemoryArchived, NewRecord
from rainengine.store_pg import PostgresSettings, open_postgres_ledger
from rainengine.store_sql import SqlLedgerStore

POOLED = pytest.mark.parametrize("pooler", [False, True], ids=["direct", "pooler"])
SETTINGS = {
    "synchronous_commit": ("SET LOCAL synchronous_commit = off", "on"),
    "synchronous_commit of the session": ("SET synchronous_commit = off", "on"),
    "search_path": ("SET LOCAL search_path = elsewhere", '"$user", public'),
    "role": ("SET LOCAL ROLE pg_read_all_data", "none"),
    "lock_timeout": ("SET LOCAL lock_timeout = 0", "1s"),
}


def _note() -> NewRecord:
    return NewRecord(KernelEventRecord(MemoryArchived(note_id="n", content="note")), 0)


async def _transact(ledger: SqlLedgerStore, *statements: str) -> Any:
    def work(connection: psycopg.Connection[Any]) -> Enclosed:
        for statement in statements:
            connection.execute(statement)
        return Enclosed(records=(_note(),))

    return await ledger.transact("s", work, expected=None, timeout_s=5)


@pytest.fixture
def watched_url(ledger_url: str) -> str:
    """A ledger that writes down under which settings its records were inserted."""
    with psycopg.connect(ledger_url, autocommit=True) as connection:
        connection.execute("CREATE TABLE seen (name text, value text)")
        connection.execute("CREATE SCHEMA elsewhere")
        connection.execute(
            """CREATE FUNCTION look() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            INSERT INTO public.seen SELECT n, current_setting(n)
            FROM unnest(ARRAY['synchronous_commit', 'search_path', 'role', 'lock_timeout']) AS n;
            RETURN NEW; END $$"""
        )
        connection.execute(
            "CREATE TRIGGER look BEFORE INSERT ON rainengine_records FOR EACH ROW"
            " EXECUTE FUNCTION look()"
        )
    return ledger_url


@POOLED
@pytest.mark.parametrize("setting", list(SETTINGS))
async def test_an_append_has_the_ledgers_own_settings(
    setting: str,
    pooler: bool,  # noqa: FBT001
    watched_url: str,
) -> None:
    """Whatever a skill has set, the append of its result is durable, and in its own place."""
    statement, expected = SETTINGS[setting]
    settings = PostgresSettings(pooler=pooler)
    async with open_postgres_ledger(watched_url, settings=settings) as ledger:
        appended = await _transact(ledger, statement)
        assert appended.head == await ledger.head("s")
        await ledger.append("s", [_note()], expected=appended.head)
    with psycopg.connect(watched_url) as connection:
        rows = connection.execute(
            "SELECT value FROM seen WHERE name = %s", (setting.split(maxsplit=1)[0],)
        ).fetchall()
    assert [(expected,)] * 2 == rows


async def test_a_skill_that_forbids_writing_forbids_itself(ledger_url: str) -> None:
    """What a skill does to its transaction ends with it; the append is stored."""
    async with open_postgres_ledger(ledger_url) as ledger:
        await _transact(ledger, "SET TRANSACTION READ ONLY")
        assert 1 == (await ledger.head("s")).sequence
