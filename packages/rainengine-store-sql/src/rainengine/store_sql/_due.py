"""Finding what is due, given a connection; runs in a worker thread.

What is due is looked for by time first. Only where that finds `EARLY` rows is it paged by key:
so a million things that are due later cost nothing, and neither does a backlog (see `_tables`).
"""

from __future__ import annotations

from collections.abc import Sequence
from operator import itemgetter
from typing import Any

from rainengine.core.abc import DuePosition, DueSession, WorkKind
from rainengine.store_sql._dialect import Connection
from rainengine.store_sql._rows import Key
from rainengine.store_sql._work_statements import WorkStatements

EARLY = 1024
"""How many rows are looked at by time."""

_LARGEST = 2**63 - 1
_KEY = itemgetter(0, 1)


def due(
    connection: Connection,
    *,
    sql: WorkStatements,
    kind: WorkKind,
    now_ms: int,
    after: DuePosition | None,
    limit: int,
) -> list[DueSession]:
    """Return a page of the sessions in which something is due."""
    start, limit = _start(after), min(max(limit, 0), _LARGEST)
    rows = _early(connection, sql, kind, now_ms)
    if rows is None:
        rows = _by_key(connection, sql, kind, (now_ms, *start, limit))
    else:
        ready = {_KEY(row): row for row in rows if row[3] and _KEY(row) > start}
        rows = [ready[key] for key in sorted(ready)][:limit]
    return [
        DueSession(tenant=tenant, session_id=session_id, agent=agent)
        for tenant, session_id, agent, *_ in rows
    ]


def _early(
    connection: Connection, sql: WorkStatements, kind: WorkKind, now_ms: int
) -> Sequence[Any] | None:
    """All that is due, ready or held up by others of its topic; None where it is too much."""
    if kind == "run":
        return None
    if kind == "wake":
        rows = connection.execute(sql.wakes_early, (now_ms, EARLY)).fetchall()
    else:
        rows = connection.execute(sql.outbox_early, (now_ms, now_ms, EARLY)).fetchall()
    return rows if len(rows) < EARLY else None


def _by_key(
    connection: Connection, sql: WorkStatements, kind: WorkKind, page: tuple[int, str, str, int]
) -> Sequence[Any]:
    if kind == "run":
        return connection.execute(sql.runs, page).fetchall()
    if kind == "wake":
        return connection.execute(sql.wakes, page).fetchall()
    return connection.execute(sql.outbox, (page[0], *page)).fetchall()


def _start(after: DuePosition | None) -> Key:
    """The key that a page comes after."""
    if after is None:
        return "", ""
    tenant, session_id = after
    # Behind all sessions of a tenant: no name holds NUL, and no session's is empty.
    return (f"{tenant}\1", "") if session_id is None else (tenant, session_id)
