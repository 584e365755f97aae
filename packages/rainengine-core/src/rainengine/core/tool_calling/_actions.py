"""Actions other than answering and calling skills, as tools that a model can call."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import attrs

from rainengine.core.abc import ActionKind
from rainengine.core.records import (
    Action,
    Continue,
    Delegate,
    DelegatedTask,
    DelegationTarget,
    JsonObject,
    MemoryArchive,
    MemorySearch,
    Plan,
    PlannedSkillCall,
    Suspend,
    Yield,
)
from rainengine.core.tool_calling._names import RESERVED

Calls: TypeAlias = tuple[PlannedSkillCall, ...]


@attrs.frozen(kw_only=True)
class Tool:
    """A tool as a model is shown it; `parameters` is the JSON Schema of an object."""

    name: str
    description: str
    parameters: JsonObject


@attrs.frozen(kw_only=True)
class ActionTool:
    """An action as a tool. `build` raises where the arguments do not make one."""

    description: str
    properties: Mapping[str, JsonObject]
    required: tuple[str, ...]
    build: Callable[[dict[str, Any], Calls], Action]

    def as_tool(self, kind: str) -> Tool:
        """Return what a model is shown."""
        parameters: JsonObject = {
            "type": "object",
            "properties": dict(self.properties),
            "required": list(self.required),
            "additionalProperties": False,
        }
        return Tool(name=RESERVED + kind, description=self.description, parameters=parameters)


def action_tools(actions: frozenset[ActionKind]) -> tuple[Tool, ...]:
    """Return the reserved tools for these actions, in a fixed order."""
    return tuple(tool.as_tool(kind) for kind, tool in ACTION_TOOLS.items() if kind in actions)


def _text(description: str) -> JsonObject:
    return {"type": "string", "description": description}


def _plan(args: dict[str, Any], _: Calls) -> Action:
    return Plan(
        summary=args["summary"],
        candidate_actions=tuple(args.get("candidate_actions", ())),
        confidence=args["confidence"],
    )


def _delegate(args: dict[str, Any], _: Calls) -> Action:
    return Delegate(
        target=DelegationTarget(stream=args["stream"], worker=args.get("worker")),
        task=DelegatedTask(task_type=args["task_type"], payload=args["payload"]),
    )


ACTION_TOOLS: Mapping[ActionKind, ActionTool] = {
    "yield": ActionTool(
        description="End this run without an answer, because nothing is left to do or to say.",
        properties={"reason": _text("why nothing is left to do")},
        required=(),
        build=lambda args, _: Yield(args.get("reason", "")),
    ),
    "continue": ActionTool(
        description="Take another step before you decide.",
        properties={},
        required=(),
        build=lambda args, _: Continue(),
    ),
    "plan": ActionTool(
        description="Think before you act: write down what you mean to do. You are asked again.",
        properties={
            "summary": _text("what you mean to do, and why"),
            "candidate_actions": {
                "type": "array",
                "items": {"type": "string"},
                "description": "what might be done next, best first",
            },
            "confidence": {
                "type": "number",
                "minimum": 0,
                "maximum": 1,
                "description": "how sure you are; from 0.7 on you mean to act on it",
            },
        },
        required=("summary", "confidence"),
        build=_plan,
    ),
    "memory_search": ActionTool(
        description="Search this session's memory, which reaches further back than what you see.",
        properties={
            "query": _text("what to look for"),
            "limit": {
                "type": "integer",
                "minimum": 1,
                "description": "how many hits; 8 if left out",
            },
        },
        required=("query",),
        build=lambda args, _: MemorySearch(query=args["query"], limit=args.get("limit", 8)),
    ),
    "memory_archive": ActionTool(
        description="Keep a note in this session's memory, to be found by a later search.",
        properties={"content": _text("the note")},
        required=("content",),
        build=lambda args, _: MemoryArchive(args["content"]),
    ),
    "suspend": ActionTool(
        description=(
            "Wait for a person. Tools that you call in the same answer run only once they agree."
        ),
        properties={"reason": _text("what the person has to decide")},
        required=("reason",),
        build=lambda args, calls: Suspend(reason=args["reason"], pending_calls=calls),
    ),
    "delegate": ActionTool(
        description="Hand work to another worker, and wait for its result.",
        properties={
            "stream": _text("the stream that the worker listens to"),
            "worker": _text("one worker of the stream, if it has to be that one"),
            "task_type": _text("the kind of work"),
            "payload": {"type": "object", "description": "what the worker has to know"},
        },
        required=("stream", "task_type", "payload"),
        build=_delegate,
    ),
}
"""By the action's kind."""
