"""What goes into an advance and what comes out of it."""

from __future__ import annotations

import attrs

from rainengine.core.errors import InadmissibleValue
from rainengine.core.records import (
    AgentProfile,
    AgentRef,
    CallReference,
    EnginePolicy,
    KernelEvent,
    OutcomeRecord,
    ParentRun,
    ProviderConfig,
    StopReason,
    Trigger,
)

WAKE_KEYS = "wake:"
ROW_KEYS = "outbox:"
_OWN_KEYS = (WAKE_KEYS, ROW_KEYS)
"""How the keys of triggers begin that the engine makes itself: who knew one could pre-empt it."""


@attrs.frozen(kw_only=True)
class Agent:
    """Who an engine is: a name, a version and a profile. Each trigger names it."""

    name: str = "default"
    version: str = "1"
    profile: AgentProfile = AgentProfile()

    @property
    def ref(self) -> AgentRef:
        """The name and version as a trigger records them."""
        return AgentRef(name=self.name, version=self.version)


@attrs.frozen(kw_only=True)
class ProcessRequest:
    """Something happened: bring it to the session and take a step.

    `granted_scopes` is what the caller may do; an agent's default scopes are added by the engine.
    `parent` is the run that delegated this one: it then has no scopes but `granted_scopes`.
    The same `idempotency_key` again gives the recorded outcome, or goes on with the run; those that
    begin with `wake:` or `outbox:` are the engine's own, and refused.
    `wait_ms` is how long to wait where that run is being worked on elsewhere.
    """

    session_id: str
    trigger: Trigger
    idempotency_key: str | None = None
    granted_scopes: tuple[str, ...] = ()
    policy: EnginePolicy | None = None
    provider: ProviderConfig | None = None
    parent: ParentRun | None = None
    wait_ms: int = 30_000


@attrs.frozen(kw_only=True)
class Delivery(ProcessRequest):
    """A request that the engine makes of a row of the outbox, under a key of its own."""


def check_key(request: ProcessRequest) -> None:
    """Raise `InadmissibleValue` where a caller's key could be in the way of the engine's own."""
    key: object = request.idempotency_key
    if isinstance(request, Delivery) or not isinstance(key, str):
        return
    for begin in _OWN_KEYS:
        if key.startswith(begin):
            raise InadmissibleValue("idempotency_key", f"{begin!r} begins keys of the engine's own")


@attrs.frozen(kw_only=True)
class ContinueRequest:
    """Take the session's next step. What the run may do stands in its trigger's record."""

    session_id: str


@attrs.frozen(kw_only=True)
class EngineOutcome:
    """How a run ended or paused. `idempotent_replay`: it had ended before this request came.

    One that was stopped lists the newest of its calls that were `done`, and all `in_doubt`.
    """

    trigger_id: str
    stop_reason: StopReason
    response: str | None
    detail: str | None
    steps_executed: int
    idempotent_replay: bool
    resume_token: str | None
    done: tuple[CallReference, ...] = ()
    in_doubt: tuple[CallReference, ...] = ()

    @classmethod
    def of(cls, record: OutcomeRecord, *, replay: bool = False) -> EngineOutcome:
        """The outcome that a record tells of."""
        return cls(
            trigger_id=record.trigger_id,
            stop_reason=record.stop_reason,
            response=record.response,
            detail=record.detail,
            steps_executed=record.steps_executed,
            idempotent_replay=replay,
            resume_token=record.resume_token,
            done=record.done,
            in_doubt=record.in_doubt,
        )


@attrs.frozen(kw_only=True)
class TextDelta:
    """A piece of an answer's text, told as the model makes it and stored nowhere.

    A call that is made again is another step, or after a crash the same one, told from its start.
    `attempt` counts from 1 within a call: another one voids what the ones before it told.
    """

    session_id: str
    trigger_id: str
    step: int
    text: str
    attempt: int = 1


@attrs.frozen(kw_only=True)
class StateDelta:
    """Ids of what an advance changed in the agent's world."""

    created_goal_ids: tuple[str, ...] = ()
    updated_task_ids: tuple[str, ...] = ()
    observation_ids: tuple[str, ...] = ()
    artifact_ids: tuple[str, ...] = ()
    delegation_correlation_ids: tuple[str, ...] = ()


@attrs.frozen(kw_only=True)
class WakeRequest:
    """The agent asked to be woken. `due_at_ms` is Unix time."""

    wake_id: str
    due_at_ms: int
    reason: str


@attrs.frozen(kw_only=True)
class AdvanceResult:
    """What one advance did. Without an outcome the run goes on: continue it.

    `trigger_id` is the request's own trigger, or the one that was worked on;
    `outcome.trigger_id` may be another's, where an earlier run had to be finished first.
    Where a run went on with an answer (an approval, say), it is the run's; `answer_id` is then
    that of the answer.
    `waiting` triggers, and runs that were stopped while they waited for an answer, have their turn
    after the run that was worked on.
    `idle`: nothing was left to do, and `outcome` is the session's last one.
    """

    session_id: str
    trigger_id: str | None
    outcome: EngineOutcome | None
    answer_id: str | None = None
    emitted_events: tuple[KernelEvent, ...] = ()
    state_delta: StateDelta = StateDelta()
    wake_request: WakeRequest | None = None
    waiting: int = 0
    idle: bool = False


@attrs.frozen(kw_only=True)
class Submitted:
    """A trigger that is durable and waits for its turn. `duplicate`: its key was known."""

    session_id: str
    trigger_id: str
    sequence: int
    duplicate: bool
