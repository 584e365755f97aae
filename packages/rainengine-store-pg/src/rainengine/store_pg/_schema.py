"""The schema of a Postgres ledger: looking at it, creating it, bringing it up to date.

Looking takes one connection and no SQLAlchemy; only `migrate` loads that, and Alembic.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

import attrs
import psycopg
import trio

from rainengine.core.errors import InvalidConfiguration
from rainengine.store_pg import _statements as sql
from rainengine.store_pg._connect import PgConnection, Server, parse_url
from rainengine.store_pg._errors import translate_error
from rainengine.store_sql import SELECT_VERSION, VERSION_TABLE, check_unclaimed, check_version

if TYPE_CHECKING:
    from sqlalchemy import Connection

T = TypeVar("T")

MAX_PARTITIONS = 1024
_LOCK = 0x7261696E656E6769
"""Of `pg_advisory_xact_lock`, held while the schema is changed: the text `rainengi`."""

_OWN_TABLES = """SELECT c.relname FROM pg_catalog.pg_class AS c
WHERE c.relname LIKE 'rainengine!_%' ESCAPE '!' AND c.relkind IN ('r', 'p')
AND pg_catalog.pg_table_is_visible(c.oid)"""


@attrs.frozen(kw_only=True)
class Condition:
    """How a database was found: its schema's version, its settings, its wall clock."""

    version: str | None
    encoding: str
    durability: str
    search_path: str
    now_ms: int


async def migrate(url: str, *, partitions: int | None = None) -> None:
    """Create the ledger's schema, or bring an older one up to date; no-op on today's.

    Of several processes that do so at once one goes first and the others wait. With `partitions`
    a new schema hashes its tables into so many by tenant and session; on one that is there it
    changes nothing. The role needs the right to create tables in the schema of its search path.

    Raises `SchemaMismatch` for a newer schema, `InvalidConfiguration` for a wrong URL, and
    `LedgerError`s for what the server refuses.
    """
    check_partitions(partitions)
    server = plain_server(url)
    await trio.to_thread.run_sync(lambda: _translated(lambda: migrate_server(server, partitions)))


async def check_schema(url: str) -> None:
    """Raise `SchemaMismatch` unless the database holds the schema of this release."""
    found = await trio.to_thread.run_sync(look_at, plain_server(url))
    check_version(found.version)


def plain_server(url: str) -> Server:
    """The server as one sees it without the store's settings."""
    parameters = parse_url(url)
    return Server(parameters=parameters, statement_timeout_ms=0, lock_timeout_ms=0, pooler=False)


def check_partitions(partitions: int | None) -> None:
    """Raise `InvalidConfiguration` for a number of partitions that makes no sense."""
    if partitions is not None and not 1 <= partitions <= MAX_PARTITIONS:
        raise InvalidConfiguration("partitions", f"{partitions} is not from 1 to {MAX_PARTITIONS}")


def look_at(server: Server) -> Condition:
    """Connect and look. Raises the ledger's errors."""
    return _translated(lambda: _with_connection(server, _condition))


def _with_connection(server: Server, work: Callable[[PgConnection], T]) -> T:
    with server.connect_plainly() as connection:
        return work(connection)


def _condition(connection: PgConnection) -> Condition:
    names = [str(name) for (name,) in connection.execute(_OWN_TABLES).fetchall()]
    version = None
    if VERSION_TABLE in names:
        version = str(_value(connection, SELECT_VERSION.encode()) or "")
    else:
        check_unclaimed(names)
    return Condition(
        version=version,
        encoding=str(_value(connection, b"SHOW server_encoding")),
        durability=str(_value(connection, b"SHOW synchronous_commit")),
        search_path=str(_value(connection, b"SHOW search_path")),
        now_ms=int(str(_value(connection, sql.SELECT_NOW))),
    )


def _value(connection: PgConnection, statement: bytes) -> object:
    row = connection.execute(statement).fetchone()
    return None if row is None else row[0]


def migrate_server(server: Server, partitions: int | None) -> None:
    """Bring the schema up to date, alone among all processes."""
    from sqlalchemy import NullPool, create_engine, event

    from rainengine.store_sql import migrate as migrate_schema

    # The level ends the autocommit of our connections: without it there is no transaction, and the
    # lock would be gone at once. It lets who has waited see what the one before has done.
    engine = create_engine(
        "postgresql+psycopg://",
        creator=server.connect_plainly,
        poolclass=NullPool,
        isolation_level="READ COMMITTED",
    )
    event.listen(engine, "begin", _go_alone)
    migrate_schema(engine, partitions=partitions)


def _go_alone(connection: Connection) -> None:
    connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_LOCK})")


def _translated(work: Callable[[], T]) -> T:
    try:
        return work()
    except Exception as error:
        known = translate_error(_of_driver(error))
        if known is None:
            raise
        raise known from error


def _of_driver(error: Exception) -> Exception:
    """Unwrap a driver's error that SQLAlchemy has wrapped."""
    original = getattr(error, "orig", None)
    return original if isinstance(original, psycopg.Error) else error
