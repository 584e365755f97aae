"""One session's rows, and how an append is refused or applied.

Nothing in here awaits, so an append happens whole or not at all.
Records are kept as they were encoded: what a SQL store would refuse is refused here too,
and reading decodes anew, so that a value that does not survive its round trip cannot hide.
They are kept as plain tuples, which the garbage collector does not track once it saw that they
hold text and numbers only; objects made collections slow enough to double an append's cost.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import attrs

from rainengine.core.abc import (
    Appended,
    EncodedEntry,
    Lease,
    LeaseChange,
    SessionIndex,
    SessionInfo,
    Snapshot,
    WorkKind,
)
from rainengine.core.codec import EncodedAppend, EncodedRecord, chain_hash, decode
from rainengine.core.errors import FenceLost
from rainengine.core.inmemory._outbox import Deliveries, OutboxRow
from rainengine.core.judging import Standing, claims_of, is_intake, refusal
from rainengine.core.records import (
    Head,
    OutcomeRecord,
    StoredRecord,
    TriggerRecord,
)

Row: TypeAlias = tuple[str, int, str, int, str | None, str | None]
"""Kind, version, payload, time of occurrence, trigger id and idempotency key."""

EMPTY = SessionIndex(state="empty")


@attrs.define(eq=False)
class Session:
    """The rows of one session. `rows[n - 1]` and `hashes[n - 1]` belong to sequence n."""

    session_id: str
    head: Head
    rows: list[Row] = attrs.field(factory=list[Row])
    hashes: list[bytes] = attrs.field(factory=list[bytes])
    index: SessionIndex = EMPTY
    owner: str | None = None
    expires_at_ms: int = 0
    fence: int = 0
    trigger_sequences: dict[str, int] = attrs.field(factory=dict[str, int])
    outcome_sequences: dict[str, int] = attrs.field(factory=dict[str, int])
    snapshots: dict[int, Snapshot] = attrs.field(factory=dict[int, Snapshot])
    outbox: Deliveries = attrs.field(factory=Deliveries)

    def refuse(
        self,
        records: Sequence[EncodedRecord],
        *,
        expected: Head | None,
        fence: int | None,
        lease: LeaseChange | None,
        now_ms: int,
    ) -> None:
        """Raise the first error of `Ledger.append` that applies, in the order given there."""
        head = self.head
        refused = refusal(
            Standing(
                self.session_id,
                head.sequence,
                head.hash,
                self.owner,
                self.expires_at_ms,
                self.fence,
            ),
            claims=claims_of(records),
            claimed=self.trigger_sequences,
            intake=is_intake(records),
            expected=expected,
            fence=fence,
            lease=lease,
            now_ms=now_ms,
        )
        if refused is not None:
            raise refused

    def apply(
        self,
        batch: EncodedAppend,
        *,
        lease: LeaseChange | None,
        index: SessionIndex | None,
        now_ms: int,
    ) -> Appended:
        """Store what `refuse` let pass."""
        first = self.head.sequence + 1
        self._chain(batch.records)
        if lease is not None:
            self._change_lease(lease, now_ms)
        if index is not None:
            self.index = _merged(self.index, index)
        for ordinal, (topic, payload) in enumerate(batch.outbox):
            row = OutboxRow(
                session_id=self.session_id,
                sequence=self.head.sequence,
                ordinal=ordinal,
                topic=topic,
                payload=payload,
            )
            self.outbox.add(row, now_ms)
        return Appended(head=self.head, first_sequence=first, fence=self.fence)

    def _chain(self, records: list[EncodedRecord]) -> None:
        if not records:
            return
        sequence, digest = self.head.sequence, self.head.hash
        for record in records:
            sequence += 1
            digest = chain_hash(digest, sequence, record)
            self.hashes.append(digest)
            if record.kind == TriggerRecord.kind and record.idempotency_key is not None:
                self.trigger_sequences[record.idempotency_key] = sequence
            elif record.kind == OutcomeRecord.kind and record.trigger_id is not None:
                self.outcome_sequences[record.trigger_id] = sequence
        self.rows += [_row(record) for record in records]
        self.head = Head(sequence, digest)

    def _change_lease(self, lease: LeaseChange, now_ms: int) -> None:
        if lease.action == "free":
            self.owner, self.expires_at_ms = None, 0
            return
        self.owner, self.expires_at_ms = lease.owner, now_ms + lease.ttl_ms
        if lease.action == "take":
            self.fence += 1

    def heartbeat(self, *, owner: str, fence: int, expires_at_ms: int) -> Head:
        """Extend the lease, or raise `FenceLost`."""
        if (owner, fence) != (self.owner, self.fence):
            raise FenceLost(self.session_id, fence, self.fence)
        self.expires_at_ms = expires_at_ms
        return self.head

    def release(self, *, owner: str, fence: int) -> None:
        """Free the lease where it is still this owner's."""
        if (owner, fence) == (self.owner, self.fence):
            self.owner, self.expires_at_ms = None, 0

    def is_due(self, kind: WorkKind, now_ms: int) -> bool:
        """Whether there is work of this kind in the session."""
        if kind == "outbox":
            return self.outbox.is_due(now_ms)
        if kind == "wake":
            return self.index.wake_due_at_ms is not None and self.index.wake_due_at_ms <= now_ms
        held = self.owner is not None and self.expires_at_ms > now_ms
        return self.index.state == "running" and not held

    def lease(self, now_ms: int) -> Lease:
        """The lease as it stands, expired or not."""
        return Lease(
            owner=self.owner,
            expires_at_ms=self.expires_at_ms,
            fence=self.fence,
            head=self.head,
            now_ms=now_ms,
        )

    def info(self) -> SessionInfo:
        """The session's line in a listing."""
        times = [self.rows[end][3] for end in (0, -1)] if self.rows else [0, 0]
        return SessionInfo(
            session_id=self.session_id,
            head=self.head,
            state=self.index.state,
            agent=self.index.agent,
            wake_due_at_ms=self.index.wake_due_at_ms,
            lease_owner=self.owner,
            lease_expires_at_ms=self.expires_at_ms,
            fence=self.fence,
            first_recorded_at_ms=times[0],
            last_recorded_at_ms=times[1],
        )

    def stored(self, sequence: int) -> StoredRecord:
        """Decode the record with this sequence."""
        kind, version, payload, occurred_at_ms, trigger_id, key = self.rows[sequence - 1]
        return StoredRecord(
            session_id=self.session_id,
            sequence=sequence,
            occurred_at_ms=occurred_at_ms,
            kind=kind,
            version=version,
            trigger_id=trigger_id,
            idempotency_key=key,
            record=decode(kind, version, payload),
            hash=self.hashes[sequence - 1],
        )

    def encoded(self, sequence: int) -> EncodedEntry:
        """Return the record with this sequence as it was hashed."""
        kind, version, payload, occurred_at_ms, trigger_id, key = self.rows[sequence - 1]
        return EncodedEntry(
            sequence=sequence,
            kind=kind,
            version=version,
            occurred_at_ms=occurred_at_ms,
            trigger_id=trigger_id,
            idempotency_key=key,
            payload=payload,
            hash=self.hashes[sequence - 1],
        )

    def page(self, after: int, limit: int) -> range:
        """The sequences of a page of records."""
        start = max(after, 0) + 1
        return range(start, min(start + max(limit, 0), self.head.sequence + 1))

    def outcome(self, idempotency_key: str) -> OutcomeRecord | None:
        """The newest outcome of the run that the trigger with this key began or resumed."""
        begun = self.trigger_sequences.get(idempotency_key)
        if begun is None:
            return None
        trigger = self.stored(begun).record
        if not isinstance(trigger, TriggerRecord):
            return None
        # An answer that came too late has an outcome of its own.
        runs = (trigger.trigger_id, trigger.resumes or trigger.trigger_id)
        ended = next((self.outcome_sequences[r] for r in runs if r in self.outcome_sequences), 0)
        if ended < begun:  # the run was paused before this trigger resumed it
            return None
        outcome = self.stored(ended).record
        return outcome if isinstance(outcome, OutcomeRecord) else None


def _merged(old: SessionIndex, new: SessionIndex) -> SessionIndex:
    wake = old.wake_due_at_ms if new.wake_due_at_ms is None else new.wake_due_at_ms or None
    agent = old.agent if new.agent is None else new.agent
    return SessionIndex(state=new.state, agent=agent, wake_due_at_ms=wake)


def _row(record: EncodedRecord) -> Row:
    return (
        record.kind,
        record.version,
        record.payload,
        record.occurred_at_ms,
        record.trigger_id,
        record.idempotency_key,
    )
