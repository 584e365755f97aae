"""Listing sessions, whose filters vary, so SQLAlchemy writes the statement."""

from __future__ import annotations

from typing import cast

from sqlalchemy import Dialect, Select, select
from sqlalchemy.dialects.postgresql.base import PGDialect
from sqlalchemy.dialects.sqlite.base import SQLiteDialect

from rainengine.core.abc import SessionInfo, SessionPage, SessionQuery, SessionState
from rainengine.core.records import Head
from rainengine.store_sql._decoding import session_row
from rainengine.store_sql._dialect import Connection
from rainengine.store_sql._rows import SessionRow, Value
from rainengine.store_sql._tables import sessions

_DIALECTS: dict[str, Dialect] = {
    "?": SQLiteDialect(paramstyle="qmark"),
    "%s": PGDialect(paramstyle="format"),  # type: ignore[no-untyped-call]  # SQLAlchemy has no type here
}
"""By the driver's placeholder."""


def list_sessions(
    connection: Connection, placeholder: str, tenant: str, query: SessionQuery
) -> SessionPage:
    """Return a page of a tenant's sessions. One more than asked for tells whether it goes on."""
    limit = max(query.limit, 0)
    compiled = _statement(tenant, query, limit + 1).compile(
        dialect=_DIALECTS[placeholder], compile_kwargs={"render_postcompile": True}
    )
    parameters = cast("list[Value]", [compiled.params[name] for name in compiled.positiontup or ()])
    rows = connection.execute(compiled.string, parameters).fetchall()
    found = [session_row((tenant, str(row[1])), row) for row in rows]
    page = tuple([_info(row) for row in found[:limit]])
    more = len(found) > limit
    last = page[-1].session_id if page else query.after
    return SessionPage(sessions=page, next=last if more else None)


def _statement(tenant: str, query: SessionQuery, limit: int) -> Select[tuple[object, ...]]:
    columns = sessions.c
    statement = select(*columns).where(columns.tenant == tenant)
    if query.after is not None:
        statement = statement.where(columns.session_id > query.after)
    if query.states:
        statement = statement.where(columns.state.in_(query.states))
    if query.agent is not None:
        statement = statement.where(columns.agent == query.agent)
    return statement.order_by(columns.session_id).limit(limit)


def _info(row: SessionRow) -> SessionInfo:
    return SessionInfo(
        session_id=row.session_id,
        head=Head(row.head, row.hash),
        state=cast("SessionState", row.state),
        agent=row.agent,
        wake_due_at_ms=row.wake_due_at_ms,
        lease_owner=row.lease_owner,
        lease_expires_at_ms=row.lease_expires_at_ms,
        fence=row.fence,
        first_recorded_at_ms=row.first_recorded_at_ms,
        last_recorded_at_ms=row.last_recorded_at_ms,
    )
