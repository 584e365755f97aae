"""Checking that a session's history is what was written, and means what its snapshot says.

The chain of hashes shows an edit, a gap or a swap anywhere in the history.
A tail that was cut off, with head and snapshot set back to match, shows only against a copy of
the head that was kept elsewhere: pass it as `anchor`.
"""

from __future__ import annotations

import attrs

from rainengine.core import codec
from rainengine.core.abc import EncodedEntry, EncodedRecords, Ledger, Snapshot, Snapshots
from rainengine.core.errors import LedgerCorrupt, SessionNotFound, UsageError
from rainengine.core.projection import PROJECTION_VERSION, SessionProjection, fold
from rainengine.core.records import Head, StoredRecord

_PAGE = 1000


@attrs.frozen(kw_only=True)
class Verification:
    """The answer: how many records fit, and the first that does not, with the reason."""

    session_id: str
    ok: bool
    records: int
    head: Head
    first_bad: int | None = None
    reason: str | None = None


class _Broken(Exception):
    def __init__(self, sequence: int, reason: str) -> None:
        super().__init__(reason)
        self.sequence = sequence
        self.reason = reason


async def verify_session(
    ledger: Ledger, session_id: str, *, anchor: Head | None = None
) -> Verification:
    """Read a session from its start and check chain, decoding, folding, snapshot and head.

    `anchor` is a head that was noted earlier, in another place; the history has to contain it.
    Raises `SessionNotFound`, and `UsageError` where the ledger cannot show its encoded records.
    """
    if not isinstance(ledger, EncodedRecords):
        raise UsageError(f"{type(ledger).__name__} cannot show its encoded records")
    snapshot = await _snapshot(ledger, session_id)
    # In this order: what is appended from here on is none of this answer's business.
    stored = await _head(ledger, session_id)
    checked = _Checked(ledger.tenant, session_id, anchor, snapshot)
    try:
        while checked.head.sequence < stored.sequence:
            page = await ledger.read_encoded(session_id, after=checked.head.sequence, limit=_PAGE)
            for entry in page[: stored.sequence - checked.head.sequence]:
                checked.take(entry)
            if not page:
                break
        checked.end_at(stored)
    except _Broken as broken:
        return Verification(
            session_id=session_id,
            ok=False,
            records=checked.head.sequence,
            head=checked.head,
            first_bad=broken.sequence,
            reason=broken.reason,
        )
    return Verification(
        session_id=session_id, ok=True, records=checked.head.sequence, head=checked.head
    )


async def _head(ledger: Ledger, session_id: str) -> Head:
    """The head to be verified. A session that has records has a head above 0."""
    head = await ledger.head(session_id)
    if head.sequence == 0:
        if not await ledger.read(session_id, limit=1):
            raise SessionNotFound(session_id)
        head = await ledger.head(session_id)  # its first append may have come in between
    return head


async def _snapshot(ledger: Ledger, session_id: str) -> Snapshot | None:
    if not isinstance(ledger, Snapshots):
        return None
    return await ledger.load_snapshot(session_id, PROJECTION_VERSION)


@attrs.define(eq=False)
class _Checked:
    """What has been read so far and found to be in order."""

    tenant: str
    session_id: str
    anchor: Head | None
    snapshot: Snapshot | None
    projection: SessionProjection = attrs.field(factory=SessionProjection)
    head: Head = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.head = Head(0, codec.genesis_hash(self.tenant, self.session_id))

    def take(self, entry: EncodedEntry) -> None:
        sequence = self.head.sequence + 1
        if entry.sequence != sequence:
            raise _Broken(sequence, f"is missing: the next one is {entry.sequence}")
        encoded = codec.EncodedRecord(
            kind=entry.kind,
            version=entry.version,
            payload=entry.payload,
            occurred_at_ms=entry.occurred_at_ms,
            trigger_id=entry.trigger_id,
            idempotency_key=entry.idempotency_key,
        )
        if codec.chain_hash(self.head.hash, sequence, encoded) != entry.hash:
            raise _Broken(sequence, "does not have the hash that its content and place give")
        self._fold(entry)
        self.head = Head(sequence, entry.hash)
        self._check_marks()

    def _fold(self, entry: EncodedEntry) -> None:
        try:
            record = codec.decode(entry.kind, entry.version, entry.payload)
        except LedgerCorrupt as error:
            raise _Broken(entry.sequence, str(error)) from error
        stored = StoredRecord(
            session_id=self.session_id,
            sequence=entry.sequence,
            occurred_at_ms=entry.occurred_at_ms,
            kind=entry.kind,
            version=entry.version,
            trigger_id=entry.trigger_id,
            idempotency_key=entry.idempotency_key,
            record=record,
            hash=entry.hash,
        )
        fold(self.projection, entry.sequence, stored)

    def _check_marks(self) -> None:
        sequence = self.head.sequence
        if self.anchor is not None and self.anchor.sequence == sequence:
            if self.anchor != self.head:
                raise _Broken(sequence, "is not the record that the anchor was taken of")
            self.anchor = None
        snapshot = self.snapshot
        if snapshot is not None and snapshot.sequence == sequence:
            if snapshot.hash != self.head.hash or not self._agrees(snapshot):
                raise _Broken(sequence, "the snapshot taken here differs from a replay")
            self.snapshot = None

    def _agrees(self, snapshot: Snapshot) -> bool:
        try:
            return codec.restore_projection(snapshot) == self.projection
        except LedgerCorrupt:
            return False

    def end_at(self, stored: Head) -> None:
        sequence = self.head.sequence
        if stored != self.head or not sequence:
            raise _Broken(sequence + 1, f"the session's head is {stored.sequence}, not {sequence}")
        if self.anchor is not None:
            raise _Broken(sequence + 1, f"is missing: the anchor is at {self.anchor.sequence}")
        if self.snapshot is not None:
            raise _Broken(sequence + 1, f"is missing: the snapshot is at {self.snapshot.sequence}")
