"""One session as an engine holds it: its projection, its head, its lease.

Rules:

- The projection is folded only from what the ledger has stored.
- After any failed append nothing is assumed: the session is `stale` and has to be loaded again.
- While the lease is held, only intake (triggers, cancel requests) can come in between; the
  batch is then appended again at the new head, so a result once obtained is never dropped.
- While it is not held, anything may have happened: `Outdated` says that the projection was
  brought up to date and the decision has to be made anew.
"""

from __future__ import annotations

from collections.abc import Sequence

import attrs
import trio

from rainengine.core import codec
from rainengine.core.abc import (
    INTAKE_KINDS,
    Appended,
    Clock,
    Lease,
    LeaseChange,
    SessionLeases,
)
from rainengine.core.engine._deltas import events_in, index_after
from rainengine.core.engine._ledgers import Backing
from rainengine.core.errors import (
    DuplicateTrigger,
    FenceLost,
    InadmissibleValue,
    LeaseHeld,
    LedgerCorrupt,
    LedgerUnavailable,
    SequenceConflict,
)
from rainengine.core.projection import PROJECTION_VERSION, SessionProjection, fold
from rainengine.core.records import (
    CoordinationClaim,
    Head,
    KernelEvent,
    NewRecord,
    OutcomeRecord,
    Record,
    StoredRecord,
    TriggerRecord,
)

PAGE = 1000
SNAPSHOT_WHEN_BUSY = 500
SNAPSHOT_WHEN_IDLE = 100


class Outdated(Exception):
    """Somebody else moved the session; it was loaded again and has to be looked at anew."""


@attrs.frozen(kw_only=True)
class Holder:
    """Who holds sessions, and for how long at a time."""

    owner: str
    ttl_ms: int


@attrs.define(kw_only=True, eq=False)
class OpenSession:
    """A session in this engine's memory; whoever uses it has the session's lock."""

    backing: Backing
    session_id: str
    holder: Holder
    clock: Clock
    head: Head
    projection: SessionProjection = attrs.field(factory=SessionProjection)
    fence: int | None = None
    holding: bool = False
    stale: bool = False
    assumed_new: bool = False
    lease: Lease | None = None
    snapshot_sequence: int = 0
    emitted: list[KernelEvent] = attrs.field(factory=list[KernelEvent])
    extended_at_ms: int = 0
    told_of_news: bool = False
    _appending: bool = attrs.field(default=False, init=False)

    # Loading.

    @classmethod
    async def load(
        cls, backing: Backing, session_id: str, holder: Holder, clock: Clock
    ) -> OpenSession:
        """Load the session from its newest snapshot and the records after it."""
        head = Head(0, codec.genesis_hash(backing.ledger.tenant, session_id))
        session = cls(backing=backing, session_id=session_id, holder=holder, clock=clock, head=head)
        blank = attrs.evolve(session, projection=SessionProjection(), emitted=[])
        await session._take_snapshot()
        if await session.refresh():
            return session
        await blank.refresh()
        return blank

    @classmethod
    def assume_new(
        cls, backing: Backing, session_id: str, holder: Holder, clock: Clock
    ) -> OpenSession:
        """Take the session for a new one without reading: its first append finds out.

        Good for triggers, which mostly come to new sessions or to those in memory.
        """
        head = Head(0, codec.genesis_hash(backing.ledger.tenant, session_id))
        return cls(
            backing=backing,
            session_id=session_id,
            holder=holder,
            clock=clock,
            head=head,
            assumed_new=True,
        )

    async def _take_snapshot(self) -> None:
        snapshots = self.backing.snapshots
        if snapshots is None:
            return
        try:
            snapshot = await snapshots.load_snapshot(self.session_id, PROJECTION_VERSION)
            if snapshot is None:
                return
            self.projection = codec.restore_projection(snapshot)
        except LedgerCorrupt:
            return  # a snapshot is disposable; the records are the truth
        self.head = Head(snapshot.sequence, snapshot.hash)
        self.snapshot_sequence = snapshot.sequence

    async def refresh(self) -> bool:
        """Take in what others appended, and learn who holds the session.

        False means that the ledger holds another history than the one known here
        (it was erased, or restored): the session has to be loaded from its start.
        """
        self.told_of_news = False
        if await self._read_lease() == self.head:
            return True
        if not await self._read_tail():
            return False
        await self._check_head()
        return True

    async def _read_lease(self) -> Head | None:
        """Learn who holds the session; return the head that goes with it."""
        if self.backing.leases is None:
            return None
        self.lease = await self.backing.leases.lease_of(self.session_id)
        self.holding = self.holding and self.fence == self.lease.fence
        self.fence = self.lease.fence
        return self.lease.head

    async def _check_head(self) -> None:
        """Raise `LedgerCorrupt` where the session's row and its records cannot both be right.

        A head is stored together with its records: those behind it must be there, and it must
        not be behind those that are. Without this, whoever appends would be refused for ever.
        """
        head = None if self.lease is None else self.lease.head
        if head is not None and head.sequence < self.head.sequence:
            head = await self._read_lease()  # others may have appended in between
        if head is None or head == self.head:
            return
        if head.sequence <= self.head.sequence or not await self._more_records():
            raise LedgerCorrupt(
                f"session {self.session_id!r} has its head at {head.sequence} and its last record"
                f" at {self.head.sequence}: verify it, and restore it from a backup or an export"
            )

    async def _more_records(self) -> bool:
        before = self.head.sequence
        for record in await self._read_from(before):
            self._take_in(record)
        return self.head.sequence > before

    async def _read_tail(self) -> bool:
        known = self.head.sequence
        tail = await self._read_from(max(known - 1, 0))
        if known:
            if not tail or tail[0].sequence != known or tail[0].hash != self.head.hash:
                self.stale = True
                return False
            del tail[0]
        for record in tail:
            self._take_in(record)
        return True

    def may_be_behind(self) -> bool:
        """Whether others may have appended without this having been noticed.

        A holder learns of intake with its next append, so that steps that follow each other
        closely need no reading. After a pause, or when told of news, it looks first.
        """
        pause_ms = self.clock.now_ms() - self.extended_at_ms
        return not self.holding or self.told_of_news or not 0 <= pause_ms < self.beat_ms

    @property
    def beat_ms(self) -> int:
        """How often the lease is extended."""
        return max(self.holder.ttl_ms // 3, 1)

    async def _read_from(self, after: int) -> list[StoredRecord]:
        records: list[StoredRecord] = []
        while True:
            page = await self.backing.ledger.read(self.session_id, after=after, limit=PAGE)
            records += page
            if len(page) < PAGE:
                return records
            after = page[-1].sequence

    def _take_in(self, record: StoredRecord) -> None:
        try:
            fold(self.projection, record.sequence, record)
        except (LookupError, ValueError, TypeError, AttributeError) as error:
            self.stale = True
            raise LedgerCorrupt(
                f"record {record.sequence} of session {self.session_id!r} does not fit those"
                " before it: verify the session, and restore it from a backup or an export"
            ) from error
        self.head = Head(record.sequence, record.hash)

    # Appending.

    async def commit(
        self,
        records: Sequence[Record],
        *,
        trigger_id: str | None = None,
        idempotency_key: str | None = None,
    ) -> None:
        """Append records as one batch, taking or extending the lease, and fold them.

        `trigger_id` and `idempotency_key` are those of a trigger among the records;
        other records belong to the active run. Raises what `Ledger.append` raises, and `Outdated`.
        """
        batch = self._with_claim(records)
        run = self.projection.run
        owner_id = trigger_id or (None if run is None else run.trigger_id)
        outcome_key = None if run is None else run.idempotency_key
        now_ms = self.clock.now_ms()
        new = [
            NewRecord(record, now_ms, owner_id, _key_of(record, idempotency_key, outcome_key))
            for record in batch
        ]
        self._appending = True
        try:
            appended = await self._append(new, batch)
        except DuplicateTrigger as duplicate:
            if self.assumed_new:
                raise Outdated from duplicate
            raise
        except (InadmissibleValue, LeaseHeld, Outdated):
            raise  # nothing was stored, and what is known here still holds
        except BaseException:
            self.stale = True
            raise
        finally:
            self._appending = False
        for sequence, entry in enumerate(new, start=appended.first_sequence):
            fold(self.projection, sequence, entry)
        self.head = appended.head
        self.assumed_new = False
        self.emitted += events_in(batch)

    async def _append(self, new: Sequence[NewRecord], batch: Sequence[Record]) -> Appended:
        expected: Head | None = self.head
        while True:
            lease = self._lease_for(batch)
            try:
                appended = await self.backing.ledger.append(
                    self.session_id,
                    new,
                    expected=expected,
                    fence=self.fence,
                    lease=lease,
                    index=index_after(self.projection, batch, events_in(batch)),
                )
            except (SequenceConflict, FenceLost) as error:
                if not self.holding:
                    raise Outdated from error
                if isinstance(error, FenceLost):
                    raise
                await self._take_in_intake(error)
                # Under the lease nothing but intake can come in between, and that without end:
                # from here on the fence alone has to hold, and the head is whatever it is.
                # Only an end with nothing behind it has to know what comes right before it.
                fenced = lease is not None and (self.projection.queue or not _ends(batch))
                expected = None if fenced else self.head
            else:
                await self._catch_up_to(appended.first_sequence)
                self.extended_at_ms = new[0].occurred_at_ms if new else self.clock.now_ms()
                self.fence = self.fence if lease is None else appended.fence
                self.holding = lease.action != "free" if lease is not None else not _ends(batch)
                return appended

    async def _catch_up_to(self, first_sequence: int) -> None:
        """Take in the intake that came right before an append at whatever head there was."""
        missing = first_sequence - 1 - self.head.sequence
        if missing > 0:
            for record in (await self._read_from(self.head.sequence))[:missing]:
                self._take_in(record)

    def _with_claim(self, records: Sequence[Record]) -> list[Record]:
        if self.holding or self.backing.leases is None or self.projection.run is None:
            return list(records)
        claim = CoordinationClaim(
            owner=self.holder.owner,
            fence=(self.fence or 0) + 1,
            previous_owner=(self.lease.owner if self.lease is not None else None) or "",
        )
        return [claim, *records]

    def _lease_for(self, batch: Sequence[Record]) -> LeaseChange | None:
        if self.backing.leases is None:
            return None
        if not self.holding:
            return LeaseChange("take", self.holder.owner, self.holder.ttl_ms)
        if _ends(batch) and not self.projection.queue:
            return LeaseChange("free", self.holder.owner)
        return LeaseChange("extend", self.holder.owner, self.holder.ttl_ms)

    async def _take_in_intake(self, conflict: SequenceConflict) -> None:
        tail = await self._read_from(self.head.sequence)
        if not tail or not all(stored.kind in INTAKE_KINDS for stored in tail):
            raise conflict
        for record in tail:
            self._take_in(record)

    # Holding.

    async def claim(self) -> None:
        """Hold the session before an effect, where no append has taken the lease yet."""
        if not self.holding and self.backing.leases is not None:
            await self.commit(())

    async def keep_alive(self) -> None:
        """Extend the lease again and again, until cancelled or lost (`FenceLost`)."""
        leases = self.backing.leases
        if leases is None:
            return
        while True:
            pause_ms = self.clock.now_ms() - self.extended_at_ms
            await trio.sleep(min(max(self.beat_ms - pause_ms, 0), self.beat_ms) / 1000)
            if self.holding and self.fence is not None:
                await self._beat(leases, self.fence)

    async def _beat(self, leases: SessionLeases, fence: int) -> None:
        owner, ttl_ms, began_ms = self.holder.owner, self.holder.ttl_ms, self.clock.now_ms()
        try:
            head = await leases.heartbeat(self.session_id, owner=owner, fence=fence, ttl_ms=ttl_ms)
            self.told_of_news |= head.sequence > self.head.sequence and not self._appending
        except LedgerUnavailable:
            pass  # the next beat may get through; until then the fence keeps this safe
        except FenceLost:
            if self._appending or not self.holding:
                return  # an append has just freed the lease, or its own fence will judge it
            self.stale = True
            raise
        finally:
            self.extended_at_ms = max(self.extended_at_ms, began_ms)

    def offer_snapshot(self) -> None:
        """Have the projection saved, if enough has been added since it was saved last."""
        fresh = self.head.sequence - self.snapshot_sequence
        limit = SNAPSHOT_WHEN_BUSY if self.projection.run is not None else SNAPSHOT_WHEN_IDLE
        snapshots = self.backing.snapshots
        if fresh < limit or snapshots is None:
            return
        self.snapshot_sequence = self.head.sequence
        snapshot = codec.save_projection(self.projection, self.head)
        snapshots.offer_snapshot(self.session_id, snapshot)


def _ends(batch: Sequence[Record]) -> bool:
    return any(isinstance(record, OutcomeRecord) for record in batch)


def _key_of(record: Record, trigger_key: str | None, outcome_key: str | None) -> str | None:
    if isinstance(record, TriggerRecord):
        return trigger_key
    return outcome_key if isinstance(record, OutcomeRecord) else None
