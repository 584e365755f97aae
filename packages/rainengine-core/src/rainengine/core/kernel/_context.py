"""What a model is shown: messages built from the projection.

Invariants:

- Every tool call in the messages is followed by exactly one result, and every result has its call,
  in whatever state the session is. It holds because the projection keeps calls and results in one
  item and lets go of whole items only; a result that is not there yet is given here as a failure
  that says so.
- Only the operator speaks as the system. What models, people and tools said, a summary or a plan
  that a model made of it included, never has that role, as it may hold somebody's instructions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import attrs

from rainengine.core import records as r
from rainengine.core.kernel._summaries import INSTRUCTION, shown_items
from rainengine.core.projection import Run, SessionProjection, WindowItem

ContextBuilder: TypeAlias = Callable[
    [SessionProjection, Run, r.AgentProfile], tuple[r.ChatMessage, ...]
]
"""Builds the messages for a run's next step; pure, and replaceable."""

_CUT = "The conversation is longer than what follows: earlier parts were left out."
_SEARCH = " memory_search finds them."
PLAN_BROKEN = "a step of it failed or was rejected"
_KEPT_BACK = frozenset(
    {"attachments", "resume_token", "correlation_id", "metadata", "cost_micros", "tokens"}
)
"""Of a trigger, what is shown in another way, or is not for a model to know."""
_NO_RESULT = r.ToolFailure(kind="unknown_outcome", message="interrupted: there is no result")


def build_context(
    projection: SessionProjection,
    run: Run,
    profile: r.AgentProfile,
    *,
    searchable: bool = False,
) -> tuple[r.ChatMessage, ...]:
    """Return the agent's role, the latest summary and the newest items of the conversation.

    `searchable`: the model is offered `memory_search`.
    """
    items = shown_items(projection, profile.memory)
    cut = projection.window_cut or len(items) < len(projection.window)
    messages = [_text("system", text) for text in _instructions(profile)]
    if cut:
        messages.append(_text("system", _CUT + _SEARCH * searchable))
    messages += _summary(projection)
    if not any(item.trigger_id == run.trigger_id for item in items):
        messages.append(_input(run.trigger))
    for item in items:
        messages += _MESSAGES[item.role](item)
    if run.plan is not None:
        messages.append(_plan(run.plan, broken=run.plan_broken))
    return tuple(messages)


def build_summary_context(
    projection: SessionProjection, items: Sequence[WindowItem]
) -> tuple[r.ChatMessage, ...]:
    """Return what a model is shown to summarise these items of the conversation.

    They are quoted as JSON in one message, so that nothing in them is said by anybody again.
    """
    messages = [_text("system", INSTRUCTION), *_summary(projection)]
    shown = (message for item in items for message in _MESSAGES[item.role](item))
    said: r.JsonValue = [_quoted(message) for message in shown]
    return (*messages, r.ChatMessage("user", (r.JsonPart({"conversation": said}),)))


def _quoted(message: r.ChatMessage) -> r.JsonObject:
    return {"by": message.role, "parts": [_QUOTES[type(part)](part) for part in message.parts]}


def _instructions(profile: r.AgentProfile) -> list[str]:
    instructions = [profile.role] if profile.role else []
    if profile.goals:
        instructions.append("Goals:\n" + "\n".join(f"- {goal}" for goal in profile.goals))
    return instructions


def _summary(projection: SessionProjection) -> list[r.ChatMessage]:
    if projection.summary is None:
        return []
    return [_event("summary_of_what_came_before", text=projection.summary.text)]


def _plan(plan: r.ExecutionPlan, *, broken: bool) -> r.ChatMessage:
    if broken:
        return _event("plan_given_up", plan=plan.objective, reason=PLAN_BROKEN)
    return _event("plan", plan=plan.objective, step=plan.position + 1, steps=len(plan.steps))


def _event(event: str, **facts: r.JsonValue) -> r.ChatMessage:
    return r.ChatMessage("user", (r.JsonPart({"event": event, **facts}),))


def _text(role: r.Role, text: str) -> r.ChatMessage:
    return r.ChatMessage(role, (r.TextPart(text),))


def _input(trigger: r.Trigger) -> r.ChatMessage:
    if isinstance(trigger, r.Message | r.HumanInput):
        parts: list[r.Part] = [r.TextPart(trigger.content)]
    else:
        parts = [r.JsonPart(_facts_of(trigger))]
    parts += [r.AttachmentPart(item) for item in getattr(trigger, "attachments", ())]
    return r.ChatMessage("user", tuple(parts))


def _facts_of(trigger: r.Trigger) -> r.JsonObject:
    facts = attrs.asdict(trigger)  # type: ignore[arg-type]  # every trigger is attrs
    return {name: value for name, value in facts.items() if name not in _KEPT_BACK}


def _of_input(item: WindowItem) -> list[r.ChatMessage]:
    return [] if item.trigger is None else [_input(item.trigger)]


def _of_reply(item: WindowItem) -> list[r.ChatMessage]:
    return [_text("assistant", item.text)]


def _of_note(item: WindowItem) -> list[r.ChatMessage]:
    return [_event("your_decision_could_not_be_followed", reason=item.text)]


def _of_event(item: WindowItem) -> list[r.ChatMessage]:
    return [r.ChatMessage("user", (r.JsonPart(item.facts),))]


def _of_calls(item: WindowItem) -> list[r.ChatMessage]:
    calls = tuple(
        r.ToolCallPart(call_id=call.call_id, name=call.name, args=call.args, opaque=call.opaque)
        for call in item.calls
    )
    results = tuple(_result_part(call, item.results.get(call.call_id)) for call in item.calls)
    return [r.ChatMessage("assistant", calls), r.ChatMessage("tool", results)]


def _result_part(call: r.PlannedSkillCall, result: r.ToolResult | None) -> r.ToolResultPart:
    if result is None:
        return r.ToolResultPart(call_id=call.call_id, name=call.name, failure=_NO_RESULT)
    return r.ToolResultPart(
        call_id=call.call_id, name=call.name, value=result.value, failure=result.failure
    )


_MESSAGES: dict[str, Callable[[WindowItem], list[r.ChatMessage]]] = {
    "input": _of_input,
    "reply": _of_reply,
    "note": _of_note,
    "calls": _of_calls,
    "event": _of_event,
}


def _quoted_text(part: r.TextPart) -> r.JsonValue:
    return part.text


def _quoted_json(part: r.JsonPart) -> r.JsonValue:
    return part.value


def _quoted_call(part: r.ToolCallPart) -> r.JsonValue:
    return {"call_of": part.name, "call_id": part.call_id, "args": part.args}


def _quoted_attachment(part: r.AttachmentPart) -> r.JsonValue:
    return {"attachment": part.attachment.name, "media_type": part.attachment.media_type}


def _quoted_result(part: r.ToolResultPart) -> r.JsonValue:
    told: r.JsonObject = {"result_of": part.name, "call_id": part.call_id}
    if part.failure is None:
        return {**told, "value": part.value}
    return {**told, "failure": part.failure.kind, "message": part.failure.message}


_QUOTES: dict[type[r.Part], Callable[..., r.JsonValue]] = {
    r.TextPart: _quoted_text,
    r.JsonPart: _quoted_json,
    r.AttachmentPart: _quoted_attachment,
    r.ToolCallPart: _quoted_call,
    r.ToolResultPart: _quoted_result,
}
