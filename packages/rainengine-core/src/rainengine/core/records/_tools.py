"""Records of tool graphs: the graph, its nodes' progress, validations, calls and results."""

from __future__ import annotations

from typing import ClassVar, Literal, TypeAlias

import attrs

from rainengine.core.errors import FailureKind
from rainengine.core.records._actions import PlannedSkillCall
from rainengine.core.records._base import JsonValue, Record
from rainengine.core.records._policy import EffectClass

NodeStatus: TypeAlias = Literal[
    "queued", "validated", "started", "succeeded", "failed", "skipped", "timed_out", "in_doubt"
]


@attrs.frozen(kw_only=True)
class ToolExecutionGraph(Record):
    """The tool calls of one step, with call ids that are unique within it.

    Where a person let them run, `approved_versions` are those that their skills had then, each with
    a digest of its manifest, one a call, empty for a skill that was not there.
    """

    kind: ClassVar[str] = "tool_execution_graph"
    graph_id: str
    step: int
    calls: tuple[PlannedSkillCall, ...]
    approved_versions: tuple[str, ...] = ()

    @property
    def approved(self) -> bool:
        """Whether a person let them run."""
        return bool(self.approved_versions)


@attrs.frozen(kw_only=True)
class NodeCheckpoint:
    """The statuses that one node went through in this append, in order."""

    call_id: str
    skill: str
    statuses: tuple[NodeStatus, ...]
    attempt: int = 0
    detail: str | None = None


@attrs.frozen(kw_only=True)
class ToolNodeCheckpoint(Record):
    """Progress of the nodes of a graph that changed together."""

    kind: ClassVar[str] = "tool_node_checkpoint"
    graph_id: str
    step: int
    nodes: tuple[NodeCheckpoint, ...]


@attrs.frozen(kw_only=True)
class InputCheck:
    """Whether one call's arguments fit the skill's schema."""

    call_id: str
    skill: str
    valid: bool
    errors: tuple[str, ...] = ()


@attrs.frozen(kw_only=True)
class SkillInputValidation(Record):
    """The arguments of a graph's calls were checked."""

    kind: ClassVar[str] = "skill_input_validation"
    graph_id: str
    checks: tuple[InputCheck, ...]


@attrs.frozen(kw_only=True)
class IssuedCall:
    """A call as it is handed to its skill; the key is the same on every attempt."""

    call_id: str
    name: str
    skill_version: str
    effects: EffectClass
    idempotency_key: str


@attrs.frozen(kw_only=True)
class ToolCalls(Record):
    """Calls are about to start for the first time."""

    kind: ClassVar[str] = "tool_call"
    graph_id: str
    calls: tuple[IssuedCall, ...]


@attrs.frozen(kw_only=True)
class ToolFailure:
    """Why a call has no value."""

    kind: FailureKind
    message: str


@attrs.frozen(kw_only=True)
class ToolResult(Record):
    """What came of a call: a value or a failure."""

    kind: ClassVar[str] = "tool_result"
    graph_id: str
    call_id: str
    name: str
    value: JsonValue = None
    failure: ToolFailure | None = None
    attempts: int = 1
    duration_ms: int = 0
