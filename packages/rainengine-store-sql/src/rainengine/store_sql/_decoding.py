"""Rows of a database into values, on the assumption that anything may stand in a broken one."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any, cast

from rainengine.core.abc import EncodedEntry, Lease, OutboxEntry, Snapshot
from rainengine.core.codec import decode, parse_json
from rainengine.core.errors import InadmissibleValue, LedgerCorrupt, LedgerError
from rainengine.core.records import Head, Record, StoredRecord
from rainengine.store_sql._rows import Key, SessionRow, Value

_OPTIONAL_TEXT = (str, type(None))
_ENTRY_TYPES: tuple[frozenset[type], ...] = (
    frozenset({int}),
    frozenset({str}),
    frozenset({int}),
    frozenset({int}),
    frozenset(_OPTIONAL_TEXT),
    frozenset(_OPTIONAL_TEXT),
    frozenset({str}),
    frozenset({bytes}),
)
"""Of sequence, kind, version, occurred_at_ms, trigger_id, idempotency_key, payload and hash."""

_SESSION_SHAPES = frozenset(
    (str, str, int, bytes, int, owner, int, str, agent, wake, int, int)
    for owner, agent, wake in product(_OPTIONAL_TEXT, _OPTIONAL_TEXT, (int, type(None)))
)
_LEASE_SHAPES = frozenset((owner, int, int, int, bytes) for owner in _OPTIONAL_TEXT)

Row = Sequence[Value]


def stored_records(session_id: str, after: int, rows: Sequence[Row]) -> list[StoredRecord]:
    """Decode a page of records. Raises `LedgerCorrupt`."""
    _check_entries(session_id, after, rows)
    return [
        StoredRecord(
            session_id=session_id,
            sequence=sequence,
            occurred_at_ms=occurred_at_ms,
            kind=kind,
            version=version,
            trigger_id=trigger_id,
            idempotency_key=idempotency_key,
            record=decoded(kind, version, payload),
            hash=digest,
        )
        for (
            sequence,
            kind,
            version,
            occurred_at_ms,
            trigger_id,
            idempotency_key,
            payload,
            digest,
        ) in cast("Sequence[Any]", rows)
    ]


def encoded_entries(session_id: str, after: int, rows: Sequence[Row]) -> list[EncodedEntry]:
    """Return a page of records as they were hashed. Raises `LedgerCorrupt`."""
    _check_entries(session_id, after, rows)
    return [
        EncodedEntry(
            sequence=row[0],
            kind=row[1],
            version=row[2],
            occurred_at_ms=row[3],
            trigger_id=row[4],
            idempotency_key=row[5],
            payload=row[6],
            hash=row[7],
        )
        for row in cast("Sequence[Any]", rows)
    ]


def _check_entries(session_id: str, after: int, rows: Sequence[Row]) -> None:
    """Look at the rows column by column, which takes a quarter of the time of row by row."""
    first = max(after, 0) + 1
    columns = zip(*rows, strict=True)
    for column, types in zip(columns, _ENTRY_TYPES, strict=False):
        if not types.issuperset(map(type, column)):
            raise _corrupt(session_id, f"among the records from {first} on, {column!r:.200}")
    for sequence, row in enumerate(rows, first):
        if row[0] != sequence:
            raise _corrupt(session_id, f"instead of record {sequence} there is {row!r:.200}")


def decoded(kind: str, version: int, payload: str) -> Record:
    """Decode a record. Raises `LedgerCorrupt`, whatever is wrong with it."""
    try:
        return decode(kind, version, payload)
    except LedgerError:
        raise
    except Exception as error:
        raise LedgerCorrupt(f"a record of kind {kind!r} cannot be read: {error}") from error


def session_row(key: Key, row: Row) -> SessionRow:
    """Return a session's row. Raises `LedgerCorrupt`."""
    if tuple(map(type, row)) not in _SESSION_SHAPES:
        raise _corrupt(key[1], f"its row in the index is {row!r:.300}")
    return SessionRow._make(cast("Any", row))


def head(session_id: str, row: Row) -> Head:
    """Return the head from sequence and hash. Raises `LedgerCorrupt`."""
    sequence, digest = row
    if type(sequence) is not int or type(digest) is not bytes:
        raise _corrupt(session_id, f"its head is {row!r:.200}")
    return Head(sequence, digest)


def lease(session_id: str, row: Row, now_ms: int) -> Lease:
    """Return the lease from owner, expiry, fence, sequence and hash. Raises `LedgerCorrupt`."""
    if tuple(map(type, row)) not in _LEASE_SHAPES:
        raise _corrupt(session_id, f"its lease is {row!r:.300}")
    owner, expires_at_ms, fence, sequence, digest = cast("Any", row)
    head = Head(sequence, digest)
    return Lease(owner=owner, expires_at_ms=expires_at_ms, fence=fence, head=head, now_ms=now_ms)


def snapshot(row: Row) -> Snapshot | None:
    """Return a snapshot, or None where what is stored is none: snapshots are disposable."""
    if tuple(map(type, row)) != (int, int, bytes, str):
        return None
    version, sequence, digest, payload = cast("Any", row)
    return Snapshot(projection_version=version, sequence=sequence, hash=digest, payload=payload)


def waiting(key: Key, row: Row) -> Sequence[Any]:
    """Return a row of the outbox, with when it is due and claimed until. Raises `LedgerCorrupt`."""
    *rest, claimed = map(type, row)
    if (*rest,) != (int, int, str, str, int, int, int) or claimed not in {int, type(None)}:
        raise _corrupt(key[1], f"in its outbox there is {row!r:.300}")
    return row


def outbox_entry(key: Key, row: Row) -> OutboxEntry:
    """Return a row of the outbox from sequence, ordinal, topic, payload, attempts and claims.

    Raises `LedgerCorrupt`.
    """
    if tuple(map(type, row)) != (int, int, str, str, int, int):
        raise _corrupt(key[1], f"in its outbox there is {row!r:.300}")
    sequence, ordinal, topic, payload, attempts, claims = cast("Any", row)
    try:
        value = parse_json(payload)
    except InadmissibleValue as error:
        raise _corrupt(key[1], f"row {sequence}/{ordinal} of its outbox: {error}") from error
    return OutboxEntry(
        tenant=key[0],
        session_id=key[1],
        sequence=sequence,
        ordinal=ordinal,
        topic=topic,
        payload=value,
        attempts=attempts,
        claim=claims,
    )


def _corrupt(session_id: str, what: str) -> LedgerCorrupt:
    return LedgerCorrupt(
        f"session {session_id!r} is damaged: {what}; restore it from a backup or an export"
    )
