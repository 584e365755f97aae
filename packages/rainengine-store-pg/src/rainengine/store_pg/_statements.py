"""SQL of the hot path: a whole batch is one statement, one round trip and one transaction.

Each change comes with the session's row as it was judged (`b_…`) and as it is to become (`a_…`).
`locked` takes the rows that still are what they were, and never waits: batches of several
processes cannot deadlock, and a session that somebody else is busy with holds up no other.
`born` inserts new sessions, and waits where another process is inserting the same one; it goes
by their keys, so that nobody waits in a circle.
Only what either has got is written; the rest is told by its absence.

A trigger's key is looked up in the same snapshot as the head. Where that head is still the one
that the append was judged by, the snapshot holds all of the session's records, so the key is new.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

from rainengine.store_pg._arrays import Bigints, Byteas, Integers, Texts

NOW = "(extract(epoch FROM clock_timestamp()) * 1000)::bigint"
"""The database's wall clock, in milliseconds."""

_ROW = (
    ("head", "bigint"),
    ("hash", "bytea"),
    ("fence", "bigint"),
    ("lease_owner", "text"),
    ("lease_expires_at_ms", "bigint"),
    ("state", "text"),
    ("agent", "text"),
    ("wake_due_at_ms", "bigint"),
    ("first_recorded_at_ms", "bigint"),
    ("last_recorded_at_ms", "bigint"),
)
"""A session's columns behind its key, in the order of `SessionRow`."""

BEFORE = 5
"""The first so many of them say whether a row is still the one that an append was judged by."""

_RECORD = (
    ("sequence", "bigint"),
    ("kind", "text"),
    ("version", "integer"),
    ("occurred_at_ms", "bigint"),
    ("trigger_id", "text"),
    ("idempotency_key", "text"),
    ("payload", "text"),
    ("hash", "bytea"),
)
_OUTBOX = (
    ("sequence", "bigint"),
    ("ordinal", "integer"),
    ("topic", "text"),
    ("payload", "text"),
    ("attempts", "integer"),
    ("due_at_ms", "bigint"),
)
_KEY = (("tenant", "text"), ("session_id", "text"))
_NUMBER = (("n", "integer"),)

Columns = tuple[tuple[str, str], ...]


def _names(columns: Columns, prefix: str = "") -> str:
    return ", ".join(prefix + name for name, _ in columns)


def _unnest(columns: Columns, alias: str) -> str:
    arrays = ", ".join(f"%s::{kind}[]" for _, kind in columns)
    return f"unnest({arrays}) AS {alias}({_names(columns)})"


def _prefixed(columns: Columns, prefix: str) -> Columns:
    return tuple((prefix + name, kind) for name, kind in columns)


_MOVED = (*_NUMBER, *_KEY, *_prefixed(_ROW[:BEFORE], "b_"), *_prefixed(_ROW, "a_"))
_KEYED = (*_NUMBER, ("key", "text"))
_BORN = (*_NUMBER, *_KEY, *_ROW)
_SNAPSHOT = (
    *_KEY,
    ("projection_version", "bigint"),
    ("sequence", "bigint"),
    ("hash", "bytea"),
    ("payload", "text"),
)


@cache
def store_changes(*, moved: bool, born: bool, keyed: bool, outbox: bool) -> bytes:
    """Return the statement that stores changes and returns the numbers of those it has got.

    Parameters are arrays, a column each: with `moved` number, key, row before and row after of
    known sessions; with `keyed` number and key of the triggers among them; with `born` number,
    key and row of new ones; then number and columns of the records; with `outbox` of its rows.
    Every row that is returned has the database's time beside its number.
    """
    parts = [
        *(_moved_parts(keyed=keyed) if moved else ()),
        *(_born_parts() if born else ()),
        _got(moved=moved, born=born),
        _insertion("written", "records", _RECORD),
        *([_insertion("sent", "outbox", _OUTBOX)] if outbox else ()),
    ]
    return f"WITH {', '.join(parts)} SELECT n, {NOW} FROM got".encode()


def moved_columns(rows: Sequence[tuple[Any, ...]]) -> list[bytes]:
    """Encode known sessions: number, key, what is compared of the row before, the row after."""
    return _encoded(_MOVED, rows)


def keyed_columns(rows: Sequence[tuple[Any, ...]]) -> list[bytes]:
    """Encode triggers' keys: number of the change, key."""
    return _encoded(_KEYED, rows)


def born_columns(rows: Sequence[tuple[Any, ...]]) -> list[bytes]:
    """Encode new sessions: number, row."""
    return _encoded(_BORN, rows)


def record_columns(rows: Sequence[tuple[Any, ...]]) -> list[bytes]:
    """Encode records: number of the change, then the row behind its key."""
    return _encoded((*_NUMBER, *_RECORD), rows)


def outbox_columns(rows: Sequence[tuple[Any, ...]]) -> list[bytes]:
    """Encode rows of the outbox: number of the change, then the row behind its key."""
    return _encoded((*_NUMBER, *_OUTBOX), rows)


def key_columns(keys: Sequence[tuple[str, str]]) -> list[bytes]:
    """Encode keys of sessions."""
    return _encoded(_KEY, keys)


def snapshot_columns(rows: Sequence[tuple[Any, ...]]) -> list[bytes]:
    """Encode snapshots."""
    return _encoded(_SNAPSHOT, rows)


_ENCODERS: dict[str, Callable[[Sequence[Any]], bytes]] = {
    "text": Texts.of,
    "bytea": Byteas.of,
    "integer": Integers.of,
    "bigint": Bigints.of,
}


def _encoded(columns: Columns, rows: Sequence[tuple[Any, ...]]) -> list[bytes]:
    values = zip(*rows, strict=True) if rows else ((),) * len(columns)
    return [_ENCODERS[kind](column) for (_, kind), column in zip(columns, values, strict=True)]


def _moved_parts(*, keyed: bool) -> tuple[str, ...]:
    same = " AND ".join(f"s.{name} IS NOT DISTINCT FROM w.b_{name}" for name, _ in _ROW[:BEFORE])
    keys = f"keys AS (SELECT * FROM {_unnest(_KEYED, 'k')}),"
    # A scalar subquery is never turned into a join, which could read all keys of the session.
    fresh = """AND NOT EXISTS (SELECT FROM keys AS k WHERE k.n = w.n
        AND (SELECT r.sequence FROM rainengine_records AS r
        WHERE r.tenant = w.tenant AND r.session_id = w.session_id
        AND r.idempotency_key = k.key AND r.kind = 'trigger') IS NOT NULL)"""
    sets = ", ".join(f"{name} = l.a_{name}" for name, _ in _ROW)
    return (
        f"{keys if keyed else ''} wanted AS (SELECT * FROM {_unnest(_MOVED, 'w')})",
        # LATERAL with a lock: each row is looked up by its key, whatever the planner believes.
        f"""locked AS (SELECT w.* FROM wanted AS w CROSS JOIN LATERAL (
        SELECT FROM rainengine_sessions AS s
        WHERE s.tenant = w.tenant AND s.session_id = w.session_id AND {same}
        {fresh if keyed else ""}
        LIMIT 1 FOR NO KEY UPDATE OF s SKIP LOCKED) AS s)""",
        f"""moved AS (UPDATE rainengine_sessions AS s SET {sets} FROM locked AS l
        WHERE s.tenant = l.tenant AND s.session_id = l.session_id
        RETURNING l.n, s.tenant, s.session_id)""",
    )


def _born_parts() -> tuple[str, ...]:
    columns = (*_KEY, *_ROW)
    return (
        f"new AS (SELECT * FROM {_unnest(_BORN, 'b')})",
        f"""born AS (INSERT INTO rainengine_sessions ({_names(columns)})
        SELECT {_names(columns)} FROM new ORDER BY tenant COLLATE "C", session_id COLLATE "C"
        ON CONFLICT (tenant, session_id) DO NOTHING RETURNING tenant, session_id)""",
    )


def _got(*, moved: bool, born: bool) -> str:
    parts: list[str] = []
    if moved:
        parts.append("SELECT n, tenant, session_id FROM moved")
    if born:
        parts.append(
            "SELECT new.n, tenant, session_id FROM born JOIN new USING (tenant, session_id)"
        )
    return f"got AS ({' UNION ALL '.join(parts)})"


def _insertion(name: str, table: str, columns: Columns) -> str:
    return f"""{name} AS (INSERT INTO rainengine_{table} (tenant, session_id, {_names(columns)})
    SELECT got.tenant, got.session_id, {_names(columns, "t.")}
    FROM {_unnest((*_NUMBER, *columns), "t")} JOIN got USING (n))"""


_SESSION = f"s.tenant, s.session_id, {_names(_ROW, 's.')}"

SELECT_SESSIONS = f"""SELECT {_SESSION} FROM {_unnest(_KEY, "w")}
JOIN rainengine_sessions AS s ON s.tenant = w.tenant AND s.session_id = w.session_id""".encode()
"""Read sessions' rows, by arrays of tenants and session ids."""

LOCK_SESSION = f"""SELECT {_SESSION} FROM rainengine_sessions AS s
WHERE tenant = %s AND session_id = %s FOR NO KEY UPDATE""".encode()
"""Read one session's row and keep it from changing until the transaction is over."""

SELECT_KEYS = b"""SELECT idempotency_key, sequence FROM rainengine_records
WHERE tenant = %s AND session_id = %s AND idempotency_key = ANY(%s::text[]) AND kind = 'trigger'"""
"""Find which of a session's triggers have these keys."""

SELECT_NOW = f"SELECT {NOW}".encode()

UPSERT_SNAPSHOTS = f"""INSERT INTO rainengine_snapshots AS kept
(tenant, session_id, projection_version, sequence, hash, payload)
SELECT * FROM {_unnest(_SNAPSHOT, "t")}
ORDER BY tenant COLLATE "C", session_id COLLATE "C", projection_version
ON CONFLICT (tenant, session_id, projection_version) DO UPDATE
SET sequence = excluded.sequence, hash = excluded.hash, payload = excluded.payload
WHERE excluded.sequence >= kept.sequence OR kept.sequence >
(SELECT head FROM rainengine_sessions AS s
WHERE s.tenant = excluded.tenant AND s.session_id = excluded.session_id)""".encode()
"""Keep snapshots, unless newer ones of the same history are there."""
