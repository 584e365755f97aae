"""What goes over the wire keeps the API's rules, whatever happened before."""

from __future__ import annotations

import base64
from typing import Any

import attrs
from hypothesis import given, settings
from hypothesis import strategies as st

from rainengine.core.abc import ProviderRequest
from rainengine.core.codec import to_json
from rainengine.core.kernel import build_context
from rainengine.core.projection import Run, SessionProjection, fold
from rainengine.core.records import (
    AgentProfile,
    AgentRef,
    AttachmentPart,
    ChatMessage,
    EnginePolicy,
    JsonPart,
    MemoryPolicy,
    Message,
    Part,
    ProviderConfig,
    SkillManifest,
    ToolCallPart,
)
from rainengine.core.settings import Secret
from rainengine.core.testing import provider_request
from rainengine.core.testing.strategies import histories, json_objects, texts
from rainengine.model_servers import gemini_complaints
from rainengine.provider_gemini import GeminiSettings
from rainengine.provider_gemini._old_bodies import old_body
from rainengine.provider_gemini._opaque import pack
from rainengine.provider_gemini._prefixes import after, creation_body, prefixes_of
from rainengine.provider_gemini._requests import body_of

SETTINGS = GeminiSettings(model="m", api_key=Secret("k"), max_tool_output_bytes=200)
OLD, NEW = "gemini-2.5-flash", "gemini-3-pro"


def a_run() -> Run:
    """A run for projections that have none."""
    return Run(
        trigger_id="other",
        trigger=Message(user_id="u", content="the trigger"),
        sequence=1,
        idempotency_key=None,
        agent=AgentRef(),
        granted_scopes=(),
        policy=EnginePolicy(),
        provider=ProviderConfig(),
        traceparent=None,
        body_hash="",
    )


def sendable(message: ChatMessage, signature: str | None) -> ChatMessage:
    """The message with sound files and JSON, and with calls as this model makes them."""

    def changed(part: Part) -> Part:
        if isinstance(part, AttachmentPart):
            data = base64.b64encode(b"x").decode()
            return AttachmentPart(attrs.evolve(part.attachment, media_type="image/png", data=data))
        if isinstance(part, JsonPart):  # random triggers hold more than JSON
            return JsonPart(to_json(part.value))
        if isinstance(part, ToolCallPart) and signature is not None:
            return attrs.evolve(part, opaque=pack(NEW, signature, [{"text": "So:"}]))
        return part

    return ChatMessage(message.role, tuple(map(changed, message.parts)))


@st.composite
def requests(draw: Any) -> ProviderRequest:
    """What an engine asks after a random history, broken off anywhere, in any window."""
    history = draw(histories(max_runs=5))
    entries = [entry for batch in history for entry in batch]
    projection = SessionProjection()
    for sequence, entry in enumerate(entries[: max(len(entries) - draw(st.integers(0, 40)), 1)], 1):
        fold(projection, sequence, entry)
    run = projection.run or a_run()
    role = draw(st.sampled_from(["", "You help."]))
    memory = MemoryPolicy(max_recent_items=draw(st.integers(-2, 40)))
    messages = build_context(projection, run, AgentProfile(role=role, memory=memory))
    signature = draw(st.sampled_from([None, "c2ln"]))
    names = draw(st.lists(texts().filter(bool), max_size=3, unique=True))
    skills = [
        SkillManifest(name=name, description="d", input_schema=draw(json_objects()))
        for name in names
    ]
    return provider_request(
        *(sendable(message, signature) for message in messages),
        trigger=run.trigger,
        available_skills=tuple(attrs.evolve(one, input_schema=SCHEMA) for one in skills),
        config=ProviderConfig(
            response_schema=draw(st.sampled_from([None, {"type": "object", "properties": {}}]))
        ),
        purpose=draw(st.sampled_from(["act", "plan", "summarise"])),
        actions=frozenset(draw(st.sets(st.sampled_from(ACTIONS)))) | {"respond"},
    )


SCHEMA: dict[str, Any] = {"type": "object", "properties": {"a": {"type": "string"}}}
ACTIONS: list[Any] = ["yield", "plan", "call_skills", "memory_search", "suspend", "delegate"]


@settings(max_examples=150, deadline=None)
@given(requests(), st.sampled_from([OLD, NEW]))
def test_requests_keep_the_rules(request: ProviderRequest, model: str) -> None:
    """Calls and responses are paired, turns alternate, names are sound: in any state."""
    body = body_of(request, SETTINGS, model=model, files={})
    assert [] == gemini_complaints(body, model=model)


@settings(max_examples=100, deadline=None)
@given(requests())
def test_requests_by_the_old_sdk_keep_the_rules(request: ProviderRequest) -> None:
    """So does what is left of a request for the SDK that has ended."""
    body = body_of(request, SETTINGS, model=OLD, files={})
    assert [] == gemini_complaints(old_body(body), model=OLD)


@settings(max_examples=100, deadline=None)
@given(requests(), st.data())
def test_requests_with_a_cache_keep_the_rules(request: ProviderRequest, data: Any) -> None:
    """So does what follows on a beginning that is kept, wherever that ends."""
    body = body_of(request, SETTINGS, model=NEW, files={})
    prefix = data.draw(st.sampled_from(prefixes_of(NEW, body)))
    cached = creation_body(NEW, body, prefix, 60)
    rest = after(body, prefix, "cachedContents/1")
    assert [] == gemini_complaints(rest, model=NEW, cached=cached)
