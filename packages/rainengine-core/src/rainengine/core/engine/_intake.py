"""How triggers get in: once a key, durable before anything acts on them."""

from __future__ import annotations

import attrs
import trio

from rainengine.core import codec, telemetry
from rainengine.core.abc import Clock, IdSource, SessionIndex
from rainengine.core.engine._ledgers import Backing
from rainengine.core.engine._requests import Agent, ProcessRequest, Submitted
from rainengine.core.engine._session import OpenSession
from rainengine.core.errors import DuplicateTrigger, IdempotencyMismatch, RunInProgress
from rainengine.core.kernel import IntentClassifier, derived_events
from rainengine.core.projection import Run
from rainengine.core.records import (
    EnginePolicy,
    KernelEventRecord,
    NewRecord,
    OutcomeRecord,
    ProviderConfig,
    Record,
    TriggerIntent,
    TriggerRecord,
)


@attrs.frozen(kw_only=True)
class Known:
    """The request's key was used before, by the run of this trigger; its outcome, if it has one."""

    trigger_id: str
    outcome: OutcomeRecord | None


@attrs.frozen(kw_only=True)
class Intake:
    """Brings triggers into sessions."""

    backing: Backing
    agent: Agent
    policy: EnginePolicy
    provider: ProviderConfig
    classify: IntentClassifier
    clock: Clock
    ids: IdSource

    def record_of(self, request: ProcessRequest) -> TriggerRecord:
        """The trigger with the authority that it comes with, ready to be stored."""
        scopes = tuple(dict.fromkeys((*self.agent.profile.default_scopes, *request.granted_scopes)))
        return TriggerRecord(
            trigger_id=self.ids.new_id(),
            trigger=request.trigger,
            body_hash=codec.body_hash(request.trigger, scopes),
            agent=self.agent.ref,
            granted_scopes=scopes,
            policy=request.policy or self.policy,
            provider=request.provider or self.provider,
            traceparent=telemetry.current_traceparent(),
        )

    def activation(self, run: Run | TriggerRecord) -> list[Record]:
        """The records by which a trigger becomes the active run."""
        trigger = run.trigger
        return [
            TriggerIntent(trigger_id=run.trigger_id, intent=self.classify(trigger)),
            *(KernelEventRecord(event) for event in derived_events(trigger, run.trigger_id)),
        ]

    async def accept(self, session: OpenSession, request: ProcessRequest) -> str | Known:
        """Store the request's trigger, active at once where no run is open.

        Returns its id, or what is known of the key. Raises `IdempotencyMismatch`,
        and what `OpenSession.commit` raises.
        """
        record = self.record_of(request)
        batch: list[Record] = [record]
        if session.projection.run is None and not session.projection.queue:
            batch += self.activation(record)
        try:
            await session.commit(
                batch, trigger_id=record.trigger_id, idempotency_key=request.idempotency_key
            )
        except DuplicateTrigger as duplicate:
            return await self.known(request.session_id, record, duplicate)
        return record.trigger_id

    async def submit(self, request: ProcessRequest) -> Submitted:
        """Store the request's trigger beside whatever runs; it waits for its turn."""
        record = self.record_of(request)
        new = NewRecord(record, self.clock.now_ms(), record.trigger_id, request.idempotency_key)
        index = SessionIndex(state="running", agent=self.agent.name)
        try:
            appended = await self.backing.ledger.append(
                request.session_id, [new], expected=None, index=index
            )
        except DuplicateTrigger as duplicate:
            known = await self.known(request.session_id, record, duplicate)
            return Submitted(
                session_id=request.session_id,
                trigger_id=known.trigger_id,
                sequence=duplicate.sequence,
                duplicate=True,
            )
        return Submitted(
            session_id=request.session_id,
            trigger_id=record.trigger_id,
            sequence=appended.head.sequence,
            duplicate=False,
        )

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
        return Known(trigger_id=first.trigger_id, outcome=outcome)

    async def await_outcome(
        self, session_id: str, idempotency_key: str, trigger_id: str, wait_ms: int
    ) -> OutcomeRecord | None:
        """Wait while somebody else works on the run.

        Returns its outcome, or None once nobody works on it any more.
        Raises `RunInProgress` after `wait_ms` milliseconds.
        """
        leases, watch = self.backing.leases, self.backing.watch
        if leases is None or watch is None:
            return None
        with trio.move_on_after(wait_ms / 1000):
            while True:
                lease = await leases.lease_of(session_id)
                outcome = await self.backing.ledger.find_outcome(session_id, idempotency_key)
                if outcome is not None or self.is_free(lease.owner, lease.expires_at_ms):
                    return outcome
                left_ms = max(lease.expires_at_ms - self.clock.now_ms(), 0)
                with trio.move_on_after(left_ms / 1000 + 0.001):
                    await watch.wait_past(session_id, lease.head.sequence)
        raise RunInProgress(session_id, trigger_id)

    def is_free(self, owner: str | None, expires_at_ms: int) -> bool:
        """Whether a lease is nobody's by now."""
        return owner is None or expires_at_ms <= self.clock.now_ms()
