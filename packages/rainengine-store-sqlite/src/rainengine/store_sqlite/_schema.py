"""Bringing a database's schema up to date when it is opened."""

from __future__ import annotations

import sqlite3
from contextlib import closing

from rainengine.store_sqlite._connect import Database
from rainengine.store_sqlite._creation import SCHEMA_VERSION, TABLES
from rainengine.store_sqlite._errors import translate_error


def prepare(database: Database) -> None:
    """Create, check or migrate the schema."""
    try:
        with closing(database.connect_writer()) as connection:
            if not connection.execute(
                "SELECT 1 FROM sqlite_master WHERE name = 'rainengine_schema'"
            ).fetchone():
                connection.execute("BEGIN IMMEDIATE")
                for statement in TABLES.split(";"):
                    connection.execute(statement)
                connection.execute("COMMIT")
    except sqlite3.Error as error:
        known = translate_error(error)
        raise known from error
