"""How triggers get in: once a key, durable before anything acts on them."""

from __future__ import annotations

import logging
from collections.abc import Collection
from typing import Any, cast

import attrs
import trio

from rainengine.core import codec, telemetry
from rainengine.core.abc import Clock, IdSource, SessionIndex
from rainengine.core.engine._ledgers import Backing
from rainengine.core.engine._requests import Agent, ContinueRequest, ProcessRequest, Submitted
from rainengine.core.engine._session import OpenSession
from rainengine.core.errors import (
    AgentMismatch,
    DuplicateTrigger,
    IdempotencyMismatch,
    InadmissibleValue,
    RunInProgress,
)
from rainengine.core.kernel import IntentClassifier, derived_events
from rainengine.core.projection import Run
from rainengine.core.records import (
    EnginePolicy,
    JsonValue,
    KernelEventRecord,
    NewRecord,
    OutcomeRecord,
    ProviderConfig,
    Record,
    Trigger,
    TriggerIntent,
    TriggerRecord,
)

_MAX_WAIT_MS = 2**53
_INTENT_CHARACTERS = 200
UNCLASSIFIED = "unclassified"
_log = logging.getLogger("rainengine.core")


@attrs.frozen(kw_only=True)
class Known:
    """The request's key was used before, by the run of this trigger; its outcome, if it has one."""

    trigger_id: str
    outcome: OutcomeRecord | None
    idempotency_key: str | None = None


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


@attrs.frozen(kw_only=True, eq=False)
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
        codec.check_identifier("session_id", request.session_id)
        scopes = self._scopes(request)
        return TriggerRecord(
            trigger_id=self.ids.new_id(),
            trigger=_own_copy(request.trigger),
            body_hash=_body_hash(request.trigger, scopes),
            agent=self.agent.ref,
            granted_scopes=scopes,
            policy=self.policy if request.policy is None else request.policy,
            provider=self.provider if request.provider is None else request.provider,
            traceparent=telemetry.current_traceparent(),
        )

    def _scopes(self, request: ProcessRequest) -> tuple[str, ...]:
        default = self.agent.profile.default_scopes
        return tuple(dict.fromkeys((*default, *checked_scopes(request.granted_scopes))))

    def activation(self, run: Run | TriggerRecord) -> list[Record]:
        """The records by which a trigger becomes the active run."""
        trigger = run.trigger
        try:
            intent = codec.clean_text(self.classify(trigger))[:_INTENT_CHARACTERS]
            events = derived_events(trigger, run.trigger_id)
        except Exception:  # noqa: BLE001  # see below
            # Where the trigger itself breaks the rule, that is the error to be told of.
            codec.encode(TriggerRecord(trigger_id="", trigger=trigger, body_hash=""))
            # A classifier is the host's code: it may fail, and no trigger may be stuck for it.
            _log.exception("the classifier failed on a %s", type(trigger).__name__)
            intent, events = UNCLASSIFIED, derived_events(trigger, run.trigger_id)
        return [
            TriggerIntent(trigger_id=run.trigger_id, intent=intent),
            *(KernelEventRecord(event) for event in events),
        ]

    async def accept(self, session: OpenSession, request: ProcessRequest) -> str | Known:
        """Store the request's trigger, active at once where no run is open.

        Returns its id, or what is known of the key. Raises `IdempotencyMismatch`,
        `AgentMismatch` where another agent's run is ahead of it, and what `OpenSession.commit`
        raises.
        """
        ahead = next(iter(session.projection.queue), None)
        self.check_agent(session.projection.run or ahead)
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

    def check_agent(self, run: Run | None) -> None:
        """Raise `AgentMismatch` where the run is another agent's."""
        if run is not None and run.agent.name != self.agent.name:
            raise AgentMismatch(run.agent.name, self.agent.name)

    async def submit(self, request: ProcessRequest) -> Submitted:
        """Store the request's trigger beside whatever runs; it waits for its turn."""
        record = self.record_of(request)
        new = NewRecord(record, self.clock.now_ms(), record.trigger_id, request.idempotency_key)
        # Maybe not whose run is active, which is told when it begins: workers take it as a hint.
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
        return Known(
            trigger_id=first.trigger_id,
            outcome=outcome,
            idempotency_key=duplicate.idempotency_key,
        )

    def check_free(self, session: OpenSession, known: Known) -> None:
        """Raise `HeldElsewhere` where another process works on the session just now."""
        lease = session.tenure.lease
        if lease is None or lease.owner == session.tenure.holder.owner:
            return
        if lease.left_ms and self.backing.watch is not None:
            raise HeldElsewhere(known)

    async def outcome_since(self, session: OpenSession, known: Known) -> OutcomeRecord | None:
        """The outcome of a run that ended since its key was looked up."""
        if known.idempotency_key is None or session.projection.has_open(known.trigger_id):
            return None
        return await self.backing.ledger.find_outcome(session.session_id, known.idempotency_key)

    async def wait_for(self, session_id: str, held: HeldElsewhere, patience: Patience) -> None:
        """Return once the run has an outcome or nobody works on it any more.

        Raises `RunInProgress` when the caller's patience is at its end.
        """
        leases, watch, known = self.backing.leases, self.backing.watch, held.known
        if leases is None or watch is None or known.idempotency_key is None:
            return
        with trio.move_on_at(patience.until):
            while True:
                lease = await leases.lease_of(session_id)
                if not lease.left_ms:
                    return
                if await self.backing.ledger.find_outcome(session_id, known.idempotency_key):
                    return
                with trio.move_on_after(lease.left_ms / 1000 + 0.001):
                    await watch.wait_past(session_id, lease.head.sequence)
        raise RunInProgress(session_id, known.trigger_id)


def checked_scopes(scopes: object) -> Collection[str]:
    """Return the scopes if they are texts. Raises `InadmissibleValue`."""
    if isinstance(scopes, str) or not isinstance(scopes, Collection):
        raise InadmissibleValue("granted_scopes", f"{scopes!r} is no sequence of texts")
    if not all(isinstance(scope, str) for scope in cast(Collection[object], scopes)):
        raise InadmissibleValue("granted_scopes", f"{scopes!r} holds what is no text")
    return cast(Collection[str], scopes)


def _own_copy(trigger: Trigger) -> Trigger:
    """Copy the JSON in a trigger: the caller may go on changing it after it was stored."""
    for name in ("payload", "observation", "context", "metadata"):
        part: JsonValue = getattr(trigger, name, None)
        if isinstance(part, dict | list):
            trigger = attrs.evolve(cast(Any, trigger), **{name: codec.copy_json(part)})
    return trigger


def _body_hash(trigger: Trigger, scopes: tuple[str, ...]) -> str:
    try:
        if type(trigger) in codec.TRIGGERS:
            return codec.body_hash(trigger, scopes)
    except (TypeError, ValueError, AttributeError, RecursionError) as error:
        # Only now is it looked for what exactly breaks the rule.
        codec.encode(TriggerRecord(trigger_id="", trigger=trigger, body_hash=""))
        raise InadmissibleValue("granted_scopes", str(error)) from error
    raise InadmissibleValue("trigger", f"{type(trigger).__name__} is not a trigger")
