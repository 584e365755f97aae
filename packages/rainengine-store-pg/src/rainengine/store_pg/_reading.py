"""What frames reading: the database's time, and a transaction where settings need one."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import cast

from rainengine.store_pg import _statements as sql
from rainengine.store_pg._clock import DatabaseClock
from rainengine.store_pg._connect import PgConnection


def refresh(clock: DatabaseClock | None, connection: PgConnection) -> None:
    """Ask the database for its time, where the last answer is old."""
    if clock is not None and clock.is_stale:
        clock.observe(ask_now(connection))


@contextmanager
def reading(
    connection: PgConnection, *, clock: DatabaseClock | None, preamble: str | None
) -> Generator[None]:
    """Frame what is read: in a transaction if there is a `preamble`. Keeps the clock right."""
    if preamble is not None:
        connection.execute(preamble.encode())
    refresh(clock, connection)
    yield
    if preamble is not None:
        connection.execute(b"COMMIT")


def ask_now(connection: PgConnection) -> int:
    """Ask the database for its time, in Unix milliseconds."""
    (now_ms,) = cast("tuple[int]", connection.execute(sql.SELECT_NOW).fetchone())
    return now_ms
