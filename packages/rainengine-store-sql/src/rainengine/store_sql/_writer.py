"""The writer: one thread with one connection, which stores the appends of all sessions.

Theory. A durable commit costs an fsync however much it holds, and hopping to a thread and back
costs as much again. So appends are queued, and the one thread that writes takes all that wait,
stores them in one transaction and wakes all callers at once. While it waits for the disk the
event loop runs on and the next batch gathers by itself. One session alone loses nothing.

Rules.

1. Only the writer's thread touches the connection. The queue and the flags are the only things
   that both sides touch, each by operations that are atomic by themselves.
2. The bell is rung only for an idle writer, and by one caller, after it has let the scheduler
   pass end: everyone who is about to append in this pass gets into the same batch.
   `_busy` is raised before `_rung` falls and the queue is looked at again after `_busy` falls,
   so there is no moment in which an append is neither seen nor rung for.
3. A batch holds one append a session, because each is judged by its session's row.
   What has to wait for the next batch keeps its place.
4. A refusal concerns its own append. An error of the storage concerns the batch.
   Any other error may be one append's fault: each is tried alone. So is what a batch did not get
   because another process is busy with it; the others have their answers by then. What that
   process does not let go of is put back, so that the others' next batch has its turn.
5. After any error the connection is closed, which rolls back; the next batch opens a new one.
   Working out which state a connection is in after a failed ROLLBACK is not worth the doubt.
6. From the moment it is queued, an append is waited for whatever is cancelled, but not for ever:
   when the storage hangs, `DeadlineGuard` takes back what the writer has not begun
   (`LedgerBusy`) and gives up the rest (`AppendUnknown`).
7. Snapshots ride along. If the transaction fails that held some, it is tried without them.
8. Transactions are done one by one, alone; one after each batch, as long as both wait.

Rejected: a thread hop a transaction (4 to 11 times slower under load); several writers on SQLite
(it has one write lock); a `CancelScope` an append (6 µs each, where one guard does for all).
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from queue import SimpleQueue
from typing import Any, Generic, TypeAlias, TypeVar, cast

import attrs
import trio

from rainengine.core.abc import Appended
from rainengine.core.errors import (
    AppendUnknown,
    LedgerBusy,
    LedgerClosed,
    LedgerUnavailable,
)
from rainengine.store_sql._commits import Answered, Committer
from rainengine.store_sql._dialect import Batch, ConnectionT
from rainengine.store_sql._drafts import Done, Draft, Result, Transaction
from rainengine.store_sql._rows import Key, SnapshotRow

T = TypeVar("T")
Entry: TypeAlias = Draft | Transaction
EntryT = TypeVar("EntryT", bound=Entry)

MAX_BATCH = 128
MAX_SNAPSHOTS = 8


@attrs.define(eq=False)
class Writer(Generic[ConnectionT]):
    """Queues appends and transactions for the thread that writes. Lives in one trio run.

    `capacity` is how many may be under way before callers have to wait for room;
    `moved` is told, in trio's thread, which sessions have got a new head.
    """

    _committer: Committer[ConnectionT]
    _moved: Callable[[Key, Appended], None]
    _capacity: int
    _token: trio.lowlevel.TrioToken = attrs.field(factory=trio.lowlevel.current_trio_token)
    _waiting: deque[Draft] = attrs.field(factory=deque[Draft])
    _transactions: deque[Transaction] = attrs.field(factory=deque[Transaction])
    _offered: deque[SnapshotRow] = attrs.field(factory=lambda: deque[SnapshotRow](maxlen=256))
    _in_flight: dict[Entry, None] = attrs.field(factory=dict[Entry, None])
    _room: trio.lowlevel.ParkingLot = attrs.field(factory=trio.lowlevel.ParkingLot)
    _bell: SimpleQueue[None] = attrs.field(factory=SimpleQueue[None])
    _rung: bool = False
    _busy: bool = False
    _closing: bool = False
    _stopped: trio.Event = attrs.field(factory=trio.Event)
    stirred: trio.Event = attrs.field(factory=trio.Event)

    def start(self) -> None:
        """Start the thread. Call `close` in the end."""
        threading.Thread(target=self._run, name="rainengine-writer", daemon=True).start()

    async def submit(self, draft: Draft) -> Appended:
        """Have an append stored. Raises what `Ledger.append` raises."""
        await self._await(draft, self._waiting)
        if isinstance(draft.result, Appended):
            return draft.result
        raise _error(draft)

    async def run(
        self,
        work: Callable[[Any], T],
        *,
        timeout_s: float,
        connect: Callable[[], ConnectionT] | None = None,
    ) -> T:
        """Have a transaction done; see `Transactor.run`.

        `connect` opens a connection for it alone, instead of the writer's own.
        """
        transaction = Transaction(work, timeout_s, connect)
        await self._await(transaction, self._transactions)
        if isinstance(transaction.result, Done):
            return cast("T", transaction.result.value)
        raise _error(transaction)

    async def _await(self, entry: EntryT, queue: deque[EntryT]) -> None:
        await trio.lowlevel.checkpoint_if_cancelled()
        while len(self._in_flight) >= self._capacity and not self._closing:
            await self._room.park()
        self._enter(entry)
        queue.append(entry)
        if not self._busy and not self._rung:
            self._rung = True
            await trio.lowlevel.cancel_shielded_checkpoint()
            self._bell.put(None)
        entry.task = trio.lowlevel.current_task()
        if entry.result is None:
            await trio.lowlevel.wait_task_rescheduled(_not_yet)

    def _enter(self, entry: Entry) -> None:
        if self._closing:
            raise LedgerClosed("this ledger is closed: open it again to write")
        entry.submitted_s = time.monotonic()
        self._in_flight[entry] = None
        if not self.stirred.is_set():
            self.stirred.set()

    def offer(self, row: SnapshotRow) -> None:
        """Store a snapshot with the next batch, or at once where the writer is idle."""
        if self._closing:
            return
        self._offered.append(row)
        if not self._busy and not self._rung:
            self._rung = True
            self._bell.put(None)

    async def close(self, patience_s: float) -> None:
        """Store what is queued and stop. Gives up after `patience_s` seconds."""
        self._closing = True
        self._bell.put(None)
        self._room.unpark_all()
        with trio.move_on_after(patience_s, shield=True):
            await self._stopped.wait()
        self.give_up(before_s=float("inf"))

    # In trio's thread, by `run_sync_soon` or the deadline guard.

    def _deliver(self, answered: Sequence[Answered]) -> None:
        for draft, result in answered:
            if result is not None:
                self._finish(draft, result)
            if isinstance(result, Appended):
                self._moved(draft.key, result)

    def _finish(self, entry: Entry, result: Result) -> None:
        self._in_flight.pop(entry, None)
        if entry.result is None:
            entry.result = result
            if entry.task is not None:
                trio.lowlevel.reschedule(entry.task)
        if self._room:
            self._room.unpark()

    def idle(self) -> bool:
        """Whether nothing is under way."""
        return not self._in_flight

    def give_up(self, *, before_s: float) -> None:
        """Answer all who have been waiting since before this monotonic time."""
        for entry in [entry for entry in self._in_flight if entry.submitted_s < before_s]:
            self._finish(entry, _withdrawn() if self._withdraw(entry) else _given_up())

    def _withdraw(self, entry: Entry) -> bool:
        try:
            if isinstance(entry, Draft):
                self._waiting.remove(entry)
            else:
                self._transactions.remove(entry)
        except ValueError:
            return False
        return True

    # In the writer's thread.

    def _run(self) -> None:
        try:
            while not self._closing or self._left():
                self._bell.get()
                self._busy = True
                self._rung = False
                self._write_all()
        finally:
            self._committer.disconnect()
            self._tell(self._stopped.set)

    def _left(self) -> bool:
        return bool(self._waiting or self._offered or self._transactions)

    def _write_all(self) -> None:
        while True:
            while self._write_some():
                pass
            self._busy = False
            if not self._left():
                return
            self._busy = True

    def _write_some(self) -> bool:
        batch = self._next_batch()
        if batch is not None:
            for answered in self._committer.commit(batch):
                self._waiting.extend([draft for draft, result in answered if result is None])
                self._tell(self._deliver, answered)
        transaction = self._next_transaction()
        if transaction is not None:
            self._tell(self._finish, transaction, self._committer.transact(transaction))
        return batch is not None or transaction is not None

    def _next_transaction(self) -> Transaction | None:
        try:
            return self._transactions.popleft()
        except IndexError:
            return None

    def _next_batch(self) -> Batch | None:
        drafts = self._next_drafts()
        snapshots: list[SnapshotRow] = []
        while self._offered and len(snapshots) < MAX_SNAPSHOTS:
            snapshots.append(self._offered.popleft())
        return Batch(drafts, snapshots) if drafts or snapshots else None

    def _next_drafts(self) -> list[Draft]:
        taken: dict[Key, Draft] = {}
        later: list[Draft] = []
        waiting = self._waiting
        while len(taken) < MAX_BATCH:
            try:
                draft = waiting.popleft()
            except IndexError:
                break
            if taken.setdefault(draft.key, draft) is not draft:
                later.append(draft)
        waiting.extendleft(reversed(later))
        return list(taken.values())

    def _tell(self, function: Callable[..., object], *args: object) -> None:
        try:
            self._token.run_sync_soon(function, *args)
        except trio.RunFinishedError:
            self._closing = True  # nobody is left to be told


def _not_yet(_: object) -> trio.lowlevel.Abort:
    return trio.lowlevel.Abort.FAILED


def _error(entry: Entry) -> BaseException:
    if isinstance(entry.result, BaseException):
        return entry.result
    return LedgerUnavailable("the writer gave no answer")


def _withdrawn() -> LedgerBusy:
    return LedgerBusy(
        "the writer did not get to this in time, and it was taken back: nothing was stored."
        " The storage is slow or locked: try again later"
    )


def _given_up() -> AppendUnknown:
    return AppendUnknown(
        "the storage has not answered in time, and may still store this:"
        " load the session again once it is back"
    )
