"""The protocols of planners: what an agent sets out to do, before it is asked for each step."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import attrs

from rainengine.core.projection import SessionProjection
from rainengine.core.records import (
    Action,
    AgentRef,
    ChatMessage,
    JsonObject,
    KernelEvent,
    SkillManifest,
    Trigger,
)


@attrs.frozen(kw_only=True)
class PlanningContext:
    """The run to be planned. `skills` are those that it may use, `now_ms` is Unix time."""

    trigger_id: str
    trigger: Trigger
    agent: AgentRef
    granted_scopes: tuple[str, ...]
    skills: tuple[SkillManifest, ...]
    now_ms: int


@attrs.frozen(kw_only=True)
class ProposedPlan:
    """Actions to be taken one an advance, without asking the model. Each passes the gates."""

    objective: str
    steps: tuple[Action, ...]


@attrs.frozen(kw_only=True)
class PlannerOutput:
    """How the agent's world changes as its run begins, and what is to be done in it."""

    events: tuple[KernelEvent, ...] = ()
    proposed_plan: ProposedPlan | None = None


class Planner(Protocol):
    """Plans a run when it begins, without a model."""

    def plan(self, state: SessionProjection, context: PlanningContext) -> PlannerOutput:
        """Return what follows from a trigger. Pure: it may be asked again after a crash.

        Identifiers in it should be made of `context.trigger_id`. An exception leaves the run
        without a plan.
        """
        ...


@attrs.frozen(kw_only=True)
class PlanningQuestion:
    """What a model is asked for a plan; its answer is to fit the schema, if there is one."""

    messages: tuple[ChatMessage, ...]
    response_schema: JsonObject | None = None


@runtime_checkable
class ModelPlanner(Protocol):
    """Plans a run with the help of the model, which takes the run's first step."""

    def question(
        self, state: SessionProjection, context: PlanningContext
    ) -> PlanningQuestion | None:
        """Return what to ask, or None where nothing has to be planned."""
        ...

    def plan_from(
        self, state: SessionProjection, context: PlanningContext, answer: str
    ) -> PlannerOutput:
        """Make a plan of the model's text. `ValueError` says that this cannot be done."""
        ...
