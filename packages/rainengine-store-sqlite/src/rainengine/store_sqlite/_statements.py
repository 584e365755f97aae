"""SQL of the hot path.

A batch is a few statements of several rows each: sqlite3 lets go of the GIL with every step,
and `executemany`, which takes a step a row, costs 1.7 times as much even where nobody waits for it.
Beyond 8 rows a statement gets slower again (measured: 6.6 us a record at 1 row, 3.7 at 8, 5 at 64).
CROSS JOIN makes SQLite look up row by row; for `(a, b) IN (VALUES ...)` it scans the table.
"""

from __future__ import annotations

from functools import cache

from rainengine.store_sql import OutboxRow, RecordRow, SessionRow

MAX_ROWS = 8
"""Rows in one statement; more go into several."""

_KEY = ("tenant", "session_id")


def _values(columns: int, rows: int) -> str:
    row = f"({','.join('?' * columns)})"
    return f"VALUES {','.join([row] * rows)}"


def _insert(table: str, fields: tuple[str, ...], rows: int) -> str:
    return f"INSERT INTO {table} ({', '.join(fields)}) {_values(len(fields), rows)}"


@cache
def insert_records(rows: int) -> str:
    """Insert this many records."""
    return _insert("rainengine_records", RecordRow._fields, rows)


@cache
def insert_outbox(rows: int) -> str:
    """Insert this many outbox rows."""
    return _insert("rainengine_outbox", OutboxRow._fields, rows)


@cache
def upsert_sessions(rows: int) -> str:
    """Insert or replace this many sessions' rows."""
    fields = SessionRow._fields
    sets = ", ".join(f"{field} = excluded.{field}" for field in fields if field not in _KEY)
    return (
        f"{_insert('rainengine_sessions', fields, rows)}"
        f" ON CONFLICT (tenant, session_id) DO UPDATE SET {sets}"
    )


_SESSIONS = """SELECT tenant, session_id, head, hash, fence, lease_owner, lease_expires_at_ms,
state, agent, wake_due_at_ms, first_recorded_at_ms, last_recorded_at_ms
FROM (VALUES) AS wanted CROSS JOIN rainengine_sessions
WHERE tenant = wanted.column1 AND session_id = wanted.column2"""

_KEYS = """SELECT tenant, session_id, idempotency_key, sequence
FROM (VALUES) AS wanted CROSS JOIN rainengine_records
WHERE tenant = wanted.column1 AND session_id = wanted.column2
AND idempotency_key = wanted.column3 AND kind = 'trigger'"""


@cache
def select_sessions(rows: int) -> str:
    """Read this many sessions' rows."""
    return _SESSIONS.replace("VALUES", _values(2, rows))


@cache
def select_keys(rows: int) -> str:
    """Find which of this many idempotency keys are triggers' already."""
    return _KEYS.replace("VALUES", _values(3, rows))


UPSERT_SNAPSHOT = """INSERT INTO rainengine_snapshots
(tenant, session_id, projection_version, sequence, hash, payload) VALUES (?, ?, ?, ?, ?, ?)
ON CONFLICT (tenant, session_id, projection_version) DO UPDATE
SET sequence = excluded.sequence, hash = excluded.hash, payload = excluded.payload
WHERE excluded.sequence >= sequence OR sequence >
(SELECT head FROM rainengine_sessions AS s
WHERE s.tenant = excluded.tenant AND s.session_id = excluded.session_id)"""
"""Keep a snapshot, unless a newer one of this history is there."""
