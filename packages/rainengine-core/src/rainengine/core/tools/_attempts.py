"""One attempt at a tool call: from an invocation to a value, or to a failure that says enough.

Nothing that a skill does ends the engine: whatever it raises becomes a failure.
Only cancellation and the interpreter's own exits pass through.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, get_args

import attrs
import trio

from rainengine.core import codec, telemetry
from rainengine.core.abc import (
    AnySkill,
    NotStarted,
    Reconciler,
    Reconciliation,
    Settled,
    Skill,
    SkillInvocation,
    Transaction,
    TransactionalSkill,
    Undetermined,
)
from rainengine.core.errors import EffectNotApplied, InadmissibleValue, SkillFailure
from rainengine.core.records import FailureKind, JsonValue, ToolFailure

_MESSAGE_CHARACTERS = 500
_NOTHING_HAPPENED = frozenset({"permission_denied", "capability_denied", "invalid_arguments"})
_SAYS_ENOUGH = EffectNotApplied | SkillFailure
_RETRYABLE = frozenset({"timeout", "trap", "internal"})


@attrs.frozen(kw_only=True)
class Attempt:
    """What came of one attempt. `harmless` means that nothing happened outside."""

    value: JsonValue = None
    failure: ToolFailure | None = None
    harmless: bool = False

    @property
    def retryable(self) -> bool:
        """Whether the same attempt might succeed later."""
        return self.failure is not None and self.failure.kind in _RETRYABLE


def failure(kind: FailureKind, message: str) -> ToolFailure:
    """Make a failure whose message may be stored and shown to a model."""
    return ToolFailure(kind=kind, message=codec.clean_text(message)[:_MESSAGE_CHARACTERS])


@attrs.frozen(kw_only=True)
class Limits:
    """What one attempt may take: time in seconds, and its value as JSON in bytes."""

    timeout_s: float
    value_bytes: int


def value_bytes(payload_bytes: int) -> int:
    """How large a value may be where a record may have `payload_bytes`: it needs room besides."""
    return payload_bytes - min(64 * 1024, payload_bytes // 4)


async def attempt(skill: Skill, invocation: SkillInvocation, limits: Limits) -> Attempt:
    """Call the skill once, within `limits`."""
    return await traced(invocation, partial(_within, limits, skill, invocation))


async def traced(
    invocation: SkillInvocation, attempt_once: Callable[[], Awaitable[Attempt]]
) -> Attempt:
    """Make an attempt in a span of its own."""
    attributes = {telemetry.TOOL_NAME: invocation.name, telemetry.TOOL_CALL: invocation.call_id}
    with telemetry.span(telemetry.EXECUTE_TOOL, invocation.name, attributes):
        outcome = await attempt_once()
        if outcome.failure is not None:
            telemetry.mark_failed(outcome.failure.kind)
        return outcome


async def _within(limits: Limits, skill: Skill, invocation: SkillInvocation) -> Attempt:
    try:
        with trio.move_on_after(limits.timeout_s):
            return _answered(await skill.invoke(invocation), limits)
    # Outside of the time limit: a group may hold cancellations too, which the limit takes out.
    except Exception as error:  # noqa: BLE001  # a skill is somebody else's code
        return _failed(error)
    return timed_out(limits)


def apply(skill: TransactionalSkill, transaction: Transaction[Any], limits: Limits) -> Attempt:
    """Call a transactional skill once, in the thread that this is called in.

    Nothing bounds its time here. A failure is harmless, provided that it is rolled back.
    """
    try:
        outcome = _answered(skill.apply(transaction, transaction.invocation), limits)
    except InadmissibleValue as error:  # of what it published
        outcome = Attempt(failure=failure("invalid_response", str(error)))
    except Exception as error:  # noqa: BLE001  # a skill is somebody else's code
        outcome = _failed(error)
    return attrs.evolve(outcome, harmless=True)


def _failed(error: Exception) -> Attempt:
    if isinstance(error, EffectNotApplied):
        return Attempt(failure=failure("internal", _told(error)), harmless=True)
    if isinstance(error, SkillFailure):
        said: Any = getattr(error, "kind", None)  # a subclass may have left it out
        kind: FailureKind = said if said in get_args(FailureKind) else "internal"
        return Attempt(failure=failure(kind, _told(error)), harmless=kind in _NOTHING_HAPPENED)
    return Attempt(failure=failure("internal", _told(error)))


def timed_out(limits: Limits, *, harmless: bool = False) -> Attempt:
    """What comes of a call that took too long."""
    message = f"took longer than {limits.timeout_s * 1000:.0f} ms"
    return Attempt(failure=failure("timeout", message), harmless=harmless)


def _answered(value: object, limits: Limits) -> Attempt:
    try:
        return Attempt(value=storable(value, limits))
    except InadmissibleValue as error:
        return Attempt(failure=failure("invalid_response", str(error)))
    except Exception as error:  # noqa: BLE001  # the value is somebody else's as well
        return Attempt(failure=failure("invalid_response", _told(error)))


def storable(value: object, limits: Limits) -> JsonValue:
    """Turn what a skill gave into JSON that fits into a result's record. `InadmissibleValue`."""
    return codec.to_json_object({"value": value}, cap=limits.value_bytes)["value"]


def _told(error: Exception) -> str:
    message = codec.shown(error, str)
    return message if isinstance(error, _SAYS_ENOUGH) else f"{type(error).__name__}: {message}"


async def reconcile(skill: AnySkill, invocation: SkillInvocation, limits: Limits) -> Reconciliation:
    """Ask the skill what became of a call in doubt; what it cannot say is undetermined."""
    if not isinstance(skill, Reconciler):
        return Undetermined()
    try:
        with trio.move_on_after(limits.timeout_s):
            answer = await skill.reconcile(invocation)
            if isinstance(answer, Settled):
                return Settled(storable(answer.value, limits))
            return answer if isinstance(answer, NotStarted) else Undetermined()
    except Exception:  # noqa: BLE001  # a skill is somebody else's code
        return Undetermined()
    return Undetermined()
