"""Workloads of what goes on around actions: plans, summaries, memory, retries, reservations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import attrs

from rainengine.core.abc import (
    MemoryHit,
    PlannerOutput,
    PlanningContext,
    PlanningQuestion,
    ProposedPlan,
    ProviderDecision,
    ProviderRequest,
    Usage,
)
from rainengine.core.engine import Agent, AgentEngine
from rainengine.core.errors import ProviderError
from rainengine.core.inmemory import PricedScriptedProvider, ScriptedProvider, Turn
from rainengine.core.projection import SessionProjection
from rainengine.core.records import (
    Action,
    AgentProfile,
    ChatMessage,
    EnginePolicy,
    GoalCreated,
    MemoryArchive,
    MemoryPolicy,
    MemorySearch,
    Plan,
    Respond,
    TextPart,
    TokenPrice,
    WakeRequested,
)
from rainengine.core.testing._differential._process import Step, Workload
from rainengine.core.testing._differential._workloads import (
    QUICK,
    by_step,
    call,
    calls,
    outside,
    request,
)

_FAR_AHEAD_MS = 10**13


def _by_purpose(act: Sequence[Turn], **others: Turn) -> Callable[[ProviderRequest], Turn]:
    """Answer step n with turn n, the last one for ever, unless something else is asked for."""

    def answer(asked: ProviderRequest) -> Turn:
        if asked.purpose != "act":
            return others[asked.purpose]
        return act[min(asked.context.step, len(act)) - 1]

    return answer


@attrs.frozen
class _Planner:
    """Plans the same for each run, with a goal and a wake."""

    steps: tuple[Action, ...]

    def plan(self, state: SessionProjection, context: PlanningContext) -> PlannerOutput:
        goal = GoalCreated(goal_id=f"goal of {context.trigger_id}", title="get it done")
        wake = WakeRequested(
            wake_id=f"wake of {context.trigger_id}", due_at_ms=_FAR_AHEAD_MS, reason="look again"
        )
        plan = ProposedPlan(objective="get it done", steps=self.steps)
        return PlannerOutput(events=(goal, wake), proposed_plan=plan)


@attrs.frozen
class _AskingPlanner:
    """Plans what the model says to be planned."""

    steps: tuple[Action, ...]

    def question(self, state: SessionProjection, context: PlanningContext) -> PlanningQuestion:
        return PlanningQuestion(messages=(ChatMessage("user", (TextPart("what now?"),)),))

    def plan_from(
        self, state: SessionProjection, context: PlanningContext, answer: str
    ) -> PlannerOutput:
        return PlannerOutput(proposed_plan=ProposedPlan(objective=answer, steps=self.steps))


_STEPS: tuple[Action, ...] = (
    calls(call("pay"), call("post")),
    MemoryArchive("it was paid"),
    Plan(summary="half of it", confidence=0.8),
    calls(call("pay", "pay_2")),
)

PLANNED = Workload(
    name="plans",
    script=[Step("submit", request("first")), Step("run", request("second"))],
    provider=by_step(Respond("done")),
    skills=outside,
    engine=partial(AgentEngine, planner=_Planner(_STEPS)),
)

ASKED_FOR_A_PLAN = Workload(
    name="plans of a model",
    script=[Step("run", request("plan"))],
    provider=lambda: ScriptedProvider(
        _by_purpose([Respond("never")], plan=Respond("pay, then say so"))
    ),
    skills=outside,
    engine=partial(AgentEngine, planner=_AskingPlanner((*_STEPS, Respond("done as planned")))),
)


@attrs.frozen
class _Memory:
    """Finds the first record, whatever is looked for."""

    async def search(self, session_id: str, query: str, limit: int) -> list[MemoryHit]:
        return [MemoryHit(sequence=1, text=f"something about {query}", score=1.0)]


REMEMBERED = Workload(
    name="memory and summaries",
    script=[Step("run", request(f"message {number}")) for number in range(4)],
    provider=lambda: ScriptedProvider(
        _by_purpose(
            [MemorySearch(query="tea"), calls(call("pay")), MemoryArchive("tea"), Respond("tea")],
            summarise=Respond("it was about tea"),
        )
    ),
    skills=outside,
    engine=partial(
        AgentEngine,
        retrieval=_Memory(),
        agent=Agent(profile=AgentProfile(memory=MemoryPolicy(max_recent_items=6))),
    ),
)

_BUSY = ProviderError("the model is busy", kind="rate_limited", retryable=True)


def _paid(action: Action) -> ProviderDecision:
    return ProviderDecision(action=action, usage=Usage(input_tokens=100, output_tokens=10))


RESERVED = Workload(
    name="retries under a budget",
    script=[Step("run", request("first")), Step("run", request("second"))],
    provider=lambda: PricedScriptedProvider(
        _by_purpose([_BUSY, _BUSY, _paid(calls(call("pay"))), _BUSY, _paid(Respond("done"))]),
        TokenPrice(input_micros=1_000_000, output_micros=3_000_000),
    ),
    skills=outside,
    engine=partial(AgentEngine, policy=EnginePolicy(provider_retry=QUICK, max_cost_per_run=1.0)),
)

THINKING: tuple[Workload, ...] = (PLANNED, ASKED_FOR_A_PLAN, REMEMBERED, RESERVED)
"""Part of `WORKLOADS`."""
