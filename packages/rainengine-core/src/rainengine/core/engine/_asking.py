"""Asking the model: one request, one decision, in a form that can be stored and followed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs
import trio

from rainengine.core import codec, telemetry
from rainengine.core.abc import LlmProvider, ProviderDecision, ProviderRequest, Usage
from rainengine.core.errors import InadmissibleValue, ProviderError
from rainengine.core.records import (
    Action,
    CallSkills,
    ContextManifest,
    ModelDecision,
    Plan,
    ProviderUsage,
    Record,
    Respond,
    SkillManifest,
    Yield,
)

_RAW_CHARACTERS = 2_000


async def ask(
    provider: LlmProvider, request: ProviderRequest, timeout_ms: int
) -> ProviderDecision | ProviderError:
    """Ask once, for at most `timeout_ms` milliseconds; a failure is returned, not raised."""
    attributes = {
        telemetry.CONVERSATION: request.context.session_id,
        telemetry.MODEL: request.config.model or "",
    }
    with telemetry.span(telemetry.CHAT, request.config.model, attributes):
        with trio.move_on_after(timeout_ms / 1000):
            try:
                return await provider.generate_action(request)
            except ProviderError as error:
                return error
            except Exception as error:  # noqa: BLE001  # a provider is somebody else's code
                message = f"{type(error).__name__}: {error}"
                return ProviderError(message, kind="internal", retryable=False)
        message = f"no answer within {timeout_ms} ms"
        return ProviderError(message, kind="timeout", retryable=True)


def manifest_of(request: ProviderRequest, sequences: tuple[int, int]) -> ContextManifest:
    """Say what the model was shown without repeating it."""
    skills = request.available_skills
    return ContextManifest(
        first_sequence=sequences[0],
        last_sequence=sequences[1],
        prompt_hash=codec.prompt_hash(request.messages, [_shown(skill) for skill in skills]),
        skills=tuple(f"{skill.name}@{skill.version}" for skill in skills),
    )


def _shown(skill: SkillManifest) -> tuple[str, str, Any]:
    return skill.name, skill.description, skill.input_schema


def usage_records(step: int, decision: ProviderDecision) -> list[Record]:
    """What the call used; figures that cannot be are left out, and said to be."""
    if decision.usage is None:
        return [] if decision.cache is None else [decision.cache]
    record = ProviderUsage(
        step=step, status="settled", model=decision.model, **_figures(decision.usage)
    )
    return [record] if decision.cache is None else [record, decision.cache]


def _figures(usage: Usage) -> dict[str, Any]:
    figures = attrs.asdict(usage)
    odd = [name for name, value in figures.items() if type(value) is not int or value < 0]
    if not odd:
        return figures
    told = ", ".join(f"{name}={figures[name]!r}" for name in odd)
    return figures | dict.fromkeys(odd, 0) | {"error": f"the provider reported {told}"[:500]}


def failure_record(step: int, model: str | None, error: ProviderError) -> ProviderUsage:
    """The record of a call that brought no decision."""
    return ProviderUsage(
        step=step,
        status="failed",
        model=model,
        error_kind=error.kind,
        error=codec.clean_text(str(error))[:500],
    )


def cleaned(action: Action) -> Action:
    """Replace in a model's text what a ledger does not take. Raises `InadmissibleValue`."""
    clean = _CLEANING.get(type(action))
    return action if clean is None else clean(action)


def _clean_plan(action: Plan) -> Plan:
    return attrs.evolve(
        action,
        summary=codec.clean_text(action.summary),
        candidate_actions=tuple(codec.clean_text(text) for text in action.candidate_actions),
    )


def _clean_calls(action: CallSkills) -> CallSkills:
    return CallSkills(
        tuple(attrs.evolve(call, args=codec.to_json_object(call.args)) for call in action.calls)
    )


_CLEANING: dict[type[Action], Callable[[Any], Action]] = {
    Respond: lambda action: Respond(codec.clean_text(action.content)),
    Yield: lambda action: Yield(codec.clean_text(action.reason)),
    Plan: _clean_plan,
    CallSkills: _clean_calls,
}


def invalid_decision(
    step: int, action: object, reason: str, context: ContextManifest, model: str | None
) -> ModelDecision:
    """The record of a decision that cannot be followed."""
    return ModelDecision(
        step=step,
        action=None,
        context=context,
        model=model,
        invalid=codec.clean_text(reason)[:500],
        raw=codec.clean_text(f"{action!r:.{_RAW_CHARACTERS}}"),
    )


def readable(action: object) -> Action | InadmissibleValue:
    """Return the action in a form that can be stored, or why there is none."""
    if not isinstance(action, Action):
        return InadmissibleValue("$", f"{type(action).__name__} is not an action")
    try:
        action = cleaned(action)
        codec.encode(ModelDecision(step=0, action=action))
    except InadmissibleValue as error:
        return error
    except (TypeError, AttributeError) as error:
        return InadmissibleValue("$", str(error))
    return action
