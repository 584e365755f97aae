"""What a trigger is about, and what it changes in the agent's world. Without a model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from rainengine.core import records as r

IntentClassifier: TypeAlias = Callable[[r.Trigger], str]
"""Gives a trigger its intent; the default goes by the trigger's type and a few key words."""

_DIGEST_CHARACTERS = 280

_KEYWORDS: tuple[tuple[str, tuple[str, ...]], ...] = (
    (
        "approval_or_permission",
        ("approve", "approval", "permission", "allowed to", "authorize", "authorise", "may i"),
    ),
    (
        "task_execution",
        ("please", "create", "build", "run ", "write", "send", "make", "fix", "update", "delete"),
    ),
    (
        "question_answering",
        ("?", "what", "why", "how", "when", "where", "who", "which", "explain", "tell me"),
    ),
)


def _of_text(text: str) -> str:
    lowered = text.lower()
    for intent, keywords in _KEYWORDS:
        if any(keyword in lowered for keyword in keywords):
            return intent
    return "conversation"


_INTENTS: dict[type[r.Trigger], Callable[[Any], str]] = {
    r.ExternalEvent: lambda trigger: f"external_event:{trigger.source}",
    r.ScheduledWake: lambda _: "scheduled_wake",
    r.SystemObservation: lambda trigger: f"system_observation:{trigger.source}",
    r.Webhook: lambda trigger: f"webhook:{trigger.source}",
    r.RuleTrigger: lambda trigger: f"rule:{trigger.rule_id}",
    r.ProactiveHeartbeat: lambda _: "heartbeat",
    r.Approval: lambda trigger: f"approval:{trigger.decision}",
    r.DoubtResolution: lambda _: "doubt_resolution",
    r.DelegationResult: lambda _: "delegation_result",
    r.HumanInput: lambda trigger: _of_text(trigger.content),
    r.Message: lambda trigger: _of_text(trigger.content),
}


def classify(trigger: r.Trigger) -> str:
    """Return the trigger's intent, such as `webhook:github` or `question_answering`."""
    return _INTENTS[type(trigger)](trigger)


_OBSERVED: dict[type[r.Trigger], Callable[[Any], tuple[str, r.JsonValue]]] = {
    r.ExternalEvent: lambda trigger: (f"external:{trigger.source}", trigger.payload),
    r.HumanInput: lambda trigger: (f"human:{trigger.actor_id}", trigger.content),
    r.SystemObservation: lambda trigger: (f"system:{trigger.source}", trigger.observation),
    r.Webhook: lambda trigger: (f"webhook:{trigger.source}", trigger.payload),
    r.RuleTrigger: lambda trigger: (f"rule:{trigger.rule_id}", trigger.context),
    r.ProactiveHeartbeat: lambda trigger: ("heartbeat", trigger.timestamp_ms),
    r.Message: lambda trigger: (f"message:{trigger.user_id}", trigger.content),
}


def derived_events(trigger: r.Trigger, trigger_id: str) -> tuple[r.KernelEvent, ...]:
    """Return the events that follow from a trigger becoming active.

    An observation takes the trigger's id, and a digest of text that is long:
    the trigger's own record has the whole. What follows from an answer depends on what it answers.
    """
    if isinstance(trigger, r.ScheduledWake):
        return (r.WakeCompleted(wake_id=trigger.wake_id),)
    observed = _OBSERVED.get(type(trigger))
    if observed is None:
        return ()
    source, content = observed(trigger)
    if isinstance(content, str) and len(content) > _DIGEST_CHARACTERS:
        content = content[: _DIGEST_CHARACTERS - 1] + "…"
    return (r.ObservationAppended(observation_id=trigger_id, source=source, content=content),)
