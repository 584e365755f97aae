"""Records of a run: how it began, what it was about, how it ended."""

from __future__ import annotations

from typing import ClassVar, Literal, TypeAlias

import attrs

from rainengine.core.records._base import KernelEvent, Record, Trigger
from rainengine.core.records._policy import AgentRef, EnginePolicy, ProviderConfig

StopReason: TypeAlias = Literal[
    "responded",
    "yielded",
    "max_steps_reached",
    "deadline_exceeded",
    "cancelled",
    "provider_failure",
    "policy_aborted",
    "suspended",
    "delegated",
]
"""Why a run stopped. `suspended` and `delegated` runs can be resumed; the others are over."""

PAUSES: frozenset[StopReason] = frozenset({"suspended", "delegated"})
"""The stop reasons of runs that can be resumed."""


@attrs.frozen(kw_only=True)
class ParentRun:
    """The run that delegated this one: its agent and session, and the id that its result goes by.

    `depth` is how many delegations led here, of at most `max_depth`. `requester` is the person who
    set the first of these runs in motion, if it was one.
    """

    agent: str
    session_id: str
    correlation_id: str
    depth: int
    max_depth: int | None = None
    requester: str | None = None


@attrs.frozen(kw_only=True)
class CallReference:
    """A tool call of a run, by the step and the call id."""

    step: int
    call_id: str
    name: str


@attrs.frozen(kw_only=True)
class TriggerRecord(Record):
    """A trigger together with the authority it came with.

    Whoever continues the run reads from here what it may do.
    `body_hash` is the SHA-256 (hex) of the RFC 8785 form of trigger and scopes.
    `resumes` is the run that waited for this answer when it came in. `requester` is the person
    behind a run that was asked for by another, where `trigger` does not tell.
    """

    kind: ClassVar[str] = "trigger"
    trigger_id: str
    trigger: Trigger
    body_hash: str
    agent: AgentRef = AgentRef()
    granted_scopes: tuple[str, ...] = ()
    policy: EnginePolicy = EnginePolicy()
    provider: ProviderConfig = ProviderConfig()
    traceparent: str | None = None
    resumes: str | None = None
    parent: ParentRun | None = None
    requester: str | None = None


@attrs.frozen(kw_only=True)
class TriggerIntent(Record):
    """What a trigger is about; from here on it is the session's active run."""

    kind: ClassVar[str] = "trigger_intent"
    trigger_id: str
    intent: str


@attrs.frozen
class KernelEventRecord(Record):
    """A change of the agent's world."""

    kind: ClassVar[str] = "kernel_event"
    event: KernelEvent


@attrs.frozen(kw_only=True)
class CancelRequest(Record):
    """Somebody wants the run to stop. Without a trigger id: whichever run is active."""

    kind: ClassVar[str] = "cancel_request"
    reason: str
    trigger_id: str | None = None


@attrs.frozen(kw_only=True)
class CoordinationClaim(Record):
    """The session's lease changed hands before the run was over."""

    kind: ClassVar[str] = "coordination_claim"
    owner: str
    fence: int
    previous_owner: str


@attrs.frozen(kw_only=True)
class LimitReached:
    """A limit of the policy that ended a run: what it allowed, and how far the run had come.

    `name` is the policy's field. Amounts are in its unit, but of cost in millionths of one.
    """

    name: str
    allowed: int
    reached: int


@attrs.frozen(kw_only=True)
class OutcomeRecord(Record):
    """How a run ended or paused, and the `limit` that ended it, if one did.

    One that was stopped lists the newest of its calls that were `done`, and all that are
    `in_doubt`.
    """

    kind: ClassVar[str] = "outcome"
    trigger_id: str
    stop_reason: StopReason
    steps_executed: int
    response: str | None = None
    detail: str | None = None
    resume_token: str | None = None
    limit: LimitReached | None = None
    done: tuple[CallReference, ...] = ()
    in_doubt: tuple[CallReference, ...] = ()
