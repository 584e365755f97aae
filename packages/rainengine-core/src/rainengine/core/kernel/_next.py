"""What to do next: the heart of the kernel, as a pure function of the projection."""

from __future__ import annotations

from typing import TypeAlias

import attrs

from rainengine.core.kernel._gates import GATES, GRAPH_GATES, Finish, cancelled, closed_gate
from rainengine.core.kernel._summaries import summary_is_due
from rainengine.core.projection import Run, SessionProjection
from rainengine.core.records import Action, AgentProfile, EnginePolicy, Purpose


@attrs.frozen
class Idle:
    """Effect: nothing; no run is open and no trigger waits."""


@attrs.frozen
class Activate:
    """Effect: begin the oldest waiting trigger, or take in the answer that it is."""

    run: Run


@attrs.frozen
class Close:
    """Effect: end a run that waits for an answer."""

    run: Run
    finish: Finish


@attrs.frozen
class RunGraph:
    """Effect: carry the open tool graph to its end."""

    run: Run


@attrs.frozen
class FollowPlan:
    """Effect: take the plan's next action, without asking the model."""

    run: Run
    step: int
    action: Action


@attrs.frozen
class AskProvider:
    """Effect: ask the model, for what to do in this step or for what `purpose` says."""

    run: Run
    step: int
    purpose: Purpose = "act"


Effect: TypeAlias = Idle | Activate | Close | Finish | RunGraph | FollowPlan | AskProvider


def next_effect(
    projection: SessionProjection,
    policy: EnginePolicy,
    now_ms: int,
    profile: AgentProfile = AgentProfile(),  # noqa: B008  # frozen
    *,
    plans: bool = False,
) -> Effect:
    """Decide the session's next effect. `policy` is the active run's effective policy.

    `plans`: there is a planner that asks the model. A run's last step is never spent on that, nor
    on a summary.
    """
    run = projection.run
    if run is None:
        return _between_runs(projection, now_ms)
    gates = GATES if run.graph is None else GRAPH_GATES
    finish = closed_gate(gates, run, projection, policy, now_ms)
    if finish is not None:
        return finish
    if run.graph is not None:
        return RunGraph(run)
    step = run.steps + 1
    if run.plan is not None and not run.plan_broken:
        return FollowPlan(run, step, run.plan.steps[run.plan.position])
    purpose = _purpose(projection, run, profile, plans=plans) if step < policy.max_steps else "act"
    return AskProvider(run, step, purpose)


def _between_runs(projection: SessionProjection, now_ms: int) -> Effect:
    over = projection.over(now_ms)
    if over is not None:
        return Close(over, cancelled(over.cancel_reason or end_of_wait(over)))
    return Activate(projection.queue[0]) if projection.queue else Idle()


def end_of_wait(run: Run) -> str:
    """Say why a run ends that has waited for too long."""
    return "nobody answered in time" if run.delegation is None else "no result came in time"


def _purpose(
    projection: SessionProjection, run: Run, profile: AgentProfile, *, plans: bool
) -> Purpose:
    if plans and not run.planned and run.plan is None:
        return "plan"
    if not run.unsummarised and summary_is_due(projection, profile.memory):
        return "summarise"
    return "act"
