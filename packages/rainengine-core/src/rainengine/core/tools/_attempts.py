"""One attempt at a tool call: from an invocation to a value, or to a failure that says enough.

Nothing that a skill does ends the engine: whatever it raises becomes a failure.
Only cancellation and the interpreter's own exits pass through.
"""

from __future__ import annotations

from typing import cast, get_args

import attrs
import trio

from rainengine.core import codec, telemetry
from rainengine.core.abc import (
    NotStarted,
    Reconciler,
    Reconciliation,
    Settled,
    Skill,
    SkillInvocation,
    Undetermined,
)
from rainengine.core.errors import EffectNotApplied, InadmissibleValue, SkillFailure
from rainengine.core.records import FailureKind, JsonValue, ToolFailure

_MESSAGE_CHARACTERS = 500
_NOTHING_HAPPENED = frozenset({"permission_denied", "capability_denied", "invalid_arguments"})
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


async def attempt(skill: Skill, invocation: SkillInvocation, timeout_s: float) -> Attempt:
    """Call the skill once, for at most `timeout_s` seconds."""
    attributes = {telemetry.TOOL_NAME: invocation.name, telemetry.TOOL_CALL: invocation.call_id}
    with telemetry.span(telemetry.EXECUTE_TOOL, invocation.name, attributes):
        with trio.move_on_after(timeout_s):
            return await _invoke(skill, invocation)
        return Attempt(failure=failure("timeout", f"took longer than {timeout_s * 1000:.0f} ms"))


async def _invoke(skill: Skill, invocation: SkillInvocation) -> Attempt:
    try:
        value = await skill.invoke(invocation)
    except EffectNotApplied as error:
        return Attempt(failure=failure("internal", str(error)), harmless=True)
    except SkillFailure as error:
        kind = error.kind if error.kind in get_args(FailureKind) else "internal"
        chosen = failure(cast(FailureKind, kind), str(error))
        return Attempt(failure=chosen, harmless=kind in _NOTHING_HAPPENED)
    except Exception as error:  # noqa: BLE001  # a skill is somebody else's code
        return Attempt(failure=failure("internal", f"{type(error).__name__}: {error}"))
    try:
        return Attempt(value=codec.to_json(value))
    except InadmissibleValue as error:
        return Attempt(failure=failure("invalid_response", str(error)))


async def reconcile(skill: Skill, invocation: SkillInvocation, timeout_s: float) -> Reconciliation:
    """Ask the skill what became of a call in doubt; what it cannot say is undetermined."""
    if not isinstance(skill, Reconciler):
        return Undetermined()
    with trio.move_on_after(timeout_s):
        try:
            answer = await skill.reconcile(invocation)
            if isinstance(answer, Settled):
                return Settled(codec.to_json(answer.value))
        except Exception:  # noqa: BLE001  # a skill is somebody else's code
            return Undetermined()
        return answer if isinstance(answer, NotStarted) else Undetermined()
    return Undetermined()
