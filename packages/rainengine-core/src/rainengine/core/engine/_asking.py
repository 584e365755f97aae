"""Asking the model: one request, one decision, in a form that can be stored and followed."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, cast, get_args

import attrs
import trio

from rainengine.core import codec, telemetry
from rainengine.core.abc import (
    InvalidAnswer,
    ProviderDecision,
    ProviderRequest,
)
from rainengine.core.engine._services import Services
from rainengine.core.engine._streaming import Sender
from rainengine.core.engine._usage import reported
from rainengine.core.errors import InadmissibleValue, ProviderError, ProviderErrorKind
from rainengine.core.metering import CallFacts, measure
from rainengine.core.prices import is_amount
from rainengine.core.records import (
    Action,
    CallSkills,
    ContextManifest,
    Delegate,
    DelegatedTask,
    JsonObject,
    MemoryArchive,
    MemorySearch,
    ModelDecision,
    Plan,
    PlannedSkillCall,
    ProviderCache,
    Respond,
    Suspend,
    Yield,
)

_RAW_CHARACTERS = 2_000
_MODEL_CHARACTERS = 200
_UNSTORABLE = (InadmissibleValue, TypeError, ValueError, AttributeError, RecursionError)
"""What may be raised over a decision that holds anything."""


async def ask(
    services: Services, request: ProviderRequest, timeout_ms: int
) -> ProviderDecision | ProviderError:
    """Ask once, for at most `timeout_ms` milliseconds; a failure is returned, not raised."""
    attributes = {telemetry.CONVERSATION: request.context.session_id}
    if request.config.model is not None:
        attributes[telemetry.MODEL] = request.config.model
    with telemetry.span(telemetry.CHAT, request.config.model, attributes):
        telemetry.tell_content(telemetry.INPUT_MESSAGES, partial(_content, request.messages))
        began_s = trio.current_time()
        answer = await _ask(services, request, timeout_ms)
        measure(partial(_facts, request, answer, trio.current_time() - began_s))
        if isinstance(answer, ProviderError):
            telemetry.mark_failed(kind_of(answer))
        else:
            telemetry.tell_content(telemetry.OUTPUT_MESSAGES, partial(_content, answer.action))
        return answer


def _content(said: object) -> str:
    return codec.shown(said, lambda value: codec.encode_value(value).decode())


def _facts(
    request: ProviderRequest, answer: ProviderDecision | ProviderError, seconds: float
) -> CallFacts:
    model = request.config.model
    if isinstance(answer, ProviderError):
        return CallFacts(seconds=seconds, model=model, error_type=kind_of(answer))
    decision, usage = sound(answer), answer.usage
    amounts = (reported(usage, name) for name in ("input_tokens", "output_tokens"))
    used = [amount if isinstance(amount, int) and is_amount(amount) else None for amount in amounts]
    return CallFacts(
        seconds=seconds,
        model=model,
        answered_by=decision.model,
        provider=decision.provider,
        input_tokens=used[0],
        output_tokens=used[1],
    )


class NoAnswer(ProviderError):
    """The engine gave up waiting for the provider."""


class OutOfTime(ProviderError):
    """The run's own time was over before the provider answered."""


async def _ask(
    services: Services, request: ProviderRequest, timeout_ms: int
) -> ProviderDecision | ProviderError:
    try:
        with trio.move_on_after(timeout_ms / 1000):
            return _checked(await _answer(services, request))
    except ProviderError as error:
        return error
    # Outside of the time limit: a group may hold cancellations too, which the limit takes out.
    except Exception as error:  # noqa: BLE001  # a provider is somebody else's code
        return ProviderError(told(error), kind="internal", retryable=False)
    return NoAnswer(f"no answer within {timeout_ms} ms", kind="timeout", retryable=True)


async def _answer(services: Services, request: ProviderRequest) -> ProviderDecision:
    streaming, on_delta = services.streaming, services.on_delta
    if streaming is None or on_delta is None or request.purpose != "act":
        return await services.provider.generate_action(request)
    with Sender.to(on_delta, request.context) as send:
        return await streaming.stream_action(request, send)


def told(error: Exception) -> str:
    """Say what somebody else's code raised, even where the error itself cannot."""
    return f"{type(error).__name__}: {codec.shown(error, str)}"


def _checked(answer: object) -> ProviderDecision:
    if isinstance(answer, ProviderDecision):
        return answer
    message = f"the provider returned a {type(answer).__name__}, not a ProviderDecision"
    raise ProviderError(message, kind="invalid_response", retryable=True)


def sound(decision: ProviderDecision) -> ProviderDecision:
    """Return the decision without what else in it could not be stored: model and cache."""
    model, provider = (
        None if name is None else codec.shown(name, str)[:_MODEL_CHARACTERS]
        for name in (decision.model, decision.provider)
    )
    cache = _sound_cache(decision.cache)
    if (model, provider, cache) == (decision.model, decision.provider, decision.cache):
        return decision
    return attrs.evolve(decision, model=model, provider=provider, cache=cache)


def _sound_cache(cache: object) -> ProviderCache | None:
    # No other record is a provider's to write: a trigger would start a run.
    if type(cache) is not ProviderCache:
        return None
    try:
        return codec.read_back(cache)
    except (InadmissibleValue, TypeError, AttributeError):
        return None


def kind_of(error: ProviderError) -> ProviderErrorKind:
    """What went wrong, by the names that there are for it."""
    kind: Any = getattr(error, "kind", None)  # a subclass may have left it out
    return kind if kind in get_args(ProviderErrorKind) else "internal"


def is_retryable(error: ProviderError) -> bool:
    """Whether the provider says that the same call may succeed later."""
    return getattr(error, "retryable", False) is True


def advised_wait_ms(error: ProviderError) -> int:
    """How long the provider asks to be left alone, in milliseconds; 0 where it does not say."""
    advised: Any = getattr(error, "retry_after_ms", None)
    return advised if is_amount(advised) else 0


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


def _clean_suspension(action: Suspend) -> Suspend:
    return Suspend(
        reason=codec.clean_text(action.reason),
        pending_calls=tuple(map(_clean_call, action.pending_calls)),
    )


def _clean_delegation(action: Delegate) -> Delegate:
    task = DelegatedTask(
        task_type=codec.clean_text(action.task.task_type),
        payload=codec.to_json(codec.clean_json(action.task.payload)),
    )
    return Delegate(target=action.target, task=task)


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
    MemorySearch: lambda action: attrs.evolve(action, query=codec.clean_text(action.query)),
    MemoryArchive: lambda action: MemoryArchive(codec.clean_text(action.content)),
    Suspend: _clean_suspension,
    Delegate: _clean_delegation,
}


def invalid_decision(
    step: int, answer: ProviderDecision, reason: str, context: ContextManifest
) -> ModelDecision:
    """The record of a decision that cannot be followed."""
    return ModelDecision(
        step=step,
        action=None,
        context=context,
        model=answer.model,
        provider=answer.provider,
        invalid=codec.clean_text(reason)[:500],
        raw=raw(answer.action),
    )


def raw(action: object) -> str:
    """Show as much of an action as is kept where it cannot be followed."""
    return codec.shown(action, lambda value: f"{value!r:.{_RAW_CHARACTERS}}")


def storable(
    step: int, answer: ProviderDecision, context: ContextManifest, *, cap: int
) -> ModelDecision | str:
    """Return the decision as it can be stored, with an action of its own; or why it cannot.

    It has to leave a little of `cap` for the records that repeat it: a graph, an outcome.
    """
    action = cast(object, answer.action)
    if not isinstance(action, Action):
        return f"$: {type(action).__name__} is not an action"
    if isinstance(action, InvalidAnswer):
        return codec.shown(action.reason, str)
    decision = ModelDecision(
        step=step, action=action, context=context, model=answer.model, provider=answer.provider
    )
    room = cap - min(4096, cap // 8)
    try:
        return _as_it_is(decision, room) or codec.read_back(
            attrs.evolve(decision, action=cleaned(action)), cap=room
        )
    except _UNSTORABLE as error:
        return str(error)


_NO_CONTEXT = ContextManifest(first_sequence=0, last_sequence=0, prompt_hash="")


def readable(action: object, *, cap: int) -> Action | None:
    """Return an action as it could be stored, or None."""
    answer = ProviderDecision(action=action)  # type: ignore[arg-type]  # which is looked at here
    stored = storable(0, answer, _NO_CONTEXT, cap=cap)
    return None if isinstance(stored, str) else stored.action


def _as_it_is(decision: ModelDecision, cap: int) -> ModelDecision | None:
    try:
        return codec.read_back(decision, cap=cap)
    except _UNSTORABLE:
        return None
