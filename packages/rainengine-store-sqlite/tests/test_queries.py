"""The hand-written SQL against the schema."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import attrs
import pytest

from rainengine.store_sql import OutboxRow, RecordRow, SessionRow, SnapshotRow, metadata
from rainengine.store_sql._statements import Statements, statements
from rainengine.store_sqlite import _statements as sql
from rainengine.store_sqlite import open_sqlite_ledger

ROWS = {
    "rainengine_records": RecordRow,
    "rainengine_sessions": SessionRow,
    "rainengine_snapshots": SnapshotRow,
}


@pytest.mark.parametrize("table", ROWS)
def test_rows_are_the_tables_columns(table: str) -> None:
    """The tuples that are bound and read hold the columns of their tables, in order."""
    assert list(ROWS[table]._fields) == [column.name for column in metadata.tables[table].columns]


def test_outbox_rows_are_the_tables_first_columns() -> None:
    """An append sets the first columns of an outbox row; the others may be null."""
    columns = list(metadata.tables["rainengine_outbox"].columns)
    count = len(OutboxRow._fields)
    assert list(OutboxRow._fields) == [column.name for column in columns[:count]]
    assert all(column.nullable for column in columns[count:])


def _written() -> dict[str, str]:
    found = {name: text for name, text in attrs.asdict(statements()).items() if "SELECT" in text}
    for make in (sql.select_sessions, sql.select_keys, sql.insert_records, sql.upsert_sessions):
        found[make.__name__] = make(3)
    return found | {"insert_outbox": sql.insert_outbox(3), "snapshot": sql.UPSERT_SNAPSHOT}


async def test_every_statement_fits_the_schema_and_uses_its_indexes(tmp_path: Path) -> None:
    """SQLite compiles every statement, and none of them scans a table."""
    async with open_sqlite_ledger(tmp_path / "x.db"):
        pass
    with closing(sqlite3.connect(tmp_path / "x.db")) as connection:
        for name, text in _written().items():
            plan = connection.execute(f"EXPLAIN QUERY PLAN {text}", [None] * text.count("?"))
            steps = [step for *_, step in plan]
            assert not [step for step in steps if step.startswith("SCAN rainengine")], name
            assert not [step for step in steps if "TEMP B-TREE" in step], name


def test_placeholders_are_the_drivers() -> None:
    """Every statement can be had in the format style of other drivers."""
    for field in attrs.fields(Statements):
        qmark, percent = (getattr(statements(style), field.name) for style in ("?", "%s"))
        assert qmark.count("?") == percent.count("%s")
        assert "?" not in percent
