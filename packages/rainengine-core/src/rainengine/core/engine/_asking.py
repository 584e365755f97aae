"""Asking the model: one request, one decision, in a form that can be stored and followed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast, get_args

import attrs
import trio

from rainengine.core import codec, telemetry
from rainengine.core.abc import LlmProvider, ProviderDecision, ProviderRequest, Usage
from rainengine.core.errors import InadmissibleValue, ProviderError, ProviderErrorKind
from rainengine.core.records import (
    Action,
    CallSkills,
    ContextManifest,
    JsonObject,
    ModelDecision,
    Plan,
    PlannedSkillCall,
    ProviderUsage,
    Record,
    Respond,
    SkillManifest,
    TokenPrice,
    Yield,
)

_RAW_CHARACTERS = 2_000
_MODEL_CHARACTERS = 200
_UNSTORABLE = (InadmissibleValue, TypeError, ValueError, AttributeError, RecursionError)
"""What may be raised over a decision that holds anything."""
_AMOUNTS = ("input_tokens", "output_tokens", "cached_tokens", "cost_micros")
_MAX_AMOUNT = 2**53
"""More tokens or cost than this are no amount, and their sums would not fit a ledger."""


async def ask(
    provider: LlmProvider, request: ProviderRequest, timeout_ms: int
) -> ProviderDecision | ProviderError:
    """Ask once, for at most `timeout_ms` milliseconds; a failure is returned, not raised."""
    attributes = {telemetry.CONVERSATION: request.context.session_id}
    if request.config.model is not None:
        attributes[telemetry.MODEL] = request.config.model
    with telemetry.span(telemetry.CHAT, request.config.model, attributes):
        answer = await _ask(provider, request, timeout_ms)
        if isinstance(answer, ProviderError):
            telemetry.mark_failed(_kind_of(answer))
        return answer


class NoAnswer(ProviderError):
    """The engine gave up waiting for the provider."""


async def _ask(
    provider: LlmProvider, request: ProviderRequest, timeout_ms: int
) -> ProviderDecision | ProviderError:
    try:
        with trio.move_on_after(timeout_ms / 1000):
            return _checked(await provider.generate_action(request))
    except ProviderError as error:
        return error
    # Outside of the time limit: a group may hold cancellations too, which the limit takes out.
    except Exception as error:  # noqa: BLE001  # a provider is somebody else's code
        return ProviderError(told(error), kind="internal", retryable=False)
    return NoAnswer(f"no answer within {timeout_ms} ms", kind="timeout", retryable=True)


def told(error: Exception) -> str:
    """Say what somebody else's code raised, even where the error itself cannot."""
    return f"{type(error).__name__}: {codec.shown(error, str)}"


def _checked(answer: object) -> ProviderDecision:
    if isinstance(answer, ProviderDecision):
        return answer
    message = f"the provider returned a {type(answer).__name__}, not a ProviderDecision"
    raise ProviderError(message, kind="invalid_response", retryable=True)


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
    cache: list[Record] = [] if decision.cache is None else [decision.cache]
    if decision.usage is None:
        return cache
    figures = _figures(decision.usage)
    return [ProviderUsage(step=step, status="settled", model=decision.model, **figures), *cache]


def _figures(usage: Usage) -> dict[str, Any]:
    figures: dict[str, Any] = {name: getattr(usage, name, None) for name in _AMOUNTS}
    odd = [name for name, value in figures.items() if not _is_amount(value)]
    figures["price"] = _sound_price(getattr(usage, "price", None))
    if not odd:
        return figures
    listed = ", ".join(f"{name}={codec.shown(figures[name], repr)}" for name in odd)
    return figures | dict.fromkeys(odd, 0) | {"error": f"the provider reported {listed}"[:500]}


def _sound_price(price: object) -> TokenPrice | None:
    if not isinstance(price, TokenPrice):
        return None
    amounts = price.input_micros, price.output_micros, price.cached_micros or 0
    source = codec.shown(price.source, str)[:_MODEL_CHARACTERS]
    return attrs.evolve(price, source=source) if all(map(_is_amount, amounts)) else None


def _is_amount(value: object) -> bool:
    return type(value) is int and 0 <= value <= _MAX_AMOUNT


def usage_complaint(usage: Sequence[Record]) -> str | None:
    """Return what cannot be right about the figures of a call, or None."""
    errors = [record.error for record in usage if isinstance(record, ProviderUsage)]
    return errors[0] if errors else None


def sound(decision: ProviderDecision) -> ProviderDecision:
    """Return the decision without what else in it could not be stored: model and cache."""
    model = decision.model
    if model is not None:
        model = codec.shown(model, str)[:_MODEL_CHARACTERS]
    cache = decision.cache
    try:
        if cache is not None:
            codec.encode(cache)
    except (InadmissibleValue, TypeError, AttributeError):
        cache = None
    if model is decision.model and cache is decision.cache:
        return decision
    return attrs.evolve(decision, model=model, cache=cache)


def _kind_of(error: ProviderError) -> ProviderErrorKind:
    kind: Any = getattr(error, "kind", None)  # a subclass may have left it out
    return kind if kind in get_args(ProviderErrorKind) else "internal"


def failure_record(step: int, model: str | None, error: ProviderError) -> ProviderUsage:
    """The record of a call that brought no decision."""
    return ProviderUsage(
        step=step,
        status="failed",
        model=model,
        error_kind=_kind_of(error),
        error=codec.shown(error, str)[:500],
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
    return CallSkills(tuple(map(_clean_call, action.calls)))


def _clean_call(call: PlannedSkillCall) -> PlannedSkillCall:
    return PlannedSkillCall(  # `attrs.evolve` takes five times as long
        call_id=codec.clean_text(call.call_id),
        name=codec.clean_text(call.name),
        args=_clean_args(call.args),
        priority=call.priority,
        depends_on=_clean_names(call.depends_on),
        retry_policy=call.retry_policy,
        dry_run=call.dry_run,
        opaque=call.opaque,
    )


def _clean_names(names: tuple[str, ...]) -> tuple[str, ...]:
    # A text would fall into its letters: it is left for the admission rule to refuse.
    text = isinstance(cast(object, names), str)
    return names if text else tuple(map(codec.clean_text, names))


def _clean_args(args: JsonObject) -> JsonObject:
    try:
        return codec.to_json_object(args)
    except InadmissibleValue:
        return codec.to_json_object(codec.clean_json(args))


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
        raw=_raw(action),
    )


def _raw(action: object) -> str:
    return codec.shown(action, lambda value: f"{value!r:.{_RAW_CHARACTERS}}")


def storable(
    step: int, action: object, context: ContextManifest, model: str | None, *, cap: int
) -> ModelDecision | str:
    """Return the decision as it can be stored, with an action of its own; or why it cannot.

    It has to leave a little of `cap` for the records that repeat it: a graph, an outcome.
    """
    if not isinstance(action, Action):
        return f"$: {type(action).__name__} is not an action"
    decision = ModelDecision(step=step, action=action, context=context, model=model)
    room = cap - min(4096, cap // 8)
    try:
        return _as_it_is(decision, room) or codec.read_back(
            attrs.evolve(decision, action=cleaned(action)), cap=room
        )
    except _UNSTORABLE as error:
        return str(error)


def _as_it_is(decision: ModelDecision, cap: int) -> ModelDecision | None:
    try:
        return codec.read_back(decision, cap=cap)
    except _UNSTORABLE:
        return None
