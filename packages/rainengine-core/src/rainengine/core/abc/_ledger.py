"""The ledger's protocol, and the small protocols for what only some ledgers can do.

A third party's store implements `Ledger` and as many of the others as it can;
the engine finds out with `isinstance`.
`rainengine.core.testing.LEDGER_CHECKS` says whether an implementation keeps the promises below.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol, TypeAlias, runtime_checkable

import attrs

from rainengine.core.records import Head, JsonValue, NewRecord, OutcomeRecord, StoredRecord

SessionState: TypeAlias = Literal[
    "empty", "running", "completed", "suspended", "delegated", "stopped", "failed"
]

INTAKE_KINDS = frozenset({"trigger", "cancel_request"})
"""Kinds of records that may reach a session without its lease, at whatever head it has."""

DEFAULT_TENANT = "default"


@attrs.frozen
class LeaseChange:
    """What an append does to the session's lease.

    `take` needs a lease that is free, expired or held by the same `owner`, and raises the fence.
    `extend` lets it run for another `ttl_ms` milliseconds. `free` gives it up. Both need the
    fence and the same `owner`, and may come late: as long as nobody else has taken the lease.
    """

    action: Literal["take", "extend", "free"]
    owner: str
    ttl_ms: int = 0


@attrs.frozen(kw_only=True)
class SessionIndex:
    """What an append makes of the session's row in listings.

    `agent` and `wake_due_at_ms` stay as they are where they are None; 0 means that no wake is due.
    """

    state: SessionState
    agent: str | None = None
    wake_due_at_ms: int | None = None


@attrs.frozen(kw_only=True)
class OutboxItem:
    """Something to be delivered after the append, at least once, in order within its topic."""

    topic: str
    payload: JsonValue


@attrs.frozen(kw_only=True)
class Appended:
    """Where the session stands after an append. `fence` is 0 where no lease was ever taken."""

    head: Head
    first_sequence: int
    fence: int


@attrs.frozen(kw_only=True)
class Lease:
    """Who holds a session. `owner` is None where nobody does; times are Unix milliseconds.

    `now_ms` is when this was read by the clock that the ledger judges leases by.
    """

    owner: str | None
    expires_at_ms: int
    fence: int
    head: Head
    now_ms: int = attrs.field(eq=False)

    @property
    def left_ms(self) -> int:
        """For how long it is still held, in milliseconds; 0 where anybody may take it."""
        return 0 if self.owner is None else max(self.expires_at_ms - self.now_ms, 0)


@attrs.frozen(kw_only=True)
class Snapshot:
    """A projection as of a sequence; disposable. `hash` is that of the record it ends with."""

    projection_version: int
    sequence: int
    hash: bytes
    payload: str


@attrs.frozen(kw_only=True)
class EncodedEntry:
    """A stored record as it was hashed, for verification and export."""

    sequence: int
    kind: str
    version: int
    occurred_at_ms: int
    trigger_id: str | None
    idempotency_key: str | None
    payload: str
    hash: bytes


@attrs.frozen(kw_only=True)
class SessionQuery:
    """Which sessions to list: those in any of `states` (all if empty), after a page's `next`."""

    states: tuple[SessionState, ...] = ()
    agent: str | None = None
    after: str | None = None
    limit: int = 100


@attrs.frozen(kw_only=True)
class SessionInfo:
    """A session in a listing. Times are Unix milliseconds."""

    session_id: str
    head: Head
    state: SessionState
    agent: str | None
    wake_due_at_ms: int | None
    lease_owner: str | None
    lease_expires_at_ms: int
    fence: int
    first_recorded_at_ms: int
    last_recorded_at_ms: int


@attrs.frozen(kw_only=True)
class SessionPage:
    """One page of a listing, by session id; `next` goes into the following query, if any."""

    sessions: tuple[SessionInfo, ...]
    next: str | None


@runtime_checkable
class Ledger(Protocol):
    """One tenant's append-only ledger. What it cannot name it cannot read."""

    @property
    def tenant(self) -> str:
        """The tenant whose sessions these are."""
        ...

    @property
    def max_payload_bytes(self) -> int:
        """The largest JSON text of a record that this ledger takes, in bytes."""
        ...

    async def append(
        self,
        session_id: str,
        records: Sequence[NewRecord],
        *,
        expected: Head | None,
        fence: int | None = None,
        lease: LeaseChange | None = None,
        index: SessionIndex | None = None,
        outbox: Sequence[OutboxItem] = (),
    ) -> Appended:
        """Append records, durably and all or none, and return where the session stands then.

        `expected` is the head that the caller decided upon; `None` appends at whatever head
        there is, which is how intake (`INTAKE_KINDS`) reaches a session that somebody holds.
        `fence` is the caller's fencing token; with `LeaseChange("take")` it is the one that it
        saw last, and the new one is returned. `records` may be empty where `lease` is given.
        Once this returns, the records survive a crash. A cancellation is delivered only after
        the fate of the append is known.

        Where several of these apply, the first is raised:

        - `InadmissibleValue`: a record, id or key breaks the admission rule
        - `DuplicateTrigger`: a trigger's idempotency key is already in the session
        - `FenceLost`: `fence` is given and no longer the newest; or a lease is to be extended
          or freed that nobody holds, without the fence or by another than its last owner
        - `LeaseHeld`: somebody holds the lease, and another owner wants to change it, or it is
          to be extended or freed, or records other than intake come, without the fence
        - `SequenceConflict`: the head is not `expected`
        - `LedgerUnavailable`: nothing was stored, now or later
        - `AppendUnknown`: it could not be found out whether it was stored
        """
        ...

    async def read(
        self, session_id: str, *, after: int = 0, limit: int = 1000
    ) -> Sequence[StoredRecord]:
        """Return up to `limit` records with sequences above `after`, in order."""
        ...

    async def head(self, session_id: str) -> Head:
        """Return the session's head; sequence 0 and the genesis hash where it has no records."""
        ...

    async def list_sessions(self, query: SessionQuery) -> SessionPage:
        """Return one page of the tenant's sessions, by session id."""
        ...

    async def find_outcome(self, session_id: str, idempotency_key: str) -> OutcomeRecord | None:
        """Return the newest outcome of the run whose trigger has this key."""
        ...


@runtime_checkable
class LedgerStore(Ledger, Protocol):
    """All tenants' ledgers in one place. Used as a ledger itself, it is the default tenant's."""

    def for_tenant(self, tenant: str) -> Ledger:
        """Return the tenant's ledger: the same handle for the same tenant."""
        ...


@runtime_checkable
class SessionLeases(Protocol):
    """Leases with fencing tokens, which `append` checks."""

    async def lease_of(self, session_id: str) -> Lease:
        """Return the session's lease, fence and head as one consistent reading."""
        ...

    async def heartbeat(self, session_id: str, *, owner: str, fence: int, ttl_ms: int) -> Head:
        """Extend the lease and return the head, which shows whether intake came in.

        Raises `FenceLost` where the lease has moved on.
        """
        ...

    async def release(self, session_id: str, *, owner: str, fence: int) -> None:
        """Give up the lease if it is still this owner's under this fence; else do nothing."""
        ...


@runtime_checkable
class Snapshots(Protocol):
    """Saved projections, so that a long session need not be replayed from its start."""

    async def load_snapshot(self, session_id: str, projection_version: int) -> Snapshot | None:
        """Return the newest snapshot of that version, if there is one."""
        ...

    def offer_snapshot(self, session_id: str, snapshot: Snapshot) -> None:
        """Keep a snapshot when there is time. Returns at once and never fails the caller."""
        ...


@runtime_checkable
class Watch(Protocol):
    """Waiting for a session to move."""

    async def wait_past(self, session_id: str, sequence: int) -> Head:
        """Return the head once its sequence is above `sequence`."""
        ...


@runtime_checkable
class EncodedRecords(Protocol):
    """Reading records as they were hashed."""

    async def read_encoded(
        self, session_id: str, *, after: int = 0, limit: int = 1000
    ) -> Sequence[EncodedEntry]:
        """Return up to `limit` stored records with sequences above `after`, in order."""
        ...
