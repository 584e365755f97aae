"""Actions: what a model may decide."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import attrs

from rainengine.core.records._base import Action, JsonObject, JsonValue
from rainengine.core.records._policy import RetryPolicy


@attrs.frozen(kw_only=True)
class PlannedSkillCall:
    """One tool call of a graph.

    It starts once every call named in `depends_on` has succeeded; a higher `priority` goes first.
    `opaque` is the provider's own: it comes back to it with the call whenever the call is shown.
    """

    call_id: str
    name: str
    args: JsonObject
    priority: int = 0
    depends_on: tuple[str, ...] = ()
    retry_policy: RetryPolicy | None = None
    dry_run: bool = False
    opaque: str | None = None


@attrs.frozen
class Respond(Action):
    """Answer and end the run."""

    content: str
    type: Literal["respond"] = attrs.field(default="respond", init=False, repr=False)


@attrs.frozen
class Yield(Action):
    """End the run without an answer."""

    reason: str = ""
    type: Literal["yield"] = attrs.field(default="yield", init=False, repr=False)


@attrs.frozen
class Continue(Action):
    """Ask again in the next step."""

    reason: Literal["tool_result_appended", "model_requested"] = "model_requested"
    type: Literal["continue"] = attrs.field(default="continue", init=False, repr=False)


@attrs.frozen(kw_only=True)
class Plan(Action):
    """Think before acting. `confidence` lies between 0 and 1."""

    summary: str
    candidate_actions: tuple[str, ...] = ()
    confidence: float
    type: Literal["plan"] = attrs.field(default="plan", init=False, repr=False)


def _as_tuple(calls: Iterable[PlannedSkillCall]) -> tuple[PlannedSkillCall, ...]:
    return tuple(calls)


@attrs.frozen
class CallSkills(Action):
    """Run one graph of tool calls."""

    calls: tuple[PlannedSkillCall, ...] = attrs.field(converter=_as_tuple)
    type: Literal["call_skills"] = attrs.field(default="call_skills", init=False, repr=False)


@attrs.frozen(kw_only=True)
class MemorySearch(Action):
    """Search the session's memory."""

    query: str
    limit: int = 8
    type: Literal["memory_search"] = attrs.field(default="memory_search", init=False, repr=False)


@attrs.frozen
class MemoryArchive(Action):
    """Keep a note in the session's memory."""

    content: str
    type: Literal["memory_archive"] = attrs.field(default="memory_archive", init=False, repr=False)


@attrs.frozen(kw_only=True)
class Suspend(Action):
    """Wait for a person, who may let `pending_calls` run."""

    reason: str
    pending_calls: tuple[PlannedSkillCall, ...] = ()
    type: Literal["suspend"] = attrs.field(default="suspend", init=False, repr=False)


@attrs.frozen(kw_only=True)
class DelegationTarget:
    """Where delegated work goes: a stream and, if named, one worker of it."""

    stream: str
    worker: str | None = None


@attrs.frozen(kw_only=True)
class DelegatedTask:
    """The work that is handed over."""

    task_type: str
    payload: JsonValue


@attrs.frozen(kw_only=True)
class Delegate(Action):
    """Hand work to another worker and wait for its result."""

    target: DelegationTarget
    task: DelegatedTask
    type: Literal["delegate"] = attrs.field(default="delegate", init=False, repr=False)
