"""What a trigger becomes: its record, its intent, the events that follow from it."""

from __future__ import annotations

from typing import Any

import pytest

from rainengine.core import (
    Agent,
    AgentProfile,
    Approval,
    DelegationResult,
    EnginePolicy,
    ExternalEvent,
    HumanInput,
    Message,
    ProactiveHeartbeat,
    ProviderConfig,
    Respond,
    RuleTrigger,
    ScheduledWake,
    SystemObservation,
    Webhook,
)
from rainengine.core.errors import InadmissibleValue
from rainengine.core.kernel import classify, derived_events
from rainengine.core.records import (
    AgentRef,
    Attachment,
    KernelEventRecord,
    ObservationAppended,
    Trigger,
    TriggerIntent,
    TriggerRecord,
    WakeCompleted,
)


def observed(source: str, content: Any) -> tuple[ObservationAppended]:
    """The observation that follows from trigger t."""
    return (ObservationAppended(observation_id="t", source=source, content=content),)


@pytest.mark.parametrize(
    ("trigger", "intent", "events"),
    [
        (
            ExternalEvent(source="crm", payload={"a": 1}),
            "external_event:crm",
            observed("external:crm", {"a": 1}),
        ),
        (
            ScheduledWake(wake_id="w", due_at_ms=5, reason="look"),
            "scheduled_wake",
            (WakeCompleted(wake_id="w"),),
        ),
        (
            SystemObservation(source="disk", observation=0.9),
            "system_observation:disk",
            observed("system:disk", 0.9),
        ),
        (Webhook(source="git", payload=[1]), "webhook:git", observed("webhook:git", [1])),
        (
            RuleTrigger(rule_id="r7", context=None),
            "rule:r7",
            observed("rule:r7", None),
        ),
        (ProactiveHeartbeat(timestamp_ms=9), "heartbeat", observed("heartbeat", 9)),
        (Approval(resume_token="x", decision="approved"), "approval:approved", ()),
        (Approval(resume_token="x", decision="rejected"), "approval:rejected", ()),
        (
            DelegationResult(correlation_id="d", payload=1),
            "delegation_result",
            (),
        ),
        (
            HumanInput(actor_id="ann", content="I approve it"),
            "approval_or_permission",
            observed("human:ann", "I approve it"),
        ),
        (
            Message(user_id="bob", content="Please fix it"),
            "task_execution",
            observed("message:bob", "Please fix it"),
        ),
        (
            Message(user_id="bob", content="Who is it?"),
            "question_answering",
            observed("message:bob", "Who is it?"),
        ),
        (Message(user_id="bob", content="hi"), "conversation", observed("message:bob", "hi")),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Trigger) else "",
)
def test_every_trigger_has_its_intent_and_its_events(
    trigger: Trigger, intent: str, events: tuple[Any, ...]
) -> None:
    """Intent and derived events follow from the trigger alone, as the table says."""
    assert (classify(trigger), derived_events(trigger, "t")) == (intent, events)


def test_long_text_is_observed_in_short() -> None:
    """An observation holds at most 280 characters of a text; the trigger has the whole."""
    (event,) = derived_events(Message(user_id="bob", content="x" * 1000), "t")
    assert isinstance(event, ObservationAppended)
    assert event.content == "x" * 279 + "…"


async def test_the_trigger_is_stored_before_the_model_is_asked(stage: Any) -> None:
    """Trigger, intent and derived events are one append, durable when the model is asked."""
    seen: list[Any] = []

    async def answer(_: Any) -> Respond:
        seen.append((await stage.kinds(), stage.ledger.stats().commits))
        return Respond("hi")

    await stage.engine(answer).advance(stage.request())
    assert seen == [(["trigger", "trigger_intent", "kernel_event"], 1)]


async def test_the_request_is_stored_with_its_trigger(stage: Any) -> None:
    """Scopes, policy, provider settings and agent stand in the trigger's record."""
    profile = AgentProfile(default_scopes=("base", "more"))
    engine = stage.engine([Respond("hi")], agent=Agent(name="ann", version="7", profile=profile))
    request = stage.request(
        granted_scopes=("more", "own"),
        policy=EnginePolicy(max_steps=3),
        provider=ProviderConfig(model="m", temperature=0.5, max_tokens=9),
    )
    result = await engine.advance(request)
    (record,) = await stage.records(TriggerRecord)
    assert record == TriggerRecord(
        trigger_id=result.trigger_id,
        trigger=request.trigger,
        body_hash=record.body_hash,
        agent=AgentRef(name="ann", version="7"),
        granted_scopes=("base", "more", "own"),
        policy=EnginePolicy(max_steps=3),
        provider=ProviderConfig(model="m", temperature=0.5, max_tokens=9),
    )


async def test_a_continued_run_keeps_the_authority_it_began_with(stage: Any) -> None:
    """Another process with other defaults continues a run with the scopes and policy stored."""
    engine = stage.engine([stage.calls("read")], stage.skill("read"))
    await engine.advance(stage.request(granted_scopes=("mine",), policy=EnginePolicy(max_steps=5)))
    other = stage.engine(
        [Respond("hi")],
        policy=EnginePolicy(max_steps=99),
        profile=AgentProfile(default_scopes=("everything",)),
    )
    await other.advance(stage.go_on)
    (asked,) = stage.provider.requests
    assert (asked.context.granted_scopes, asked.policy.max_steps) == (("mine",), 5)


async def test_the_result_tells_of_the_derived_events(stage: Any) -> None:
    """An advance gives back the events it stored and the ids that they touch."""
    result = await stage.engine([Respond("hi")]).advance(stage.request(text="hi"))
    event = ObservationAppended(
        observation_id=result.trigger_id, source="message:user", content="hi"
    )
    assert result.emitted_events == (event,)
    assert result.state_delta.observation_ids == (result.trigger_id,)


async def test_the_classifier_can_be_replaced(stage: Any) -> None:
    """An engine with a classifier of its own records that one's intent."""
    await stage.engine([Respond("hi")], classify=lambda _: "mine").advance(stage.request())
    (intent,) = await stage.records(TriggerIntent)
    assert intent.intent == "mine"


async def test_events_are_stored_as_records(stage: Any) -> None:
    """A wake's trigger completes the wake, as a kernel event in the ledger."""
    wake = ScheduledWake(wake_id="w", due_at_ms=5, reason="look")
    await stage.engine([Respond("hi")]).advance(stage.request(trigger=wake))
    assert await stage.records(KernelEventRecord) == [KernelEventRecord(WakeCompleted(wake_id="w"))]


NESTED: list[Any] = []
for _ in range(10_000):
    NESTED = [NESTED]


MALFORMED: dict[str, dict[str, Any]] = {
    "text with NUL": {"text": "a\0b"},
    "text with a surrogate": {"text": "\ud800"},
    "text that is a number": {"text": 5},
    "text of 50 MB": {"text": "x" * 50_000_000},
    "a trigger that is text": {"trigger": "hello"},
    "NaN": {"trigger": Webhook(source="w", payload=float("nan"))},
    "a huge integer": {"trigger": Webhook(source="w", payload=2**70)},
    "nesting": {"trigger": Webhook(source="w", payload=NESTED)},
    "an object": {"trigger": Webhook(source="w", payload=object())},
    "a key that is a number": {"trigger": Webhook(source="w", payload={1: 2})},
    "an attachment that is text": {
        "trigger": Webhook(source="w", payload=1, attachments=("file",))
    },
    "an attachment's name": {
        "trigger": Message(
            user_id="u", content="", attachments=(Attachment(name="\0", media_type="a"),)
        )
    },
    "no scopes": {"granted_scopes": None},
    "scopes that are numbers": {"granted_scopes": (1,)},
    "scopes that are text": {"granted_scopes": "tool:run"},
    "a policy that is a dict": {"policy": {"max_steps": 3}},
    "an infinite temperature": {"provider": ProviderConfig(temperature=float("inf"))},
    "a key with NUL": {"key": "\0"},
    "an empty key": {"key": ""},
    "an idempotency key that is a number": {"key": 5},
    "an empty session id": {"session_id": ""},
    "no session id": {"session_id": None},
    "a session id that is a list": {"session_id": ["s"]},
    "a long session id": {"session_id": "x" * 1000},
}


@pytest.mark.parametrize("fault", MALFORMED)
async def test_a_request_that_breaks_the_rule_is_refused_whole(stage: Any, fault: str) -> None:
    """A malformed request is `InadmissibleValue` from advance and submit; nothing is stored."""
    engine = stage.engine([Respond("hi")])
    for take in (engine.advance, engine.submit):
        with pytest.raises(InadmissibleValue):
            await take(stage.request(**MALFORMED[fault]))
    assert (await stage.stored(), stage.provider.requests) == ([], [])
    assert (await engine.advance(stage.request())).outcome.response == "hi"


@pytest.mark.parametrize(
    "answer",
    [
        Approval(resume_token="guessed", decision="approved"),
        DelegationResult(correlation_id="guessed", payload={}),
    ],
)
async def test_an_answer_that_nothing_waits_for_runs_nothing(stage: Any, answer: Any) -> None:
    """An approval or result under an unknown token ends at once; no model is asked."""
    engine = stage.engine([Respond("x")])
    await engine.advance(stage.request())
    (result,) = await stage.play(engine, stage.request(trigger=answer))
    assert ("policy_aborted", 1) == (result.outcome.stop_reason, len(stage.provider.requests))
