"""Creating and upgrading the schema by Alembic; imports SQLAlchemy, which takes half a second."""

from __future__ import annotations

import threading
from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, Engine, inspect, text

from rainengine.store_sql._versions import (
    SELECT_VERSION,
    VERSION_TABLE,
    check_unclaimed,
    check_version,
    is_older,
)

_ONE_AT_A_TIME = threading.Lock()  # Alembic hands its context to scripts through a global


def migrate(engine: Engine, *, partitions: int | None = None) -> None:
    """Create the schema, or upgrade an older one, in one transaction. No-op on today's.

    With `partitions` a new schema on Postgres divides the tables of sessions into so many.
    Raises `SchemaMismatch` for a newer schema, and for tables of ours without a version.
    """
    with engine.begin() as connection, _ONE_AT_A_TIME:
        found = _version(connection)
        if not is_older(found):
            check_version(found)
            return
        config = Config()
        config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
        config.attributes["connection"] = connection
        config.attributes["partitions"] = partitions
        command.upgrade(config, "head")


def check_schema(engine: Engine) -> None:
    """Raise `SchemaMismatch` unless the database holds the schema of this release."""
    with engine.connect() as connection:
        check_version(_version(connection))


def _version(connection: Connection) -> str | None:
    names = inspect(connection).get_table_names()
    if VERSION_TABLE in names:
        return connection.execute(text(SELECT_VERSION)).scalar()
    check_unclaimed([name for name in names if name.startswith("rainengine_")])
    return None
