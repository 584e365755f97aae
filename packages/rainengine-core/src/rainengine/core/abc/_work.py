"""What is left to do, across tenants: the operator's view of a store, which only workers use."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol, TypeAlias, runtime_checkable

import attrs

from rainengine.core.records import JsonValue

WorkKind: TypeAlias = Literal["run", "wake", "outbox"]
"""`run`: a run that nobody works on. `wake`: a wake is due. `outbox`: something to deliver."""

DuePosition: TypeAlias = tuple[str, str | None]
"""A tenant and a session of it, or None for what comes after all of the tenant's sessions."""


@attrs.frozen(kw_only=True)
class DueSession:
    """A session in which something is due. `agent` is a hint: whose run it was last, if known."""

    tenant: str
    session_id: str
    agent: str | None


@runtime_checkable
class WorkQueue(Protocol):
    """A store that can be asked for what is due. It shows every tenant: keep it to workers."""

    async def due(
        self,
        kind: WorkKind,
        *,
        now_ms: int | None = None,
        after: DuePosition | None = None,
        limit: int = 100,
    ) -> Sequence[DueSession]:
        """Return sessions in which something is due, by tenant and session id, each once.

        - `run`: in state `running`, and nobody holds its lease.
        - `wake`: with a wake whose time has come, whoever holds the session.
        - `outbox`: with a row that may be claimed, as `Outbox.claim` says.

        `now_ms` is the time to judge by; the store's own, where it is None. Fewer than `limit`
        means that there are no more; otherwise go on `after` the last one. To be fair to
        tenants, ask for a few, and go on `after` `(tenant, None)`.
        """
        ...


@attrs.frozen(kw_only=True)
class OutboxEntry:
    """A row to deliver. `attempts` counts this one.

    `claim` is the number of the claim, which each one raises: `Outbox.settle` knows it by that.
    """

    tenant: str
    session_id: str
    sequence: int
    ordinal: int
    topic: str
    payload: JsonValue
    attempts: int
    claim: int = 0

    @property
    def key(self) -> str:
        """The row's own name, the same at every attempt: receivers know repetitions by it.

        Tenant, session id, sequence and ordinal, with slashes between them; a slash or percent
        sign within one is percent-encoded.
        """
        tenant, session_id = (
            part.replace("%", "%25").replace("/", "%2F") for part in (self.tenant, self.session_id)
        )
        return f"{tenant}/{session_id}/{self.sequence}/{self.ordinal}"


@attrs.frozen(kw_only=True)
class OutboxReport:
    """What became of a claimed row.

    `failed` has it tried again in `retry_in_ms`, `dead` never; `error` says why.
    `returned` gives back what was not tried, so that it does not count as an attempt.
    """

    entry: OutboxEntry
    outcome: Literal["delivered", "failed", "dead", "returned"]
    error: str | None = None
    retry_in_ms: int = 0


@attrs.frozen(kw_only=True)
class DeadLetter:
    """A row that was given up. Times are Unix milliseconds."""

    entry: OutboxEntry
    died_at_ms: int
    error: str | None


@runtime_checkable
class Outbox(Protocol):
    """A store that keeps what is to be delivered: at least once, in order by session and topic."""

    async def claim(
        self, tenant: str, session_id: str, *, claim_ms: int, limit: int = 32
    ) -> Sequence[OutboxEntry]:
        """Take rows to deliver, in order, for `claim_ms` milliseconds; durably.

        Of each topic rows are taken from the first one that is neither delivered nor dead, up
        to one that is not due or that somebody has claimed; of all topics together, the `limit`
        oldest. A claim that runs out is free again; the attempt has counted.
        Whoever claims at the same time gets none of these.
        """
        ...

    async def settle(self, reports: Sequence[OutboxReport]) -> None:
        """Record what became of rows of one session, in one transaction.

        A report on a row that was settled, or claimed by somebody else, since its claim is passed
        over; so reports may be sent again. One that comes late counts as long as nobody was
        quicker.
        """
        ...

    async def dead_letters(
        self, tenant: str, *, after: OutboxEntry | None = None, limit: int = 100
    ) -> Sequence[DeadLetter]:
        """Return a tenant's dead rows, by session, sequence and ordinal."""
        ...

    async def redrive(self, entry: OutboxEntry) -> bool:
        """Have a dead row tried again, at once and with fresh attempts. False where it is not dead.

        It comes before what is left of its topic, and after what was delivered meanwhile.
        """
        ...

    async def discard_delivered(self, *, before_ms: int, limit: int = 1000) -> int:
        """Delete up to `limit` rows that were delivered before that time; return how many."""
        ...


class OutboxPublisher(Protocol):
    """Where the rows of the outbox go."""

    async def publish(self, entry: OutboxEntry) -> None:
        """Hand a row over, and return once the receiver has it for good.

        May be called again for the same row, whose `key` tells. An exception has it tried again
        later; `Undeliverable` says that it never will be accepted.
        """
        ...
