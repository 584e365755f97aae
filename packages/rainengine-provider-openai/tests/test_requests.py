"""What goes over the wire: requests of both APIs, made without HTTP."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from rainengine.core.errors import ProviderError
from rainengine.core.records import (
    Attachment,
    AttachmentPart,
    BlobRef,
    JsonPart,
    SkillManifest,
    TextPart,
    ToolCallPart,
    ToolFailure,
    ToolResultPart,
)
from rainengine.core.tool_calling import tool_name
from rainengine.model_servers import openai_complaints
from rainengine.provider_openai._wire import WIRES

PIXEL = base64.b64encode(b"\x89PNG").decode()
BLOB = BlobRef(digest="d" * 64, size=4)

CONVERSATION: list[tuple[Any, Any]] = [
    ("system", "You help."),
    ("user", [TextPart("What is"), JsonPart({"ü": 1})]),
    (
        "assistant",
        [
            ToolCallPart(call_id="a", name="look_up", args={"city": "Köln"}),
            ToolCallPart(call_id="b", name="röntgen", args={}),
        ],
    ),
    (
        "tool",
        [
            ToolResultPart(call_id="a", name="look_up", value={"rain": True}),
            ToolResultPart(
                call_id="b", name="röntgen", failure=ToolFailure(kind="timeout", message="slow")
            ),
        ],
    ),
    ("system", "Plan: see (step 2 of 3)"),
    ("assistant", "It rains."),
    ("user", "Again!"),
    ("assistant", ToolCallPart(call_id="a", name="look_up", args={})),
    ("tool", ToolResultPart(call_id="a", name="look_up", value="still")),
]


def body(request: Any, settings: Any, files: Any = ()) -> dict[str, Any]:
    """Write a request; no rule of its API complains of it."""
    wire = WIRES[settings.api]
    written = wire.body(request, settings, dict(files))
    assert openai_complaints(written) == []
    assert openai_complaints(wire.streamed(written, settings)) == []
    return written


def test_chat_conversation(ask: Any, settings: Any) -> None:
    """Roles, texts, JSON, calls and results stand in chat completions as they were."""
    written = body(ask(*CONVERSATION), settings())
    second = written["messages"][8]["tool_calls"][0]["id"]
    assert written["messages"] == [
        {"role": "system", "content": "You help."},
        {"role": "user", "content": 'What is\n\n{"ü":1}'},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {
                    "id": "a",
                    "type": "function",
                    "function": {"name": "look_up", "arguments": '{"city":"Köln"}'},
                },
                {
                    "id": "b",
                    "type": "function",
                    "function": {"name": tool_name("röntgen"), "arguments": "{}"},
                },
            ],
        },
        {"role": "tool", "tool_call_id": "a", "content": '{"rain":true}'},
        {
            "role": "tool",
            "tool_call_id": "b",
            "content": '{"error":{"kind":"timeout","message":"slow"}}',
        },
        {"role": "system", "content": "Plan: see (step 2 of 3)"},
        {"role": "assistant", "content": "It rains."},
        {"role": "user", "content": "Again!"},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {
                    "id": second,
                    "type": "function",
                    "function": {"name": "look_up", "arguments": "{}"},
                }
            ],
        },
        {"role": "tool", "tool_call_id": second, "content": "still"},
    ]
    assert second not in ("a", "b")


def test_responses_conversation(ask: Any, settings: Any) -> None:
    """The same stands in the responses API as a list of items, and nothing is stored there."""
    written = body(ask(*CONVERSATION), settings(api="responses"))
    second = written["input"][9]["call_id"]
    assert written["store"] is False
    assert written["input"] == [
        {"role": "system", "content": "You help."},
        {"role": "user", "content": 'What is\n\n{"ü":1}'},
        {
            "type": "function_call",
            "call_id": "a",
            "name": "look_up",
            "arguments": '{"city":"Köln"}',
        },
        {
            "type": "function_call",
            "call_id": "b",
            "name": tool_name("röntgen"),
            "arguments": "{}",
        },
        {"type": "function_call_output", "call_id": "a", "output": '{"rain":true}'},
        {
            "type": "function_call_output",
            "call_id": "b",
            "output": '{"error":{"kind":"timeout","message":"slow"}}',
        },
        {"role": "system", "content": "Plan: see (step 2 of 3)"},
        {"role": "assistant", "content": "It rains."},
        {"role": "user", "content": "Again!"},
        {"type": "function_call", "call_id": second, "name": "look_up", "arguments": "{}"},
        {"type": "function_call_output", "call_id": second, "output": "still"},
    ]
    assert second not in ("a", "b")


# Options.


def test_nothing_is_sent_that_was_not_asked_for(ask: Any, settings: Any) -> None:
    """A request without options and tools is a model and its messages."""
    plain = ask(skills=())
    assert body(plain, settings()).keys() == {"model", "messages"}
    assert body(plain, settings(api="responses")).keys() == {"model", "input", "store"}


def test_chat_options(ask: Any, settings: Any) -> None:
    """What is configured stands under the names of chat completions."""
    request = ask(model="gpt-other", temperature=0.5, max_tokens=99)
    chosen = settings(reasoning_effort="low", parallel_tool_calls=False, extra_body={"seed": 7})
    written = body(request, chosen)
    assert {name: written[name] for name in written.keys() - {"messages", "tools"}} == {
        "model": "gpt-other",
        "temperature": 0.5,
        "max_completion_tokens": 99,
        "reasoning_effort": "low",
        "parallel_tool_calls": False,
        "seed": 7,
    }


def test_responses_options(ask: Any, settings: Any) -> None:
    """What is configured stands under the names of the responses API."""
    request = ask(temperature=0.5, max_tokens=99)
    chosen = settings(
        api="responses",
        reasoning_effort="low",
        parallel_tool_calls=True,
        extra_body={"truncation": "auto"},
    )
    written = body(request, chosen)
    assert {name: written[name] for name in written.keys() - {"input", "tools"}} == {
        "model": "gpt-test",
        "store": False,
        "temperature": 0.5,
        "max_output_tokens": 99,
        "reasoning": {"effort": "low"},
        "include": ["reasoning.encrypted_content"],
        "parallel_tool_calls": True,
        "truncation": "auto",
    }


@pytest.mark.parametrize(
    ("others", "field"),
    [
        ({"base_url": "https://api.openai.com/v1"}, "max_completion_tokens"),
        ({"base_url": "https://acme.openai.azure.com/openai/v1"}, "max_completion_tokens"),
        ({"base_url": "http://localhost:8000/v1"}, "max_tokens"),
        ({"base_url": "https://evil.example/api.openai.com"}, "max_tokens"),
        (
            {"base_url": "http://localhost/v1", "max_tokens_field": "max_completion_tokens"},
            "max_completion_tokens",
        ),
    ],
)
def test_the_bound_of_tokens(ask: Any, settings: Any, others: dict[str, Any], field: str) -> None:
    """OpenAI takes the bound by its new name, other endpoints by the old one, unless told."""
    written = body(ask(), settings(max_output_tokens=50, **others))
    assert written[field] == 50


def test_a_stream_tells_its_usage(ask: Any, settings: Any) -> None:
    """The usage of a stream is asked for, unless the endpoint does not know that."""
    wire = WIRES["chat"]
    written = body(ask(), settings())
    assert wire.streamed(written, settings())["stream_options"] == {"include_usage": True}
    own = {**written, "stream_options": {"include_obfuscation": False}}
    assert wire.streamed(own, settings())["stream_options"] == {
        "include_obfuscation": False,
        "include_usage": True,
    }
    assert "stream_options" not in wire.streamed(written, settings(stream_usage=False))


# Tools.


def test_chat_tools(ask: Any, settings: Any) -> None:
    """A skill is a function with its schema."""
    assert body(ask(), settings())["tools"] == [
        {
            "type": "function",
            "function": {
                "name": "look_up",
                "description": "Looks up a city.",
                "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
            },
        }
    ]


def test_responses_tools(ask: Any, settings: Any) -> None:
    """A skill is a function that is not strict, which that API would otherwise make it."""
    assert body(ask(), settings(api="responses"))["tools"] == [
        {
            "type": "function",
            "name": "look_up",
            "description": "Looks up a city.",
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
            "strict": False,
        }
    ]


def test_a_tool_that_the_api_would_refuse(ask: Any, settings: Any, api: Any) -> None:
    """Names, schemas and descriptions are fitted to what the API takes."""
    odd = SkillManifest(name="1 fine töol", description="x" * 2000, input_schema={})
    (tool,) = body(ask(skills=[odd]), settings(api=api))["tools"]
    tool = tool.get("function", tool)
    assert tool["name"] == tool_name(odd.name)
    assert len(tool["description"]) == 1024
    assert tool["parameters"] == {"type": "object", "properties": {}}


def test_actions_as_tools(ask: Any, settings: Any, api: Any) -> None:
    """Other actions are offered as reserved tools, unless the endpoint is to be spared them."""
    request = ask(skills=(), actions=frozenset({"respond", "call_skills", "yield", "plan"}))
    tools = body(request, settings(api=api))["tools"]
    names = [tool.get("function", tool)["name"] for tool in tools]
    assert names == ["rainengine_yield", "rainengine_plan"]
    assert "tools" not in body(request, settings(api=api, action_tools=False))


@pytest.mark.parametrize("purpose", ["plan", "summarise"])
def test_who_does_not_act_has_no_tools(ask: Any, settings: Any, api: Any, purpose: Any) -> None:
    """A model that plans or summarises is offered nothing."""
    written = body(ask(purpose=purpose), settings(api=api, parallel_tool_calls=True))
    assert not {"tools", "parallel_tool_calls"} & written.keys()


def test_a_long_result_is_shortened(ask: Any, settings: Any, api: Any) -> None:
    """A tool's result is cut between characters, and says so."""
    request = ask(
        ("user", "x"),
        ("assistant", ToolCallPart(call_id="a", name="look_up", args={})),
        ("tool", ToolResultPart(call_id="a", name="look_up", value="ü" * 100)),
    )
    written = body(request, settings(api=api, max_tool_output_bytes=5))
    last = (written.get("messages") or written["input"])[-1]
    shown = last.get("content", last.get("output"))
    assert shown == "üü\n[196 of 200 bytes were left out]"


# Structured output.

STRICT = {
    "type": "object",
    "properties": {
        "city": {"type": "string"},
        "days": {"type": "array", "items": {"$ref": "#/$defs/day"}},
        "mood": {"anyOf": [{"type": "null"}, {"type": "string", "enum": ["a"]}]},
    },
    "required": ["city", "days", "mood"],
    "additionalProperties": False,
    "$defs": {
        "day": {
            "type": "object",
            "properties": {"n": {"type": "integer"}},
            "required": ["n"],
            "additionalProperties": False,
        }
    },
}


def _holding(value: object) -> dict[str, Any]:
    return {**STRICT, "properties": {"city": value}, "required": ["city"]}


LAX: dict[str, dict[str, Any]] = {
    "an open object or null": _holding({"type": ["object", "null"]}),
    "anything": _holding({}),
    "true": _holding(True),  # noqa: FBT003
    "a list of anything": _holding({"type": "array"}),
    "a list of true": _holding({"type": "array", "items": True}),
    "an unknown format": _holding({"type": "string", "format": "uri"}),
    "an unknown type": _holding({"type": "date"}),
    "open": {**STRICT, "additionalProperties": True},
    "optional": {**STRICT, "required": ["city", "days"]},
    "unknown keyword": {**STRICT, "minProperties": 1},
    "inner": {**STRICT, "$defs": {"day": {"type": "object", "properties": {}}}},
    "choice": {**STRICT, "properties": {"city": {"oneOf": [{}]}}, "required": ["city"]},
}


@pytest.mark.parametrize(
    ("schema", "strict"),
    [(STRICT, True), *((schema, False) for schema in LAX.values())],
    ids=["strict", *LAX],
)
def test_a_schema(ask: Any, settings: Any, schema: Any, strict: bool) -> None:  # noqa: FBT001
    """An answer's schema is sent, to be held to the letter where the API can do that."""
    request = ask(response_schema=schema)
    wanted = {"name": "answer", "schema": schema, "strict": strict}
    chat = body(request, settings())
    assert chat["response_format"] == {"type": "json_schema", "json_schema": wanted}
    responses = body(request, settings(api="responses"))
    assert responses["text"] == {"format": {"type": "json_schema", **wanted}}


def test_json_without_a_schema(ask: Any, settings: Any, api: Any) -> None:
    """Where the endpoint takes no schema, the model is told it in words."""
    chosen = settings(api=api, structured_output="json_object")
    written = body(ask(response_schema={"type": "object"}), chosen)
    kind = written.get("response_format") or written["text"]["format"]
    assert kind == {"type": "json_object"}
    last = (written.get("messages") or written["input"])[-1]
    assert last["role"] == "system"
    assert 'fits this JSON Schema: {"type":"object"}' in last["content"]


# Files.


def file(media_type: str, data: str | None = PIXEL, blob: BlobRef | None = None) -> AttachmentPart:
    """Return a file that came with a message."""
    return AttachmentPart(Attachment(name="f.x", media_type=media_type, data=data, blob=blob))


CHAT_FILES: dict[str, tuple[AttachmentPart, str, dict[str, Any]]] = {
    "image": (
        file("image/png"),
        "",
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}},
    ),
    "image by URL": (
        file("image/png", None, BLOB),
        "https://files.example/f",
        {"type": "image_url", "image_url": {"url": "https://files.example/f"}},
    ),
    "audio": (
        file("audio/mpeg"),
        "",
        {"type": "input_audio", "input_audio": {"data": PIXEL, "format": "mp3"}},
    ),
    "pdf": (
        file("application/pdf"),
        "",
        {
            "type": "file",
            "file": {"filename": "f.x", "file_data": f"data:application/pdf;base64,{PIXEL}"},
        },
    ),
    "pdf by id": (
        file("application/pdf", None, BLOB),
        "file-123",
        {"type": "file", "file": {"file_id": "file-123"}},
    ),
    "text": (
        file("text/csv; charset=utf-8", base64.b64encode(b"a,b").decode()),
        "",
        {"type": "text", "text": "f.x:\na,b"},
    ),
    "text of a blob": (
        file("application/json", None, BLOB),
        f"data:application/json;base64,{base64.b64encode(b'{}').decode()}",
        {"type": "text", "text": "f.x:\n{}"},
    ),
    "no text": (
        file("text/plain"),  # these bytes are no UTF-8
        "",
        {
            "type": "file",
            "file": {"filename": "f.x", "file_data": f"data:text/plain;base64,{PIXEL}"},
        },
    ),
}


@pytest.mark.parametrize(("part", "found", "sent"), CHAT_FILES.values(), ids=CHAT_FILES)
def test_chat_files(ask: Any, settings: Any, part: Any, found: str, sent: Any) -> None:
    """Images, audio, texts and other files go along as chat completions take them."""
    request = ask(("user", [TextPart("see"), part]))
    written = body(request, settings(), {BLOB: found}.items())
    assert written["messages"][0]["content"] == [{"type": "text", "text": "see"}, sent]


RESPONSE_FILES: dict[str, tuple[AttachmentPart, str, dict[str, Any]]] = {
    "image": (
        file("image/png"),
        "",
        {
            "type": "input_image",
            "detail": "auto",
            "image_url": f"data:image/png;base64,{PIXEL}",
        },
    ),
    "image by id": (
        file("image/png", None, BLOB),
        "file-123",
        {"type": "input_image", "detail": "auto", "file_id": "file-123"},
    ),
    "pdf": (
        file("application/pdf"),
        "",
        {
            "type": "input_file",
            "filename": "f.x",
            "file_data": f"data:application/pdf;base64,{PIXEL}",
        },
    ),
    "pdf by URL": (
        file("application/pdf", None, BLOB),
        "https://files.example/f",
        {"type": "input_file", "file_url": "https://files.example/f"},
    ),
    "pdf by id": (
        file("application/pdf", None, BLOB),
        "file-123",
        {"type": "input_file", "file_id": "file-123"},
    ),
    "text": (
        file("text/plain", base64.b64encode(b"a").decode()),
        "",
        {"type": "input_text", "text": "f.x:\na"},
    ),
}


@pytest.mark.parametrize(("part", "found", "sent"), RESPONSE_FILES.values(), ids=RESPONSE_FILES)
def test_response_files(ask: Any, settings: Any, part: Any, found: str, sent: Any) -> None:
    """Images, texts and other files go along as the responses API takes them."""
    request = ask(("user", [TextPart("see"), part]))
    written = body(request, settings(api="responses"), {BLOB: found}.items())
    assert written["input"][0]["content"] == [{"type": "input_text", "text": "see"}, sent]


@pytest.mark.parametrize(
    ("part", "found"),
    [
        (file("image/png", None, BLOB), ""),
        (file("image/png", None, None), ""),
        (file("image/png", None, BLOB), "file-123"),
        (file("application/pdf", None, BLOB), "https://files.example/f"),
    ],
    ids=["not found", "nothing", "image by id", "pdf by URL"],
)
def test_a_file_that_cannot_be_sent(ask: Any, settings: Any, part: Any, found: str) -> None:
    """A file that nobody found, or that chat completions do not take so, is an error."""
    files = {BLOB: found} if found else {}
    with pytest.raises(ProviderError, match=r"attachment 'f\.x'.* cannot be sent") as caught:
        WIRES["chat"].body(ask(("user", part)), settings(), files)
    assert (caught.value.kind, caught.value.retryable) == ("configuration", False)


def test_only_users_send_files(ask: Any, settings: Any, api: Any) -> None:
    """A file beside the words of anybody else is named, and left out."""
    written = body(ask(("system", [TextPart("see"), file("image/png")])), settings(api=api))
    (message,) = written.get("messages") or written["input"]
    assert message["content"] == "see\n\n[attachment: f.x]"
