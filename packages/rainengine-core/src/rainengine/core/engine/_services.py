"""What an engine gives to its steps, and one step of one run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any, TypeAlias, TypeVar, cast

import attrs

from rainengine.core.abc import (
    ActionKind,
    AnySkill,
    Clock,
    IdSource,
    LlmProvider,
    ModelPlanner,
    OutboxItem,
    Planner,
    PricedProvider,
    Retrieval,
    StreamingProvider,
)
from rainengine.core.engine._heartbeats import Heartbeats
from rainengine.core.engine._intake import Intake
from rainengine.core.engine._requests import Agent, TextDelta
from rainengine.core.engine._session import OpenSession
from rainengine.core.kernel import ContextBuilder
from rainengine.core.projection import PARKED_RUNS, Run
from rainengine.core.records import AgentProfile, EnginePolicy, Record

T = TypeVar("T")

OnDelta: TypeAlias = Callable[[TextDelta], None]
"""Takes a piece of an answer as the model makes it. Called in the engine's task: be quick."""

_ALWAYS: frozenset[ActionKind] = frozenset(
    {"respond", "yield", "continue", "plan", "call_skills", "memory_archive"}
)


def _priced(services: Services) -> PricedProvider | None:
    return services.provider if isinstance(services.provider, PricedProvider) else None


def _streaming(services: Services) -> StreamingProvider | None:
    return services.provider if isinstance(services.provider, StreamingProvider) else None


def _asking_planner(services: Services) -> ModelPlanner | None:
    return services.planner if isinstance(services.planner, ModelPlanner) else None


def _found(capability: Callable[[Services], T]) -> T:
    factory: Any = attrs.Factory(capability, takes_self=True)
    return cast(T, factory)


@attrs.frozen(kw_only=True, eq=False)
class Services:
    """What the steps of one engine use."""

    agent: Agent
    provider: LlmProvider
    skills: Mapping[str, AnySkill]
    intake: Intake
    build_context: ContextBuilder
    planner: Planner | ModelPlanner | None
    retrieval: Retrieval | None
    on_delta: OnDelta | None
    clock: Clock
    ids: IdSource
    heartbeats: Heartbeats = attrs.field(factory=Heartbeats, init=False)
    # What the provider and the planner can do is found once: to ask a protocol takes 30 µs.
    priced: PricedProvider | None = attrs.field(init=False, default=_found(_priced))
    streaming: StreamingProvider | None = attrs.field(init=False, default=_found(_streaming))
    asking_planner: ModelPlanner | None = attrs.field(init=False, default=_found(_asking_planner))


@attrs.define(eq=False)
class Step:
    """A step of a run, under its effective policy."""

    services: Services
    session: OpenSession
    run: Run
    policy: EnginePolicy

    @property
    def profile(self) -> AgentProfile:
        """The agent's profile."""
        return self.services.agent.profile

    @property
    def depth(self) -> int:
        """How many delegations led to this run."""
        return 0 if self.run.parent is None else self.run.parent.depth

    @property
    def max_depth(self) -> int:
        """How many delegations may follow each other: what is inherited only narrows."""
        own = self.profile.escalation.max_delegation_depth
        inherited = None if self.run.parent is None else self.run.parent.max_depth
        return own if inherited is None else min(own, inherited)

    def now_ms(self) -> int:
        """Unix time in milliseconds."""
        return self.services.clock.now_ms()

    @property
    def may_wait(self) -> bool:
        """Whether the session has room for this run to wait for an answer."""
        projection = self.session.projection
        known = projection.waiting(self.run.trigger_id) is not None
        return known or len(projection.parked) < PARKED_RUNS

    @cached_property
    def able(self) -> frozenset[ActionKind]:
        """The actions that can be followed now."""
        able = set(_ALWAYS)
        if self.services.retrieval is not None and self.profile.memory.semantic_retrieval_limit > 0:
            able.add("memory_search")
        if self.may_wait:
            able.add("suspend")
            if self.profile.delegates and self.depth < self.max_depth:
                able.add("delegate")
        return frozenset(able)

    async def commit(self, records: list[Record], outbox: tuple[OutboxItem, ...] = ()) -> None:
        """Append records of this run."""
        await self.session.commit(records, run=self.run, outbox=outbox)
