"""What is read, given a connection; runs in a worker thread."""

from __future__ import annotations

from typing import cast

from rainengine.core.abc import EncodedEntry, Lease, SessionPage, SessionQuery, Snapshot
from rainengine.core.codec import genesis_hash
from rainengine.core.records import Head, OutcomeRecord, StoredRecord, TriggerRecord
from rainengine.store_sql import _decoding as decoding
from rainengine.store_sql._dialect import Connection
from rainengine.store_sql._rows import Key, Value
from rainengine.store_sql._statements import Statements

_LARGEST = 2**63 - 1


def records(
    connection: Connection, *, sql: Statements, key: Key, after: int, limit: int
) -> list[StoredRecord]:
    """Return a page of a session's records, decoded."""
    rows = connection.execute(sql.read, _page(key, after, limit)).fetchall()
    return decoding.stored_records(key[1], after, rows)


def entries(
    connection: Connection, *, sql: Statements, key: Key, after: int, limit: int
) -> list[EncodedEntry]:
    """Return a page of a session's records as they were hashed."""
    rows = connection.execute(sql.read, _page(key, after, limit)).fetchall()
    return decoding.encoded_entries(key[1], after, rows)


def _page(key: Key, after: int, limit: int) -> tuple[Value, ...]:
    return *key, min(max(after, 0), _LARGEST), min(max(limit, 0), _LARGEST)


def head(connection: Connection, *, sql: Statements, key: Key) -> Head:
    """Return a session's head."""
    row = connection.execute(sql.head, key).fetchone()
    return _genesis(key) if row is None else decoding.head(key[1], row)


def lease(connection: Connection, *, sql: Statements, key: Key, now_ms: int) -> Lease:
    """Return a session's lease with its head."""
    row = connection.execute(sql.lease, key).fetchone()
    if row is None:
        return Lease(owner=None, expires_at_ms=0, fence=0, head=_genesis(key), now_ms=now_ms)
    return decoding.lease(key[1], row, now_ms)


def _genesis(key: Key) -> Head:
    return Head(0, genesis_hash(*key))


def outcome(
    connection: Connection, *, sql: Statements, key: Key, idempotency_key: str
) -> OutcomeRecord | None:
    """Return the newest outcome of the run that a trigger began or resumed."""
    trigger_row = connection.execute(sql.trigger, (*key, idempotency_key)).fetchone()
    if trigger_row is None:
        return None
    begun, version, payload = cast("tuple[int, int, str]", trigger_row)
    trigger = decoding.decoded(TriggerRecord.kind, version, payload)
    if not isinstance(trigger, TriggerRecord):
        return None
    outcome_row = _outcome_row(connection, sql, key, trigger)
    if outcome_row is None:
        return None
    ended, version, payload = cast("tuple[int, int, str]", outcome_row)
    if ended < begun:  # the run had been paused before this trigger resumed it
        return None
    found = decoding.decoded(OutcomeRecord.kind, version, payload)
    return found if isinstance(found, OutcomeRecord) else None


def _outcome_row(
    connection: Connection, sql: Statements, key: Key, trigger: TriggerRecord
) -> object:
    own = connection.execute(sql.outcome, (*key, trigger.trigger_id)).fetchone()
    if own is not None or trigger.resumes is None:  # an answer that came too late has its own
        return own
    return connection.execute(sql.outcome, (*key, trigger.resumes)).fetchone()


def snapshot(connection: Connection, *, sql: Statements, key: Key, version: int) -> Snapshot | None:
    """Return the newest snapshot of a version."""
    row = connection.execute(sql.snapshot, (*key, version)).fetchone()
    return None if row is None else decoding.snapshot(row)


def sessions(
    connection: Connection, *, sql: Statements, tenant: str, query: SessionQuery
) -> SessionPage:
    """Return a page of a tenant's sessions."""
    # Filters vary, so SQLAlchemy writes this one; importing it takes half a second.
    from rainengine.store_sql._listing import list_sessions

    return list_sessions(connection, sql.placeholder, tenant, query)
