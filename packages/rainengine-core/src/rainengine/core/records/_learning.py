"""Records of self-improvement: reflections, measured performance, tuned policies."""

from __future__ import annotations

from typing import ClassVar, Literal

import attrs

from rainengine.core.records._base import JsonObject, Record
from rainengine.core.records._policy import AgentRef
from rainengine.core.records._runs import StopReason


@attrs.frozen(kw_only=True)
class Reflection(Record):
    """A finished run in numbers. `cost_micros` is millionths of a currency unit."""

    kind: ClassVar[str] = "reflection"
    trigger_id: str
    stop_reason: StopReason
    steps: int
    tool_results: int
    tool_failures: int
    cost_micros: int
    duration_ms: int


@attrs.frozen(kw_only=True)
class SkillStatistics:
    """How the newest calls of a skill went, and how many there were in this session in all."""

    name: str
    calls: int
    failures: int
    successes: int = 0
    failure_rate: float = 0.0
    total_calls: int = 0
    total_failures: int = 0


@attrs.frozen(kw_only=True)
class ToolPerformance(Record):
    """How the skills that a run used have done so far."""

    kind: ClassVar[str] = "tool_performance"
    skills: tuple[SkillStatistics, ...]


@attrs.frozen(kw_only=True)
class StrategyPreference(Record):
    """A skill that keeps failing should be avoided where there is another way.

    `none` takes that back. `failure_rate` is that of the skill's newest calls.
    """

    kind: ClassVar[str] = "strategy_preference"
    skill: str
    preference: Literal["avoid_when_alternatives_exist", "none"]
    failure_rate: float


@attrs.frozen(kw_only=True)
class PolicyOverlay:
    """Values that stand in for the operator's; `None` leaves the operator's in force."""

    max_steps: int | None = None
    max_execution_time_ms: int | None = None
    provider_timeout_ms: int | None = None
    max_tool_timeout_ms: int | None = None
    max_parallel_skill_calls: int | None = None


@attrs.frozen(kw_only=True)
class PolicyTuning(Record):
    """A proposal to change the policy, and what became of it.

    `limit` is the field of the policy that has ended runs, of which the newest are the `evidence`,
    by their triggers; `confidence`, from 0 to 1, is their share of the runs since the first.
    `prior` and `overlay` hold the value before and after, in a rollback those that are taken back.
    """

    kind: ClassVar[str] = "policy_tuning"
    tuning_id: str
    status: Literal["proposed", "applied", "rejected_unsafe", "rolled_back"]
    reason: str
    limit: str = ""
    overlay: PolicyOverlay = PolicyOverlay()
    prior: PolicyOverlay = PolicyOverlay()
    evidence: tuple[str, ...] = ()
    confidence: float = 0.0
    rollback_condition: str = ""


@attrs.frozen(kw_only=True)
class ProfilePatch(Record):
    """A change of an agent's profile that was proposed, and what was said to it.

    `patch` has the fields that change, those of a policy in an object of their own. `widening`
    names the fields in which it would allow more to the `agent` of then, which waits for approval.
    It is `approved` by `resolved_by`, or by nobody where that need not be. The engine applies none.
    """

    kind: ClassVar[str] = "profile_patch"
    patch_id: str
    patch: JsonObject
    widens: bool
    status: Literal["proposed", "approved", "rejected"] = "proposed"
    agent: AgentRef = AgentRef()
    reason: str = ""
    widening: tuple[str, ...] = ()
    resolved_by: str = ""
