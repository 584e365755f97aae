"""Plans: made when a run begins, and followed one action a step without asking the model.

A plan moves in the append of the action that it led to. One whose action cannot be followed, or
whose calls fail, is given up, and the model is asked how to go on.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator, Sequence

import attrs

from rainengine.core import codec
from rainengine.core.abc import ModelPlanner, PlannerOutput
from rainengine.core.engine import _requesting as requesting
from rainengine.core.engine._delegations import requester
from rainengine.core.engine._services import Services, Step
from rainengine.core.engine._wakes import admitted
from rainengine.core.errors import InadmissibleValue
from rainengine.core.kernel import (
    PLAN_BROKEN,
    Followed,
    FollowPlan,
    complaint,
    follow,
    wake_refusal,
)
from rainengine.core.projection import Run, SessionProjection
from rainengine.core.records import (
    ArtifactProduced,
    AskingRun,
    ExecutionPlan,
    GoalCreated,
    GoalStatusChanged,
    HumanInputRequested,
    KernelEvent,
    KernelEventRecord,
    ObservationAppended,
    Record,
    RelationshipObserved,
    ResourceRegistered,
    TaskAbandoned,
    TaskBlocked,
    TaskClaimed,
    TaskCompleted,
    TaskFailed,
    TaskPlanned,
    WakePolicy,
    WakeRequested,
    WakeScheduled,
)

_MOST = 256
"""Steps of a plan, and events that come with it."""

_PLANNED: frozenset[type[KernelEvent]] = frozenset(
    {
        ArtifactProduced,
        GoalCreated,
        GoalStatusChanged,
        HumanInputRequested,
        ObservationAppended,
        RelationshipObserved,
        ResourceRegistered,
        TaskAbandoned,
        TaskBlocked,
        TaskClaimed,
        TaskCompleted,
        TaskFailed,
        TaskPlanned,
        WakeRequested,
    }
)
"""Events that change the agent's world. All others tell of what the engine did, and only it may."""

_REASON_CHARACTERS = 500
_log = logging.getLogger("rainengine.core")


def plan_at_start(services: Services, projection: SessionProjection, run: Run) -> list[Record]:
    """Return what the planner makes of a run that begins, if it needs no model for that."""
    planner = services.planner
    if planner is None or isinstance(planner, ModelPlanner):
        return []
    context = requesting.planning_context(services, projection, run)
    try:
        return _records(services, projection, run, planner.plan(projection, context))
    except Exception:  # noqa: BLE001  # the host's code; the run goes on without a plan
        _log.exception("the planner failed on a %s", type(run.trigger).__name__)
        return []


def plan_from(step: Step, answer: str) -> list[Record] | str:
    """Return the records of a plan that the model helped to make, or why there is none."""
    planner, projection = step.services.asking_planner, step.session.projection
    if planner is None:
        return "there is no planner any more"
    context = requesting.planning_context(step.services, projection, step.run)
    try:
        output = planner.plan_from(projection, context, answer)
        return _records(step.services, projection, step.run, output)
    except Exception as error:  # noqa: BLE001  # the host's code
        return f"{type(error).__name__}: {codec.shown(error, str)}"


def _records(
    services: Services, projection: SessionProjection, run: Run, output: PlannerOutput
) -> list[Record]:
    proposed = output.proposed_plan
    records = _events(services, projection, run, output.events)
    if proposed is not None and proposed.steps:
        if len(proposed.steps) > _MOST:
            raise InadmissibleValue("steps", f"a plan of {len(proposed.steps)} steps is too long")
        plan_id, steps = f"{run.trigger_id}:plan", tuple(proposed.steps)
        records.append(ExecutionPlan(plan_id=plan_id, objective=proposed.objective, steps=steps))
    cap = services.intake.backing.ledger.max_payload_bytes
    return [codec.read_back(record, cap=cap) for record in records]


def _events(
    services: Services, projection: SessionProjection, run: Run, events: Sequence[KernelEvent]
) -> list[Record]:
    if len(events) > _MOST:
        raise InadmissibleValue("events", f"{len(events)} events are too many")
    strange = [type(event).__name__ for event in events if type(event) not in _PLANNED]
    if strange:
        raise InadmissibleValue("events", f"a {strange[0]} is not for a planner to tell of")
    wakes = [event for event in events if isinstance(event, WakeRequested)]
    scheduled = iter(_scheduled(services, projection, run, wakes))
    taken = (next(scheduled) if isinstance(event, WakeRequested) else event for event in events)
    return [KernelEventRecord(event) for event in taken if event is not None]


def _scheduled(
    services: Services, projection: SessionProjection, run: Run, asked: Sequence[WakeRequested]
) -> Iterator[WakeScheduled | None]:
    """Turn each wake that is asked for into one that is scheduled, for this agent, if it may be."""
    policy, more = services.agent.profile.wake, set[str]()
    for event in asked:
        wake = admitted(_wake_of(services, run, event))
        refused = _refusal(projection, policy, run, event.wake_id, more)
        if refused is not None:
            _log.warning("wake %r was not scheduled: %s", event.wake_id, refused)
            yield None
            continue
        more.add(event.wake_id)
        yield wake


def _refusal(
    projection: SessionProjection, policy: WakePolicy, run: Run, wake_id: str, more: Collection[str]
) -> str | None:
    if run.parent is not None:
        return "a run that was delegated is not woken again"
    return wake_refusal(projection, policy, wake_id, more=more)


def _wake_of(services: Services, run: Run, asked: WakeRequested) -> WakeScheduled:
    own = run.policy == services.intake.policy
    return WakeScheduled(
        wake_id=asked.wake_id,
        due_at_ms=asked.due_at_ms,
        reason=asked.reason,
        granted_scopes=run.granted_scopes,
        agent=run.agent.name,
        asked_by=AskingRun(policy=None if own else run.policy, requester=requester(run)),
    )


def next_of_plan(step: Step, effect: FollowPlan) -> tuple[list[Record], Followed]:
    """Return what the plan's next action leads to, and how the plan stands then."""
    plan = step.run.plan
    if plan is None:
        return [], Followed()
    refused = complaint(effect.action, step.policy, step.able, step.profile.delegates)
    if refused is not None:
        _log.warning("plan %r is given up: %s", plan.plan_id, refused)
        return [given_up(plan, effect.step, refused)], Followed()
    position = plan.position + 1
    last = position == len(plan.steps)
    moved = attrs.evolve(
        plan,
        steps=(),
        position=position,
        step=effect.step,
        status="completed" if last else "active",
    )
    followed = follow(effect.action, step.run.trigger_id, effect.step)
    return [moved, *followed.records], followed


def broken_plan(run: Run) -> Sequence[Record]:
    """Return the record that gives a plan up whose calls have failed, if there is such a plan."""
    if run.plan is None or not run.plan_broken:
        return ()
    return (given_up(run.plan, run.steps, PLAN_BROKEN),)


def given_up(plan: ExecutionPlan, number: int, reason: str) -> ExecutionPlan:
    """Return the record that gives a plan up in a step."""
    reason = codec.clean_text(reason)[:_REASON_CHARACTERS]
    return attrs.evolve(plan, steps=(), step=number, status="abandoned", reason=reason)
