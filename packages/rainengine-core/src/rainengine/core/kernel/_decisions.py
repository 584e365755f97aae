"""What follows from a model's decision."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any, TypeAlias

import attrs

from rainengine.core.kernel._gates import Finish
from rainengine.core.records import (
    Action,
    CallSkills,
    Continue,
    Delegate,
    Deliberation,
    EnginePolicy,
    KernelEventRecord,
    MemoryArchive,
    MemoryArchived,
    MemorySearch,
    ObservationAppended,
    Plan,
    PlannedSkillCall,
    Record,
    Respond,
    Suspend,
    ToolExecutionGraph,
    Yield,
)

READY_TO_ACT = 0.7
_NAME_LIMIT = 256


@attrs.frozen(kw_only=True)
class Followed:
    """What follows: records, and at most one of an outcome, a graph, a wait and a search."""

    records: tuple[Record, ...] = ()
    finish: Finish | None = None
    response: str | None = None
    graph: ToolExecutionGraph | None = None
    waits: Suspend | Delegate | None = None
    search: MemorySearch | None = None


Complaint: TypeAlias = Callable[[Any, EnginePolicy], str | None]


def complaint(
    action: object, policy: EnginePolicy, able: Collection[str], delegates: Collection[str] = ()
) -> str | None:
    """Return why a decision cannot be followed, or None.

    `able` are the types of action that the engine can follow, `delegates` the streams that the
    agent may delegate to.
    """
    if not isinstance(action, Action):
        return f"{type(action).__name__} is not an action"
    check = _COMPLAINTS.get(type(action))
    if check is None or getattr(action, "type", None) not in able:
        return f"this engine cannot follow a {type(action).__name__} here"
    if isinstance(action, Delegate) and action.target.stream not in delegates:
        return f"the agent may not delegate to {action.target.stream!r:.200}"
    return check(action, policy)


def _no_complaint(action: Action, policy: EnginePolicy) -> None:
    return None


def _about_search(action: MemorySearch, policy: EnginePolicy) -> str | None:
    if not action.query.strip():
        return "there is nothing to search for"
    return None if action.limit >= 1 else f"a search cannot find {action.limit} memories"


def _about_note(action: MemoryArchive, policy: EnginePolicy) -> str | None:
    return None if action.content.strip() else "there is nothing to keep"


def _about_suspension(action: Suspend, policy: EnginePolicy) -> str | None:
    return _about_calls(CallSkills(action.pending_calls), policy) if action.pending_calls else None


def _about_plan(action: Plan, policy: EnginePolicy) -> str | None:
    if 0 <= action.confidence <= 1:
        return None
    return f"confidence has to lie between 0 and 1, not at {action.confidence}"


def _about_calls(action: CallSkills, policy: EnginePolicy) -> str | None:
    calls = action.calls
    if not calls:
        return "the list of calls is empty"
    if len(calls) > policy.max_ready_tool_nodes:
        return f"{len(calls)} calls in one step, the limit is {policy.max_ready_tool_nodes}"
    long = [text for call in calls for text in (call.call_id, call.name) if len(text) > _NAME_LIMIT]
    if long:
        return f"an id or name has {len(long[0])} characters, the limit is {_NAME_LIMIT}"
    named = [call.call_id for call in calls if call.call_id]
    twice = sorted({call_id for call_id in named if named.count(call_id) > 1})
    if twice:
        return f"call ids stand twice: {', '.join(twice)}"
    unknown = sorted({d for call in calls for d in call.depends_on if d not in named})
    if unknown:
        return f"depends_on names calls that are not there: {', '.join(unknown)}"
    return _about_cycle(calls) or _about_retries(calls)


def _about_cycle(calls: Sequence[PlannedSkillCall]) -> str | None:
    waiting = {call.call_id: set(call.depends_on) for call in calls}
    while waiting:
        free = [call_id for call_id, needs in waiting.items() if not needs & waiting.keys()]
        if not free:
            return f"calls wait for each other: {', '.join(sorted(waiting))}"
        for call_id in free:
            del waiting[call_id]
    return None


def _about_retries(calls: Sequence[PlannedSkillCall]) -> str | None:
    for call in calls:
        retry = call.retry_policy
        if retry is not None and not (
            retry.max_attempts >= 1
            and min(retry.initial_interval_ms, retry.max_interval_ms) >= 0
            and retry.backoff_multiplier >= 1
        ):
            return f"the retry policy of {call.call_id or call.name} cannot be followed: {retry}"
    return None


def with_ids(calls: Sequence[PlannedSkillCall]) -> tuple[PlannedSkillCall, ...]:
    """Give an id to each call that came without one, unlike any other in the graph."""
    taken = {call.call_id for call in calls}
    named: list[PlannedSkillCall] = []
    for number, call in enumerate(calls, start=1):
        call_id = call.call_id or f"call_{number}"
        while not call.call_id and call_id in taken:
            call_id += "_"
        named.append(call if call.call_id else attrs.evolve(call, call_id=call_id))
        taken.add(call_id)
    return tuple(named)


def _respond(action: Respond, trigger_id: str, step: int) -> Followed:
    return Followed(finish=Finish("responded", ""), response=action.content)


def _yield(action: Yield, trigger_id: str, step: int) -> Followed:
    return Followed(finish=Finish("yielded", action.reason))


def _continue(action: Continue, trigger_id: str, step: int) -> Followed:
    return Followed()


def _plan(action: Plan, trigger_id: str, step: int) -> Followed:
    deliberation = Deliberation(
        step=step,
        summary=action.summary,
        candidate_actions=action.candidate_actions,
        confidence=action.confidence,
        status="ready_to_act" if action.confidence >= READY_TO_ACT else "needs_refinement",
    )
    return Followed(records=(deliberation,))


def _call_skills(action: CallSkills, trigger_id: str, step: int) -> Followed:
    return Followed(graph=graph_of(action.calls, trigger_id, step))


def graph_of(calls: Sequence[PlannedSkillCall], trigger_id: str, step: int) -> ToolExecutionGraph:
    """The graph of a step's calls; each of them has an id in it."""
    return ToolExecutionGraph(graph_id=f"{trigger_id}:{step}", step=step, calls=with_ids(calls))


def _wait(action: Suspend | Delegate, trigger_id: str, step: int) -> Followed:
    return Followed(waits=action)


def _search(action: MemorySearch, trigger_id: str, step: int) -> Followed:
    return Followed(search=action)


def _archive(action: MemoryArchive, trigger_id: str, step: int) -> Followed:
    note_id = f"{trigger_id}:{step}"
    observed = ObservationAppended(
        observation_id=note_id, source="memory:archive", content=action.content
    )
    kept = MemoryArchived(note_id=note_id, content=action.content)
    return Followed(records=(KernelEventRecord(kept), KernelEventRecord(observed)))


_COMPLAINTS: dict[type[Action], Complaint] = {
    Respond: _no_complaint,
    Yield: _no_complaint,
    Continue: _no_complaint,
    Plan: _about_plan,
    CallSkills: _about_calls,
    MemorySearch: _about_search,
    MemoryArchive: _about_note,
    Suspend: _about_suspension,
    Delegate: _no_complaint,
}

_FOLLOW: dict[type[Action], Callable[[Any, str, int], Followed]] = {
    Respond: _respond,
    Yield: _yield,
    Continue: _continue,
    Plan: _plan,
    CallSkills: _call_skills,
    MemorySearch: _search,
    MemoryArchive: _archive,
    Suspend: _wait,
    Delegate: _wait,
}


def follow(action: Action, trigger_id: str, step: int) -> Followed:
    """Return what follows from an action about which there is no `complaint`."""
    return _FOLLOW[type(action)](action, trigger_id, step)
