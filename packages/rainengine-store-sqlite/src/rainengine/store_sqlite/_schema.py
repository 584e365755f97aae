"""Bringing a database's schema up to date when it is opened.

Today's schema is recognised by one query, a new database gets it as ready-made SQL text,
and only an older one loads SQLAlchemy and Alembic.
"""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from rainengine.store_sql import (
    SELECT_VERSION,
    VERSION_TABLE,
    check_unclaimed,
    check_version,
    is_older,
)
from rainengine.store_sqlite._connect import Database
from rainengine.store_sqlite._creation import TABLES
from rainengine.store_sqlite._errors import no_database, translate_error

if TYPE_CHECKING:
    from sqlalchemy import Connection

_LISTED = """SELECT name FROM sqlite_master
WHERE type = 'table' AND name LIKE 'rainengine!_%' ESCAPE '!'"""
_MAGIC = b"SQLite format 3\0"


def prepare(database: Database) -> None:
    """Create or upgrade the schema where needed.

    Raises `SchemaMismatch` for a newer schema, and what `translate_error` makes of SQLite's errors.
    """
    _check_magic(database.path)
    try:
        with closing(database.connect_writer()) as connection:
            _bring_up_to_date(connection, database)
    except (sqlite3.Error, UnicodeDecodeError) as error:
        known = translate_error(error)
        if known is None:
            raise
        raise known from error


def _check_magic(path: Path) -> None:
    """Refuse what is no database: SQLite takes a file cut down to a few bytes for a new one."""
    try:
        with path.open("rb") as file:
            start = file.read(len(_MAGIC))
    except OSError:
        return  # absent or inaccessible: SQLite says which
    if start not in {b"", _MAGIC}:
        raise no_database(path)


def _bring_up_to_date(connection: sqlite3.Connection, database: Database) -> None:
    found = schema_version(connection)
    if not is_older(found):
        check_version(found)  # before anything is changed
    _use_wal(connection, database.busy_timeout_ms)
    if found is None:
        _create(connection)
    elif is_older(found):
        _upgrade(database)


def schema_version(connection: sqlite3.Connection) -> str | None:
    """Return the version of the schema, None where there is none."""
    names = [name for (name,) in connection.execute(_LISTED).fetchall()]
    if VERSION_TABLE not in names:
        check_unclaimed(names)
        return None
    found = connection.execute(SELECT_VERSION).fetchone()
    return str(found[0]) if found else ""


def _use_wal(connection: sqlite3.Connection, patience_ms: int) -> None:
    """Switch a new file to write-ahead logging.

    SQLite does not wait for the lock that this takes, so several processes that make
    one file at the same time have to try again by themselves.
    """
    deadline = time.monotonic() + patience_ms / 1000
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.005)
        else:
            return


def _create(connection: sqlite3.Connection) -> None:
    connection.execute("BEGIN IMMEDIATE")
    try:
        if schema_version(connection) is None:  # another process may have been quicker
            for statement in TABLES.split(";"):
                connection.execute(statement)
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _upgrade(database: Database) -> None:
    from sqlalchemy import NullPool, create_engine, event

    from rainengine.store_sql import migrate

    engine = create_engine("sqlite://", creator=database.connect_writer, poolclass=NullPool)
    event.listen(engine, "begin", _begin)
    migrate(engine)


def _begin(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")
