"""Requests that come again under their idempotency key: what is known of them, and waiting."""

from __future__ import annotations

import attrs
import trio

from rainengine.core import codec
from rainengine.core.engine._ledgers import Backing
from rainengine.core.engine._requests import ContinueRequest, ProcessRequest, Submitted
from rainengine.core.engine._session import OpenSession, Outdated
from rainengine.core.errors import DuplicateTrigger, IdempotencyMismatch, RunInProgress
from rainengine.core.records import PAUSES, OutcomeRecord, TriggerRecord

_MAX_WAIT_MS = 2**53


@attrs.frozen(kw_only=True)
class Known:
    """The request's key was used before, by the run of this trigger; its outcome, if it has one."""

    trigger_id: str
    outcome: OutcomeRecord | None
    idempotency_key: str | None = None
    resumes: str | None = None

    @property
    def run_id(self) -> str:
        """The trigger id of the run that it began or resumed."""
        return self.resumes or self.trigger_id

    def is_final(self, outcome: OutcomeRecord) -> bool:
        """Whether nothing can follow this outcome, nor come before it as the answer's own."""
        return outcome.trigger_id == self.trigger_id and outcome.stop_reason not in PAUSES


class HeldElsewhere(Exception):
    """Another process works on the run that the request's key belongs to."""

    def __init__(self, known: Known) -> None:
        super().__init__(known.trigger_id)
        self.known = known


@attrs.frozen
class Patience:
    """Until when, by trio's clock, a caller waits for what is done elsewhere."""

    until: float

    @classmethod
    def of(cls, request: ProcessRequest | ContinueRequest) -> Patience:
        """What is left of the request's patience as it comes in."""
        wait_ms = request.wait_ms if isinstance(request, ProcessRequest) else 0
        codec.check_integer("wait_ms", wait_ms, 0, _MAX_WAIT_MS)
        return cls(trio.current_time() + wait_ms / 1000)


@attrs.frozen(eq=False)
class Repetitions:
    """Looks up what became of requests that came before."""

    backing: Backing

    async def known(
        self, session_id: str, record: TriggerRecord, duplicate: DuplicateTrigger
    ) -> Known:
        """Look up the run that a key belongs to. Raises `IdempotencyMismatch`."""
        (stored,) = await self.backing.ledger.read(
            session_id, after=duplicate.sequence - 1, limit=1
        )
        first = stored.record
        if not isinstance(first, TriggerRecord) or first.body_hash != record.body_hash:
            raise IdempotencyMismatch(
                duplicate.idempotency_key, stored.trigger_id or "unknown"
            ) from duplicate
        outcome = await self.backing.ledger.find_outcome(session_id, duplicate.idempotency_key)
        return Known(
            trigger_id=first.trigger_id,
            outcome=outcome,
            idempotency_key=duplicate.idempotency_key,
            resumes=first.resumes,
        )

    async def known_as(self, request: ProcessRequest, submitted: Submitted) -> Known:
        """What is known of a request that was submitted; of an answered one, its outcome."""
        key = request.idempotency_key
        outcome = None
        if submitted.duplicate and key is not None:
            outcome = await self.backing.ledger.find_outcome(request.session_id, key)
        return Known(trigger_id=submitted.trigger_id, outcome=outcome, idempotency_key=key)

    def check_free(self, session: OpenSession, known: Known) -> None:
        """Raise `HeldElsewhere` where another process works on the session just now."""
        lease = session.tenure.lease
        if lease is None or lease.owner == session.tenure.holder.owner:
            return
        if lease.left_ms and self.backing.watch is not None:
            raise HeldElsewhere(known)

    async def outcome_to_repeat(self, session: OpenSession, known: Known) -> OutcomeRecord | None:
        """The newest outcome of the run that a key began or resumed; None where it is open now.

        Raises `HeldElsewhere` where another process works on it, and `Outdated`.
        """
        record = known.outcome
        if record is not None and known.is_final(record):
            return record
        if session.tenure.may_be_behind() and not await session.refresh():
            raise Outdated
        if any(map(session.projection.has_open, (known.trigger_id, known.run_id))):
            if not session.tenure.holding:
                self.check_free(session, known)
            return None
        if known.idempotency_key is None:
            return record
        return await self.backing.ledger.find_outcome(session.session_id, known.idempotency_key)

    async def wait_for(self, session_id: str, held: HeldElsewhere, patience: Patience) -> None:
        """Return once the run has another outcome or nobody works on it any more.

        Raises `RunInProgress` when the caller's patience is at its end.
        """
        leases, watch, known = self.backing.leases, self.backing.watch, held.known
        if leases is None or watch is None:
            return
        key = known.idempotency_key
        with trio.move_on_at(patience.until):
            while True:
                lease = await leases.lease_of(session_id)
                if not lease.left_ms:
                    return
                if key is not None:
                    outcome = await self.backing.ledger.find_outcome(session_id, key)
                    if outcome != known.outcome:
                        return
                with trio.move_on_after(lease.left_ms / 1000 + 0.001):
                    await watch.wait_past(session_id, lease.head.sequence)
        raise RunInProgress(session_id, known.trigger_id)
