"""What a model is shown, in whatever state the session is."""

from __future__ import annotations

from typing import Any

import attrs
from hypothesis import given, settings
from hypothesis import strategies as st

from rainengine.core import AgentProfile, Message, ProviderConfig, Respond, Webhook
from rainengine.core.kernel import INSTRUCTION, build_context, build_summary_context
from rainengine.core.projection import Run, SessionProjection, WindowItem, fold
from rainengine.core.records import (
    AgentRef,
    Attachment,
    AttachmentPart,
    ChatMessage,
    EnginePolicy,
    ExecutionPlan,
    JsonPart,
    MemoryPolicy,
    Summary,
    TextPart,
    ToolCallPart,
    ToolResultPart,
    Trigger,
)
from rainengine.core.testing.strategies import histories


def a_run(trigger: Trigger | None = None, **changes: Any) -> Run:
    """A run for projections that have none."""
    run = Run(
        trigger_id="other",
        trigger=trigger or Message(user_id="u", content="the trigger"),
        sequence=1,
        idempotency_key=None,
        agent=AgentRef(),
        granted_scopes=(),
        policy=EnginePolicy(),
        provider=ProviderConfig(),
        traceparent=None,
        body_hash="",
    )
    return attrs.evolve(run, **changes)


def unpaired(messages: tuple[ChatMessage, ...]) -> list[str]:
    """What breaks the rule that each call is followed by its one result."""
    faults: list[str] = []
    open_calls: list[tuple[str, str]] = []
    for message in messages:
        calls = [(p.call_id, p.name) for p in message.parts if isinstance(p, ToolCallPart)]
        results = [(p.call_id, p.name) for p in message.parts if isinstance(p, ToolResultPart)]
        if open_calls != results:
            faults.append(f"{open_calls} are followed by {results}")
        if calls and message.role != "assistant":
            faults.append(f"calls by the {message.role}")
        if results and message.role != "tool":
            faults.append(f"results by the {message.role}")
        open_calls = calls
    return [*faults, *(f"{call} has no result" for call in open_calls)]


@settings(max_examples=80, deadline=None)
@given(histories(max_runs=5), st.integers(0, 70), st.integers(-2, 40))
def test_every_call_has_its_result(history: Any, cut: int, recent: int) -> None:
    """After any history, broken off anywhere, in any window, calls and results are paired."""
    entries = [entry for batch in history for entry in batch]
    profile = AgentProfile(memory=MemoryPolicy(max_recent_items=recent))
    projection = SessionProjection()
    for sequence, entry in enumerate(entries[: max(len(entries) - cut, 1)], start=1):
        fold(projection, sequence, entry)
        run = projection.run or a_run()
        assert unpaired(build_context(projection, run, profile)) == []


@settings(max_examples=80, deadline=None)
@given(histories(max_runs=5), st.integers(-2, 40), st.booleans())
def test_only_the_operator_speaks_as_the_system(
    history: Any,
    recent: int,
    searchable: bool,  # noqa: FBT001
) -> None:
    """After any history, what the system says is the profile's, or one of few fixed sentences."""
    profile = AgentProfile(role="You help.", memory=MemoryPolicy(max_recent_items=recent))
    cut = "The conversation is longer than what follows: earlier parts were left out."
    fixed = {"You help.", cut + " memory_search finds them." * searchable, INSTRUCTION}
    projection = SessionProjection(summary=Summary(text="You rule.", through_sequence=0))
    plan = ExecutionPlan(plan_id="p", objective="Obey.", steps=(Respond("a"),))
    for sequence, entry in enumerate([e for batch in history for e in batch], start=1):
        fold(projection, sequence, entry)
        run = attrs.evolve(projection.run or a_run(), plan=plan)
        messages = build_context(projection, run, profile, searchable=searchable)
        messages += build_summary_context(projection, projection.window)
        said = [texts((message,)) for message in messages if message.role == "system"]
        assert {text for spoken in said for text in spoken} <= fixed


@settings(max_examples=80, deadline=None)
@given(histories(max_runs=5), st.integers(-2, 40))
def test_the_trigger_is_shown_once(history: Any, recent: int) -> None:
    """Whatever was cut, the active run's trigger stands in the messages exactly once."""
    profile = AgentProfile(memory=MemoryPolicy(max_recent_items=recent))
    projection = SessionProjection()
    marked = 0
    for sequence, entry in enumerate([e for batch in history for e in batch], start=1):
        if entry.record.kind == "trigger":
            marked += 1
            trigger = Message(user_id="u", content=f"marked {marked}")
            record = attrs.evolve(entry.record, trigger=trigger)
        else:
            record = entry.record
        fold(projection, sequence, attrs.evolve(entry, record=record))
        if projection.run is not None:
            shown = [
                message
                for message in build_context(projection, projection.run, profile)
                if message.parts == (TextPart(projection.run.trigger.content),)
                and message.role == "user"
            ]
            assert len(shown) == 1


async def test_the_conversation_is_shown_in_order(stage: Any) -> None:
    """Role, question, calls, results, answer and the next question follow each other."""
    answers = [stage.calls("read", "read"), Respond("an answer"), Respond("x")]
    profile = AgentProfile(role="You help.", goals=("be brief",))
    engine = stage.engine(answers, stage.skill("read"), profile=profile)
    await stage.play(engine, stage.request(text="first"))
    await stage.play(engine, stage.request(text="second"))
    shown = [
        (message.role, [getattr(part, "text", type(part).__name__) for part in message.parts])
        for message in stage.provider.requests[-1].messages
    ]
    assert shown == [
        ("system", ["You help."]),
        ("system", ["Goals:\n- be brief"]),
        ("user", ["first"]),
        ("assistant", ["ToolCallPart", "ToolCallPart"]),
        ("tool", ["ToolResultPart", "ToolResultPart"]),
        ("assistant", ["an answer"]),
        ("user", ["second"]),
    ]


def texts(messages: tuple[ChatMessage, ...]) -> list[str]:
    """All plain text of the messages."""
    return [part.text for m in messages for part in m.parts if isinstance(part, TextPart)]


def window(count: int) -> list[WindowItem]:
    """So many replies."""
    return [WindowItem(sequence=n, role="reply", text=f"reply {n}") for n in range(count)]


def test_a_cut_is_told_of() -> None:
    """Where earlier parts were left out, a system message says so."""
    profile = AgentProfile(memory=MemoryPolicy(max_recent_items=3))
    shown = texts(build_context(SessionProjection(window=window(4)), a_run(), profile))
    assert "earlier parts were left out" in shown[0]
    assert shown[1:] == ["the trigger", "reply 1", "reply 2", "reply 3"]


def test_nothing_is_told_of_where_nothing_was_cut() -> None:
    """A conversation that fits has no such message."""
    profile = AgentProfile(memory=MemoryPolicy(max_recent_items=3))
    shown = texts(build_context(SessionProjection(window=window(3)), a_run(), profile))
    assert shown == ["the trigger", "reply 0", "reply 1", "reply 2"]


def test_what_the_projection_let_go_of_is_a_cut_too() -> None:
    """The message also comes where the projection's own window was cut."""
    projection = SessionProjection(window=window(1), window_cut=True)
    assert (
        "earlier parts were left out"
        in texts(build_context(projection, a_run(), AgentProfile()))[0]
    )


def test_the_latest_summary_is_shown() -> None:
    """The newest summary stands before the conversation, and is nobody's instruction."""
    projection = SessionProjection(summary=Summary(text="long ago", through_sequence=5))
    first, second = build_context(projection, a_run(), AgentProfile())
    told = {"event": "summary_of_what_came_before", "text": "long ago"}
    assert first == ChatMessage("user", (JsonPart(told),))
    assert texts((second,)) == ["the trigger"]


def test_the_plans_position_is_shown() -> None:
    """An active plan's objective and position come last."""
    plan = ExecutionPlan(
        plan_id="p", objective="tidy up", steps=(Respond("a"), Respond("b")), position=1
    )
    *_, last = build_context(SessionProjection(), a_run(plan=plan), AgentProfile())
    told = {"event": "plan", "plan": "tidy up", "step": 2, "steps": 2}
    assert last == ChatMessage("user", (JsonPart(told),))


def test_triggers_that_are_no_text_are_shown_as_json() -> None:
    """A webhook is shown with its facts, its attachments as parts of their own."""
    file = Attachment(name="f", media_type="text/plain", data="YQ==")
    trigger = Webhook(source="git", payload={"a": [1]}, attachments=(file,))
    (message,) = build_context(SessionProjection(), a_run(trigger), AgentProfile())
    assert message == ChatMessage(
        "user",
        (
            JsonPart({"source": "git", "payload": {"a": [1]}, "type": "webhook"}),
            AttachmentPart(file),
        ),
    )


async def test_an_interrupted_call_is_shown_as_such(stage: Any) -> None:
    """A call that has no result yet is shown with a failure that says so."""
    skill = stage.skill("slow", stage.taking(4))
    await stage.interrupt(stage.engine([stage.calls("slow")], skill))
    projection = await stage.replayed()
    assert projection.run is not None
    part = build_context(projection, projection.run, AgentProfile())[-1].parts[0]
    assert isinstance(part, ToolResultPart)
    assert part.failure is not None
    assert (part.call_id, part.failure.kind) == ("c1", "unknown_outcome")


async def test_the_context_builder_can_be_replaced(stage: Any) -> None:
    """An engine with a builder of its own shows what that one gives."""
    mine = (ChatMessage("user", (TextPart("mine"),)),)
    await stage.engine([Respond("x")], build_context=lambda *_: mine).advance(stage.request())
    assert stage.provider.requests[0].messages == mine


def test_no_recent_items_are_none() -> None:
    """With `max_recent_items=0` only the trigger is shown of the conversation."""
    profile = AgentProfile(memory=MemoryPolicy(max_recent_items=0))
    shown = texts(build_context(SessionProjection(window=window(4)), a_run(), profile))
    assert shown[1:] == ["the trigger"]
