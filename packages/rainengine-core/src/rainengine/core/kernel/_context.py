"""What a model is shown: messages built from the projection.

Invariant: every tool call in the messages is followed by exactly one result, and every result
has its call, in whatever state the session is. It holds because the projection keeps calls and
results in one item and lets go of whole items only; a result that is not there yet is given
here as a failure that says so.
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

_CUT = (
    "The conversation is longer than what follows: earlier parts were left out."
    " Where memory_search is offered, it finds them."
)
_NO_RESULT = r.ToolFailure(kind="unknown_outcome", message="interrupted: there is no result")


def build_context(
    projection: SessionProjection, run: Run, profile: r.AgentProfile
) -> tuple[r.ChatMessage, ...]:
    """Return the agent's role, the latest summary and the newest items of the conversation."""
    items = shown_items(projection, profile.memory)
    messages = [_text("system", text) for text in _preamble(projection, profile, items)]
    if not any(item.trigger_id == run.trigger_id for item in items):
        messages.append(_input(run.trigger))
    for item in items:
        messages += _MESSAGES[item.role](item)
    if run.plan is not None:
        messages.append(_text("system", _plan_position(run.plan)))
    return tuple(messages)


def build_summary_context(
    projection: SessionProjection, items: Sequence[WindowItem]
) -> tuple[r.ChatMessage, ...]:
    """Return what a model is shown to summarise these items of the conversation."""
    messages = [_text("system", INSTRUCTION)]
    if projection.summary is not None:
        messages.append(_text("system", _earlier(projection.summary)))
    for item in items:
        messages += _MESSAGES[item.role](item)
    return tuple(messages)


def _preamble(
    projection: SessionProjection, profile: r.AgentProfile, items: list[WindowItem]
) -> list[str]:
    preamble = [profile.role] if profile.role else []
    if profile.goals:
        preamble.append("Goals:\n" + "\n".join(f"- {goal}" for goal in profile.goals))
    if projection.window_cut or len(items) < len(projection.window):
        preamble.append(_CUT)
    if projection.summary is not None:
        preamble.append(_earlier(projection.summary))
    return preamble


def _earlier(summary: r.Summary) -> str:
    return f"Summary of what came before:\n{summary.text}"


def _plan_position(plan: r.ExecutionPlan) -> str:
    return f"Plan: {plan.objective} (step {plan.position + 1} of {len(plan.steps)})"


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
    facts = attrs.asdict(trigger, recurse=False)  # type: ignore[arg-type]  # every trigger is attrs
    for kept_back in ("attachments", "resume_token", "correlation_id"):  # not for a model to know
        facts.pop(kept_back, None)
    return facts


def _of_input(item: WindowItem) -> list[r.ChatMessage]:
    return [] if item.trigger is None else [_input(item.trigger)]


def _of_reply(item: WindowItem) -> list[r.ChatMessage]:
    return [_text("assistant", item.text)]


def _of_note(item: WindowItem) -> list[r.ChatMessage]:
    return [_text("system", f"Your last decision could not be followed: {item.text}")]


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
