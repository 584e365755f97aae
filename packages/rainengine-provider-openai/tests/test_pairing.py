"""What goes over the wire keeps the rules of its API, after any history."""

from __future__ import annotations

import json
from typing import Any, get_args

import attrs
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rainengine.core.kernel import build_context
from rainengine.core.projection import SessionProjection, fold
from rainengine.core.records import (
    AgentProfile,
    AttachmentPart,
    ChatMessage,
    DoubtResolution,
    MemoryPolicy,
    NewRecord,
    ProviderConfig,
    SkillManifest,
    ToolCallPart,
    ToolResultPart,
    TriggerRecord,
)
from rainengine.core.settings import Secret
from rainengine.core.testing import provider_request
from rainengine.core.testing.strategies import (
    histories,
    instances,
    json_objects,
    json_values,
    texts,
)
from rainengine.model_servers import openai_complaints
from rainengine.provider_openai import Api, OpenAISettings
from rainengine.provider_openai._files import data_url, references
from rainengine.provider_openai._wire import WIRES

APIS = get_args(Api)


def complaints(messages: Any, skills: Any = (), **config: Any) -> list[str]:
    """Return what each API would complain of, in requests and in those for streams."""
    shown = tuple(_sendable(message) for message in messages)
    request = provider_request(
        *shown, available_skills=tuple(skills), config=ProviderConfig(**config)
    )
    files = {blob: data_url(file, "AAAA") for blob, file in references(shown).items()}
    found: list[str] = []
    for api in APIS:
        chosen = OpenAISettings(model="m", api_key=Secret("k"), api=api)
        wire = WIRES[chosen.api]
        body = wire.body(request, chosen, files)
        found += openai_complaints(json.loads(json.dumps(body)))
        found += openai_complaints(wire.streamed(body, chosen))
    return found


def _sendable(message: ChatMessage) -> ChatMessage:
    """Give files that have neither bytes nor a place some bytes."""
    parts = [
        AttachmentPart(attrs.evolve(part.attachment, data="AAAA"))
        if isinstance(part, AttachmentPart) and part.attachment.blob is None
        else part
        for part in message.parts
    ]
    return ChatMessage(message.role, tuple(parts))


def _settles_doubt(entry: NewRecord) -> bool:
    """Whether an entry is a trigger that belongs to a run, and never begins one."""
    record = entry.record
    return isinstance(record, TriggerRecord) and isinstance(record.trigger, DoubtResolution)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(histories(max_runs=5), st.integers(0, 70), st.integers(-2, 40))
def test_after_any_history(history: Any, cut: int, recent: int) -> None:
    """Broken off anywhere, in any window, each call goes out with its one result after it."""
    entries = [entry for batch in history for entry in batch if not _settles_doubt(entry)]
    profile = AgentProfile(role="You help.", memory=MemoryPolicy(max_recent_items=recent))
    projection = SessionProjection()
    for sequence, entry in enumerate(entries[: max(len(entries) - cut, 1)], start=1):
        fold(projection, sequence, entry)
        if projection.run is not None:
            messages = build_context(projection, projection.run, profile)
            assert complaints(messages) == []


@st.composite
def rounds(draw: st.DrawFn) -> list[ChatMessage]:
    """Draw calls with ids and names that a model may have made up, and their results."""
    ids = st.sampled_from(["a", "b", "", "call_1", "x" * 300, "ü", "a b"]) | texts()
    names = st.sampled_from(["look_up", "rainengine_yield", "functions.f", ""]) | texts(90)
    call_ids = draw(st.lists(ids, min_size=1, max_size=3, unique=True))
    calls = [
        ToolCallPart(
            call_id=call_id,
            name=draw(names),
            args=draw(json_objects()),
            opaque=draw(st.none() | texts() | st.sampled_from(['{"api":"chat","model":"m"}'])),
        )
        for call_id in call_ids
    ]
    results = [
        ToolResultPart(call_id=call.call_id, name=call.name, value=draw(json_values()))
        for call in calls
    ]
    return [ChatMessage("assistant", tuple(calls)), ChatMessage("tool", tuple(results))]


@settings(max_examples=60, deadline=None)
@given(st.lists(rounds(), min_size=1, max_size=4))
def test_whatever_models_make_up(conversation: list[list[ChatMessage]]) -> None:
    """Ids and names that repeat, are too long or not even text for an API do no harm."""
    assert complaints([message for both in conversation for message in both]) == []


@settings(max_examples=60, deadline=None)
@given(
    st.lists(instances(SkillManifest), max_size=3, unique_by=lambda one: one.name),
    json_objects(),
)
def test_whatever_skills_are(skills: list[SkillManifest], schema: Any) -> None:
    """Skills of any name go out as tools, whose schemas are those of objects."""
    plain = [attrs.evolve(one, input_schema={"properties": {"x": schema}}) for one in skills]
    messages = [ChatMessage("user", ())]
    assert complaints(messages, plain) == []


def test_the_validator_sees_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the ids made unique, a second turn with the same ids would be complained of."""
    from rainengine.provider_openai import _texts

    call = ToolCallPart(call_id="a", name="f", args={})
    result = ToolResultPart(call_id="a", name="f")
    one = [ChatMessage("assistant", (call,)), ChatMessage("tool", (result,))]
    assert complaints(one * 2) == []
    monkeypatch.setattr(_texts, "unique_ids", list)
    assert "stands twice" in str(complaints(one * 2))
