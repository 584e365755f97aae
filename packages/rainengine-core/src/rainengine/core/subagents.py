"""Sub-agents: delegated work that is done by sessions of its own, in the same store.

Theory. An order in the outbox becomes a trigger of a new session, the child, with the run that
delegated it as its parent. When the child's run ends, its result is a row of its own outbox, and
becomes a trigger of the parent's session. Each of these steps is one append under a key of its own,
so whatever is delivered twice, or by two workers, happens once. No process waits meanwhile: a child
may take a second or days, wait for people, and delegate in its turn.

Rules:

- A child has the scopes of the run that delegated it, and no others; its budgets of cost and tokens
  are those of its own engine and what was set aside for it, whichever is smaller.
- Its session's id does not tell the correlation id: who knows that can answer for the child.
- A parent is told how its child ended, also where it was refused as it was to begin. What tells of
  nothing (the agent is not there, a row is dead) ends with the delegation: after the parent's
  `EscalationPolicy.delegation_ttl_ms` its run ends, and the child, if there is one, is called off.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256
from typing import TypeAlias

import attrs

from rainengine.core.abc import (
    ORDERS,
    RESULTS,
    DelegatedResult,
    DelegationCancelled,
    DelegationOrder,
    Ledger,
    LedgerStore,
    OutboxEntry,
    OutboxPublisher,
)
from rainengine.core.codec import read_order, read_result
from rainengine.core.engine import AgentEngine
from rainengine.core.engine._requests import ROW_KEYS, Delivery
from rainengine.core.errors import (
    InadmissibleValue,
    NoSuchAgent,
    SessionNotFound,
    Undeliverable,
)
from rainengine.core.records import (
    DelegationResult,
    EnginePolicy,
    ExternalEvent,
    ParentRun,
    TriggerRecord,
)

EngineFor: TypeAlias = Callable[[Ledger, str], AgentEngine | None]
"""Makes the engine of an agent on one tenant's ledger, or None where there is no such agent."""

_MICROS = 1_000_000
_PAGE = 100
"""The run is nearly always begun by the first record of its session."""


@attrs.frozen(eq=False)
class SubAgents:
    """An `abc.OutboxPublisher` that gives delegated work to agents of the same store.

    An order for the stream `NAME` goes to the agent `NAME`, in a session of its own, as an
    `ExternalEvent` from `agent:PARENT` with the task. Give it to whatever delivers the outbox, such
    as `rainengine.runtime.Worker`, with the same `engine_for`. All that is no delegation goes to
    `publisher`, and is undeliverable without one.

    A row for an agent that is not there raises `NoSuchAgent`, to be tried again.
    """

    store: LedgerStore
    engine_for: EngineFor
    publisher: OutboxPublisher | None = None

    async def publish(self, entry: OutboxEntry) -> None:
        """Bring a row to the session that it is for. Raises `Undeliverable` and `LedgerError`."""
        if entry.topic == RESULTS or entry.topic.startswith(ORDERS):
            await self._deliver(entry)
        elif self.publisher is not None:
            await self.publisher.publish(entry)
        else:
            raise Undeliverable(f"there is no publisher for the topic {entry.topic!r}")

    async def _deliver(self, entry: OutboxEntry) -> None:
        name = entry.topic.removeprefix(ORDERS)
        try:
            row = (read_result if entry.topic == RESULTS else read_order)(entry.payload)
            if isinstance(row, DelegationOrder):
                await self._begin(entry, name, row)
            elif isinstance(row, DelegationCancelled):
                await self._call_off(entry, name, row)
            else:
                await self._hand_back(entry, row)
        except InadmissibleValue as error:
            raise Undeliverable(f"it cannot be read or stored: {error}") from error

    async def _begin(self, entry: OutboxEntry, name: str, order: DelegationOrder) -> None:
        engine = self._engine(entry, name)
        try:
            await engine.submit(_request(entry, engine, order))
        except InadmissibleValue as error:
            await self._hand_back(entry, _refusal(order, f"it could not begin: {error}"))

    async def _call_off(self, entry: OutboxEntry, name: str, order: DelegationCancelled) -> None:
        engine = self._engine(entry, name)
        run_id = await _run_of(engine.ledger, order.correlation_id)
        if run_id is not None:  # or else it never began
            child = child_of(order.correlation_id)
            await engine.cancel(child, order.reason, trigger_id=run_id)

    async def _hand_back(self, entry: OutboxEntry, result: DelegatedResult) -> None:
        trigger = DelegationResult(
            correlation_id=result.correlation_id,
            payload=result.payload,
            failed=result.failed,
            cost_micros=result.cost_micros,
            tokens=result.tokens,
        )
        request = Delivery(
            session_id=result.session_id, trigger=trigger, idempotency_key=_key(entry)
        )
        try:
            await self._engine(entry, result.agent).submit(request)
        except SessionNotFound as error:
            raise Undeliverable(f"nobody waits for it: {error}") from error

    def _engine(self, entry: OutboxEntry, name: str) -> AgentEngine:
        engine = self.engine_for(self.store.for_tenant(entry.tenant), name)
        if engine is None or engine.agent.name != name:
            raise NoSuchAgent(name)
        return engine


def child_of(correlation_id: str) -> str:
    """The id of the session that does the work of a delegation."""
    return f"delegated-{sha256(correlation_id.encode()).hexdigest()[:32]}"


async def _run_of(ledger: Ledger, correlation_id: str) -> str | None:
    """The id of the run that does the work of a delegation, among all that its session had."""
    child, after = child_of(correlation_id), 0
    while page := await ledger.read(child, after=after, limit=_PAGE):
        for stored in page:
            began = stored.record
            parent = began.parent if isinstance(began, TriggerRecord) else None
            if parent is not None and parent.correlation_id == correlation_id:
                return stored.trigger_id
        after = page[-1].sequence
    return None


def _request(entry: OutboxEntry, engine: AgentEngine, order: DelegationOrder) -> Delivery:
    task = {"task_type": order.task.task_type, "payload": order.task.payload}
    return Delivery(
        session_id=child_of(order.correlation_id),
        trigger=ExternalEvent(source=f"agent:{order.agent}", payload=task),
        idempotency_key=_key(entry),
        granted_scopes=order.granted_scopes,
        policy=_within_budget(engine.policy, order),
        parent=ParentRun(
            agent=order.agent,
            session_id=order.session_id,
            correlation_id=order.correlation_id,
            depth=order.depth,
            max_depth=order.max_depth,
            requester=order.requester,
        ),
    )


def _within_budget(policy: EnginePolicy, order: DelegationOrder) -> EnginePolicy:
    cost, tokens = policy.max_cost_per_run, policy.max_tokens_per_run
    costs = [order.budget_micros / _MICROS, *([] if cost is None else [cost])]
    counts = [count for count in (order.budget_tokens, tokens) if count is not None]
    return attrs.evolve(
        policy,
        max_cost_per_run=min(costs),
        max_tokens_per_run=min(counts) if counts else None,
    )


def _refusal(order: DelegationOrder, why: str) -> DelegatedResult:
    return DelegatedResult(
        agent=order.agent,
        session_id=order.session_id,
        correlation_id=order.correlation_id,
        payload={"stop_reason": "policy_aborted", "response": None, "detail": why[:500]},
        cost_micros=0,
        tokens=0,
        failed=True,
    )


def _key(entry: OutboxEntry) -> str:
    """The idempotency key of what a row becomes: its own, shortened to any length."""
    return f"{ROW_KEYS}{sha256(entry.key.encode()).hexdigest()}"
