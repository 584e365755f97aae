"""One schema, written down three times: metadata, migrations, and the text for new databases."""

from __future__ import annotations

import re
import sqlite3
import subprocess
import sys
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import Engine, NullPool, create_engine

from rainengine.core.errors import SchemaMismatch
from rainengine.store_sql import SCHEMA_VERSION, check_schema, metadata, migrate
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


FIRST_DATA = """
INSERT INTO rainengine_sessions VALUES
    ('t', 'r', 1, x'01', 1, 'me', 99, 'running', 'agent', NULL, 5, 6),
    ('t', 'w', 1, x'01', 0, NULL, 0, 'completed', NULL, 7, 5, 6);
INSERT INTO rainengine_records VALUES
    ('t', 'r', 1, 'cancel_request', 1, 5, NULL, NULL, '{"reason":"enough"}', x'01');
INSERT INTO rainengine_outbox VALUES
    ('t', 'r', 1, 0, 'topic', '{"n":1}', 2, 8, NULL, NULL, NULL, 'no route'),
    ('t', 'r', 1, 1, 'topic', '{"n":2}', 1, 8, NULL, 9, NULL, NULL);
"""
"""What a ledger of the first schema may hold."""


def _make_first(path: Path) -> None:
    """Make a database as the first release did, with data."""
    config = Config()
    folder = Path(str(find_spec("rainengine.store_sql").origin)).parent  # type: ignore[union-attr]
    config.set_main_option("script_location", str(folder / "migrations"))
    with _engine(path).begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.executescript(FIRST_DATA)


def _dump(path: Path, table: str) -> list[dict[str, object]]:
    with closing(sqlite3.connect(path)) as connection:
        cursor = connection.execute(f"SELECT * FROM {table}")
        names = [column[0] for column in cursor.description]
        return [dict(zip(names, row, strict=True)) for row in cursor]


async def test_a_ledger_of_the_first_schema_is_upgraded_with_its_data(tmp_path: Path) -> None:
    """Opening it makes today's schema of it; all rows stay, and what was due is due."""
    _make_first(tmp_path / "x.db")
    tables = ("rainengine_sessions", "rainengine_records", "rainengine_outbox")
    before = {table: _dump(tmp_path / "x.db", table) for table in tables}
    async with open_sqlite_ledger(tmp_path / "x.db") as ledger:
        due = [await ledger.due(kind, now_ms=100) for kind in ("run", "wake", "outbox")]
        assert [[one.session_id for one in sessions] for sessions in due] == [["r"], ["w"], ["r"]]
        (entry,) = await ledger.claim("t", "r", claim_ms=1000)
        assert (entry.payload, entry.attempts) == ({"n": 1}, 3)
    async with open_sqlite_ledger(tmp_path / "new.db"):
        pass
    assert _schema(tmp_path / "x.db") == _schema(tmp_path / "new.db")
    after = {table: _dump(tmp_path / "x.db", table) for table in tables}
    for row in after["rainengine_outbox"]:
        del row["claims"]
    changed = {"attempts": 3, "claimed_until_ms": after["rainengine_outbox"][0]["claimed_until_ms"]}
    before["rainengine_outbox"][0] |= changed
    assert after == before


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
    assert (caught.value.found, caught.value.expected) == ("9999", SCHEMA_VERSION)
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
