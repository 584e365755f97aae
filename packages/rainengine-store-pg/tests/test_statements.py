"""The statement of a batch: what it is made of, and that psycopg can keep it."""

from __future__ import annotations

from itertools import product

import pytest

from rainengine.store_pg import _statements as sql
from rainengine.store_sql import OutboxRow, RecordRow, SessionRow, SnapshotRow, metadata

CACHED_BYTES, CACHED_PARAMETERS = 4096, 50
"""What psycopg parses anew each time is longer than this, or has more parameters."""

VARIANTS = [
    {"moved": moved, "born": born, "keyed": keyed, "outbox": outbox}
    for moved, born, keyed, outbox in product((True, False), repeat=4)
    if (moved or born) and (moved or not keyed)
]


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_psycopg_parses_each_variant_once(variant: dict[str, bool]) -> None:
    """Every statement is short enough for the driver's cache."""
    statement = sql.store_changes(**variant)
    assert len(statement) <= CACHED_BYTES
    assert statement.count(b"%s") <= CACHED_PARAMETERS


def test_columns_are_those_of_the_rows() -> None:
    """Rows are sent column by column in the order in which they are made."""
    session = [name for name, _ in (*sql._KEY, *sql._ROW)]
    assert list(SessionRow._fields) == session
    assert list(RecordRow._fields) == [name for name, _ in (*sql._KEY, *sql._RECORD)]
    assert list(OutboxRow._fields) == [name for name, _ in (*sql._KEY, *sql._OUTBOX)]
    assert list(SnapshotRow._fields) == [name for name, _ in sql._SNAPSHOT]


@pytest.mark.parametrize("table", ["records", "sessions", "outbox", "snapshots"])
def test_columns_have_the_types_of_the_schema(table: str) -> None:
    """What is sent as an array of a type is a column of that type."""
    sent = {
        "records": sql._RECORD,
        "sessions": sql._ROW,
        "outbox": sql._OUTBOX,
        "snapshots": sql._SNAPSHOT,
    }[table]
    types = {"TEXT": "text", "BIGINT": "bigint", "INTEGER": "integer", "BLOB": "bytea"}
    columns = metadata.tables[f"rainengine_{table}"].c
    assert dict(sent) == {name: types[str(columns[name].type).split()[0]] for name, _ in sent}
