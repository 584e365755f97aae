"""One schema, written down three times: metadata, migrations, and the text for new databases."""

from __future__ import annotations

import re
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import Engine, NullPool, create_engine

from rainengine.core.errors import SchemaMismatch
from rainengine.store_sql import check_schema, metadata, migrate
from rainengine.store_sqlite import open_sqlite_ledger


def _engine(path: Path) -> Engine:
    return create_engine(f"sqlite:///{path}", poolclass=NullPool)


def _schema(path: Path) -> dict[str, str]:
    with closing(sqlite3.connect(path)) as connection:
        found = connection.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL")
        return {name: re.sub(r"\s*([(),])\s*|\s+", r"\1 ", sql).strip() for name, sql in found}


async def test_new_databases_have_the_schema_of_the_migrations(tmp_path: Path) -> None:
    """What opening a new file creates is what the migrations make of an empty one."""
    async with open_sqlite_ledger(tmp_path / "opened.db"):
        pass
    migrate(_engine(tmp_path / "migrated.db"))
    assert _schema(tmp_path / "opened.db") == _schema(tmp_path / "migrated.db")


def test_migrations_lead_to_the_metadata(tmp_path: Path) -> None:
    """The migrations make the tables and indexes that the metadata describes."""
    migrate(_engine(tmp_path / "migrated.db"))
    metadata.create_all(_engine(tmp_path / "created.db"))
    migrated = _schema(tmp_path / "migrated.db")
    del migrated["rainengine_schema"]
    assert migrated == _schema(tmp_path / "created.db")


def test_migrating_again_changes_nothing(tmp_path: Path) -> None:
    """A schema that is up to date stays as it is."""
    engine = _engine(tmp_path / "x.db")
    migrate(engine)
    before = (tmp_path / "x.db").read_bytes()
    migrate(engine)
    check_schema(engine)
    assert (tmp_path / "x.db").read_bytes() == before


def test_an_empty_database_has_no_schema(tmp_path: Path) -> None:
    """Checking a database without a ledger says that it is absent and names migrate()."""
    with pytest.raises(SchemaMismatch, match=r"absent.*migrate\(\)"):
        check_schema(_engine(tmp_path / "x.db"))


def _set_version(path: Path, version: str) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE rainengine_schema SET version_num = ?", (version,))


async def test_a_newer_schema_is_refused(tmp_path: Path) -> None:
    """A database of a later release is neither opened nor migrated, and not changed."""
    path = tmp_path / "x.db"
    async with open_sqlite_ledger(path):
        pass
    _set_version(path, "9999")
    before = path.read_bytes()
    with pytest.raises(SchemaMismatch) as caught:
        async with open_sqlite_ledger(path):
            pass
    assert (caught.value.found, caught.value.expected) == ("9999", "0001")
    with pytest.raises(SchemaMismatch):
        migrate(_engine(path))
    with pytest.raises(SchemaMismatch):
        check_schema(_engine(path))
    assert path.read_bytes() == before


async def test_tables_without_a_version_are_refused(tmp_path: Path) -> None:
    """Tables of ours that nothing dates are left alone."""
    path = tmp_path / "x.db"
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE rainengine_records (x)")
    before = path.read_bytes()
    for attempt in (check_schema, migrate):
        with pytest.raises(SchemaMismatch, match="rainengine_records"):
            attempt(_engine(path))
    with pytest.raises(SchemaMismatch, match="rainengine_records"):
        async with open_sqlite_ledger(path):
            pass
    assert path.read_bytes() == before


async def test_other_tables_are_left_alone(tmp_path: Path) -> None:
    """A ledger may be put into a database that holds other things."""
    path = tmp_path / "x.db"
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE theirs (x)")
        connection.execute("INSERT INTO theirs VALUES (1)")
    async with open_sqlite_ledger(path):
        pass
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT x FROM theirs").fetchall() == [(1,)]


LIFE = """
import sys, trio
from rainengine.core.abc import LeaseChange
from rainengine.core.records import CancelRequest, NewRecord
from rainengine.store_sqlite import open_sqlite_ledger

async def main():
    for _ in range(2):
        async with open_sqlite_ledger(sys.argv[1]) as ledger:
            record = NewRecord(CancelRequest(reason="enough"), 0)
            take = LeaseChange("take", "me", 60_000)
            done = await ledger.append("s", [record], expected=None, lease=take)
            await ledger.read("s")
            await ledger.read_encoded("s")
            await ledger.find_outcome("s", "key")
            await ledger.load_snapshot("s", 1)
            await ledger.heartbeat("s", owner="me", fence=done.fence, ttl_ms=60_000)
            await ledger.release("s", owner="me", fence=done.fence)

trio.run(main)
print(sorted({"sqlalchemy", "alembic"} & set(sys.modules)))
"""


def test_daily_life_does_not_load_sqlalchemy(tmp_path: Path) -> None:
    """Creating, opening, appending, reading and leases get by without SQLAlchemy and Alembic."""
    run = [sys.executable, "-c", LIFE, str(tmp_path / "x.db")]
    assert subprocess.run(run, check=True, capture_output=True, text=True).stdout == "[]\n"
