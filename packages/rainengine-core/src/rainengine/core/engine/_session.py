"""One session as an engine holds it: its projection, its head, its tenure.

Rules:

- The projection is folded only from what the ledger has stored.
- After any failed append nothing is assumed: the session is `stale` and has to be loaded again.
- While the lease is held, only intake (triggers, cancel requests) can come in between; the
  batch is then appended again at the new head, so a result once obtained is never dropped.
- While it is not held, anything may have happened: `Outdated` says that the projection was
  brought up to date and the decision has to be made anew.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import TypeVar

import attrs
import trio

from rainengine.core import codec
from rainengine.core.abc import INTAKE_KINDS, Appended, OutboxItem
from rainengine.core.engine._deltas import events_in, index_after
from rainengine.core.engine._history import History
from rainengine.core.engine._listening import Listening, Stop
from rainengine.core.errors import (
    DuplicateTrigger,
    FenceLost,
    InadmissibleValue,
    LeaseHeld,
    LedgerError,
    LedgerUnavailable,
    SequenceConflict,
)
from rainengine.core.kernel import REASON_CHARACTERS
from rainengine.core.projection import Run, fold, left_over
from rainengine.core.records import (
    CancelRequest,
    Head,
    KernelEvent,
    NewRecord,
    OutcomeRecord,
    ProviderUsage,
    Record,
    StoredRecord,
    TriggerRecord,
)

T = TypeVar("T")

SNAPSHOT_WHEN_BUSY = 500
SNAPSHOT_WHEN_IDLE = 100


class Outdated(Exception):
    """Somebody else moved the session; it was loaded again and has to be looked at anew."""


@attrs.frozen
class Resumed:
    """An answer's trigger, and the run that went on with it."""

    answer_id: str
    trigger_id: str


@attrs.define(kw_only=True, eq=False)
class OpenSession(History):
    """A session in this engine's memory; whoever uses it has the session's lock.

    `resumed` is the answer that the last step took in; `reserved` says that the reservation for the
    next call was made by this process, and not used yet.
    """

    assumed_new: bool = False
    snapshot_sequence: int = 0
    emitted: list[KernelEvent] = attrs.field(factory=list[KernelEvent])
    resumed: Resumed | None = None
    reserved: bool = False
    appending: bool = attrs.field(default=False, init=False)
    _listening: Listening = attrs.field(factory=Listening, init=False)

    def take_in(self, records: Sequence[StoredRecord]) -> None:
        """Fold in what somebody else may have appended."""
        super().take_in(records)
        self.reserved &= all(record.kind in INTAKE_KINDS for record in records)

    # Appending.

    async def commit(
        self,
        records: Sequence[Record],
        *,
        trigger_id: str | None = None,
        idempotency_key: str | None = None,
        run: Run | None = None,
        outbox: Sequence[OutboxItem] = (),
    ) -> None:
        """Append records as one batch, taking or extending the lease, and fold them.

        `trigger_id` and `idempotency_key` are those of a trigger among the records;
        other records belong to `run`, or else to the active one. Raises what `Ledger.append`
        raises, and `Outdated`.
        """
        if any(isinstance(record, OutcomeRecord) for record in records):
            await self.claim()  # or else the end would take a lease that nobody gives back
        claim = None if self.projection.run is None else self.tenure.claim()
        batch = records if claim is None else [claim, *records]
        run = run or self.projection.run
        owner_id = trigger_id or (None if run is None else run.trigger_id)
        keys: dict[type[Record], str | None] = {
            TriggerRecord: idempotency_key,
            OutcomeRecord: None if run is None else run.idempotency_key,
        }
        now_ms = self.tenure.clock.now_ms()
        new = [NewRecord(record, now_ms, owner_id, keys.get(type(record))) for record in batch]
        events = events_in(batch)
        self.appending = True
        try:
            appended = await self._append(new, batch, events, outbox)
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
            self.appending = False
        self.fold_in(new, appended)
        held = None if self.projection.run is None else self.projection.run.reservation
        self.reserved = held is not None and (self.reserved or any(map(_is_reservation, batch)))
        self.assumed_new = False
        self.emitted += events

    def fold_in(self, new: Sequence[NewRecord], appended: Appended) -> None:
        """Take in what was just stored."""
        for sequence, entry in enumerate(new, start=appended.first_sequence):
            fold(self.projection, sequence, entry)
        self.head = appended.head

    async def note(self, record: Record) -> None:
        """Append a record that is no step of a run; a lease stays with whoever has it.

        Only a former holder's lease, which may have run out under a step, has to be taken first.
        Raises what `Ledger.append` raises, and `Outdated` wherever anything came in between.
        """
        tenure, run = self.tenure, self.projection.run
        if not (tenure.holding or tenure.free):
            await self.commit([record])
            with suppress(LedgerError):  # or else it runs out by itself
                await tenure.release()
            return
        now_ms = tenure.clock.now_ms()
        new = NewRecord(record, now_ms, None if run is None else run.trigger_id)
        index = index_after(self.projection, [record], events_in([record]))
        try:
            appended = await self.backing.ledger.append(
                self.session_id, [new], expected=self.head, fence=tenure.fence, index=index
            )
        except (SequenceConflict, FenceLost) as error:
            raise Outdated from error
        except (InadmissibleValue, LeaseHeld):
            raise
        except BaseException:
            self.stale = True
            raise
        fold(self.projection, appended.first_sequence, new)
        self.head = appended.head

    async def _append(
        self,
        new: Sequence[NewRecord],
        batch: Sequence[Record],
        events: Sequence[KernelEvent],
        outbox: Sequence[OutboxItem],
    ) -> Appended:
        tenure, ends = self.tenure, OutcomeRecord in map(type, batch)
        expected: Head | None = self.head
        while True:
            final = ends and not left_over(self.projection, batch)
            lease = tenure.change(final=final)
            try:
                appended = await self.backing.ledger.append(
                    self.session_id,
                    new,
                    expected=expected,
                    fence=tenure.fence,
                    lease=lease,
                    index=index_after(self.projection, batch, events),
                    outbox=outbox,
                )
            except (SequenceConflict, FenceLost) as error:
                if not tenure.holding:
                    raise Outdated from error
                if isinstance(error, FenceLost):
                    raise
                await self.take_in_intake(error)
                # Under the lease nothing but intake can come in between, and that without end:
                # from here on the fence alone has to hold, and the head is whatever it is.
                # Only an end with nothing behind it has to know what comes right before it.
                final = ends and not left_over(self.projection, batch)
                expected = None if lease is not None and not final else self.head
            else:
                await self.catch_up_to(appended.first_sequence)
                at_ms = new[0].occurred_at_ms if new else tenure.clock.now_ms()
                tenure.changed(lease, appended.fence, at_ms, ends=ends)
                return appended

    async def catch_up_to(self, first_sequence: int) -> None:
        """Take in the intake that came right before an append at whatever head there was."""
        missing = first_sequence - 1 - self.head.sequence
        if missing > 0:
            self.take_in((await self.read_from(self.head.sequence))[:missing])

    # Holding.

    async def claim(self) -> None:
        """Hold the session before an effect, where no append has taken the lease yet."""
        if not self.tenure.holding and self.backing.leases is not None:
            await self.commit(())

    async def give_back(self) -> None:
        """Give back what is reserved for a call that will not be made here, as far as that goes."""
        run = self.projection.run
        if run is None or run.reservation is None or not (self.reserved and self.tenure.holding):
            return
        with suppress(LedgerError, Outdated):  # it then counts as spent
            await self.commit([ProviderUsage(step=run.reservation.step, status="released")])

    async def keep_alive(self) -> None:
        """Extend the lease whenever it is time to, until cancelled or lost (`FenceLost`)."""
        while True:
            await trio.sleep(self.tenure.due_in_s())
            try:
                head = await self.tenure.extend()
            except FenceLost:
                if self.appending or not self.tenure.holding:
                    continue  # an append has just freed the lease, or its own fence judges it
                self.stale = True
                raise
            if head is not None and not self.appending and head.sequence > self.head.sequence:
                self.tenure.told_of_news = True
                await self._listen()

    # Being told of a cancellation in the middle of something that can be left off.

    async def unless_cancelled(self, work: Callable[[], Awaitable[T]]) -> T | None:
        """Do the work; left off, with None, once somebody has asked for the run to be stopped."""
        run = self.projection.run
        if run is not None and self.cancelled(run) is None:
            done = await self._listening.during(work)
            if done is not None:
                return done[0]
        await self._take_in_news()
        return None

    def cancelled(self, run: Run) -> str | None:
        """Why the run is to be stopped, as far as this process was told; None if it is not."""
        reason = run.cancel_reason or self._listening.reason(run.trigger_id)
        return None if reason is None else reason[:REASON_CHARACTERS]

    def tell_of_cancellation(self, stop: Stop) -> None:
        """Let go of what the run is waiting for, if it is this one's."""
        run = self.projection.run
        self.tenure.told_of_news = True
        if run is not None and run.trigger_id == stop.trigger_id:
            self._listening.tell(stop)

    async def _listen(self) -> None:
        """Look whether the news is that the run is to be stopped."""
        run = self.projection.run
        if run is None:
            return
        with suppress(LedgerUnavailable):  # the next heartbeat looks again
            for entry in await self.read_from(self.head.sequence):
                if isinstance(request := entry.record, CancelRequest):
                    stopped = request.trigger_id or run.trigger_id
                    self.tell_of_cancellation(Stop(stopped, request.reason))

    async def _take_in_news(self) -> None:
        tail = await self.read_from(self.head.sequence)
        if not all(stored.kind in INTAKE_KINDS for stored in tail):
            self.stale = True
            raise Outdated
        self.take_in(tail)

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


def _is_reservation(record: Record) -> bool:
    return isinstance(record, ProviderUsage) and record.status == "reserved"
