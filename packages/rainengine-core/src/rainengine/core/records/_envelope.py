"""Records on their way into the ledger and as they come out of it."""

from __future__ import annotations

from typing import ClassVar

import attrs

from rainengine.core.records._base import Record


@attrs.frozen
class Head:
    """How far a session has come: the newest sequence and the hash of its record.

    The hash tells apart two histories that reached the same number.
    """

    sequence: int
    hash: bytes


@attrs.frozen
class NewRecord:
    """A record to be appended. `occurred_at_ms` is Unix time in milliseconds."""

    record: Record
    occurred_at_ms: int
    trigger_id: str | None = None
    idempotency_key: str | None = None


@attrs.frozen(kw_only=True)
class StoredRecord:
    """A record as the ledger holds it. Sequences count from 1 in each session, without gaps."""

    session_id: str
    sequence: int
    occurred_at_ms: int
    kind: str
    version: int
    trigger_id: str | None
    idempotency_key: str | None
    record: Record
    hash: bytes


@attrs.frozen(kw_only=True)
class UnknownRecord(Record):
    """A record of a kind or version that this release does not know; it survives unchanged."""

    kind: ClassVar[str] = "unknown"
    stored_kind: str
    stored_version: int
    payload: str
