"""The hand-written SQL against the schema."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import attrs
import pytest

from rainengine.store_sql import OutboxRow, RecordRow, SessionRow, SnapshotRow, metadata
from rainengine.store_sql._statements import Statements, statements
from rainengine.store_sql._work_statements import WorkStatements, work_statements
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
    """An append sets the first columns of an outbox row; the others have a default or are null."""
    columns = list(metadata.tables["rainengine_outbox"].columns)
    count = len(OutboxRow._fields)
    assert list(OutboxRow._fields) == [column.name for column in columns[:count]]
    assert all(column.nullable or column.server_default for column in columns[count:])


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


INDEXES = {
    "runs": {"sessions_running"},
    "wakes_early": {"sessions_wake"},
    "wakes": {"sessions_waking"},
    "outbox_early": {"outbox_due", "outbox_topic"},
    "outbox": {"outbox_topic"},
    "topics": {"outbox_topic"},
    "rows": {"outbox_topic"},
    "postpone": {"outbox_topic"},
    "dead_letters": {"outbox_dead"},
    "discard": {"outbox_delivered"},
}
"""What the statements of workers are found by, beside the tables' keys."""

SORTING = {"outbox"}
"""These sort a page, after its rows were picked."""


async def test_the_statements_of_workers_use_their_indexes(tmp_path: Path) -> None:
    """What is due is found by its index, without a scan of a table and without sorting it."""
    async with open_sqlite_ledger(tmp_path / "x.db"):
        pass
    with closing(sqlite3.connect(tmp_path / "x.db")) as connection:
        for name, text in attrs.asdict(work_statements()).items():
            plan = connection.execute(f"EXPLAIN QUERY PLAN {text}", [None] * text.count("?"))
            steps = "\n".join(step for *_, step in plan)
            assert set(re.findall(r"INDEX rainengine_(\w+)", steps)) == INDEXES.get(name, set())
            assert "SCAN rainengine" not in steps, name
            assert "TEMP B-TREE" not in steps or name in SORTING, name


@pytest.mark.parametrize(
    ("kind", "make"), [(Statements, statements), (WorkStatements, work_statements)]
)
def test_placeholders_are_the_drivers(kind: type[Any], make: Callable[[str], object]) -> None:
    """Every statement can be had in the format style of other drivers, without SQLite's hints."""
    for field in attrs.fields(kind):
        qmark, percent = (getattr(make(style), field.name) for style in ("?", "%s"))
        assert qmark.count("?") == percent.count("%s")
        assert "?" not in percent
        assert "INDEXED BY" not in percent
