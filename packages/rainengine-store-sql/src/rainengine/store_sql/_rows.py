"""Rows as the hot path handles them: plain tuples in column order, bound without conversion."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

from rainengine.core.codec import EncodedRecord, chain_hash, genesis_hash

Value: TypeAlias = str | int | float | bytes | None
"""What a driver takes and gives."""

Key: TypeAlias = tuple[str, str]
"""Tenant and session id."""


class RecordRow(NamedTuple):
    """A row of `rainengine_records`, in column order."""

    tenant: str
    session_id: str
    sequence: int
    kind: str
    version: int
    occurred_at_ms: int
    trigger_id: str | None
    idempotency_key: str | None
    payload: str
    hash: bytes


class SessionRow(NamedTuple):
    """A row of `rainengine_sessions`, in column order."""

    tenant: str
    session_id: str
    head: int
    hash: bytes
    fence: int
    lease_owner: str | None
    lease_expires_at_ms: int
    state: str
    agent: str | None
    wake_due_at_ms: int | None
    first_recorded_at_ms: int
    last_recorded_at_ms: int


class SnapshotRow(NamedTuple):
    """A row of `rainengine_snapshots`, in column order."""

    tenant: str
    session_id: str
    projection_version: int
    sequence: int
    hash: bytes
    payload: str


class OutboxRow(NamedTuple):
    """A row of `rainengine_outbox` as its append leaves it; the further columns begin as null."""

    tenant: str
    session_id: str
    sequence: int
    ordinal: int
    topic: str
    payload: str
    attempts: int
    due_at_ms: int


def absent(key: Key) -> SessionRow:
    """Return what stands for the row of a session that has none yet."""
    return SessionRow(*key, 0, genesis_hash(*key), 0, None, 0, "empty", None, None, 0, 0)


def chain(
    key: Key, sequence: int, digest: bytes, records: Sequence[EncodedRecord]
) -> list[RecordRow]:
    """Return the rows that put `records` behind the head with this sequence and hash."""
    tenant, session_id = key
    rows: list[RecordRow] = []
    for record in records:
        sequence += 1
        digest = chain_hash(digest, sequence, record)
        rows.append(
            RecordRow(
                tenant,
                session_id,
                sequence,
                record.kind,
                record.version,
                record.occurred_at_ms,
                record.trigger_id,
                record.idempotency_key,
                record.payload,
                digest,
            )
        )
    return rows
