"""The rules of OpenAI's APIs: sound requests pass, and every rule is held."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest

from rainengine.model_servers import openai_complaints

CHAT: dict[str, Any] = {
    "model": "gpt",
    "messages": [
        {"role": "system", "content": "s"},
        {"role": "user", "content": [{"type": "text", "text": "look"}]},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}},
                {"id": "b", "type": "function", "function": {"name": "f", "arguments": "{}"}},
            ],
        },
        {"role": "tool", "tool_call_id": "b", "content": "1"},
        {"role": "tool", "tool_call_id": "a", "content": "2"},
        {"role": "assistant", "content": "done"},
    ],
    "tools": [
        {
            "type": "function",
            "function": {
                "name": "f",
                "description": "d",
                "parameters": {"type": "object", "properties": {}},
            },
        }
    ],
    "tool_choice": "auto",
    "stream": True,
    "stream_options": {"include_usage": True},
    "response_format": {
        "type": "json_schema",
        "json_schema": {"name": "n", "schema": {"type": "object"}, "strict": False},
    },
}
RESPONSE: dict[str, Any] = {
    "model": "gpt",
    "input": [
        {"role": "system", "content": "s"},
        {"role": "user", "content": [{"type": "input_text", "text": "look"}]},
        {"type": "reasoning", "id": "rs", "summary": [], "encrypted_content": "x"},
        {"type": "function_call", "call_id": "a", "name": "f", "arguments": "{}"},
        {"type": "function_call", "call_id": "b", "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "a", "output": "1"},
        {"type": "function_call_output", "call_id": "b", "output": "2"},
        {"role": "assistant", "content": [{"type": "output_text", "text": "done"}]},
    ],
    "tools": [
        {
            "type": "function",
            "name": "f",
            "description": "d",
            "parameters": {"type": "object", "properties": {}},
            "strict": False,
        }
    ],
    "store": False,
    "text": {
        "format": {"type": "json_schema", "name": "n", "schema": {"type": "object"}, "strict": True}
    },
}

Break = Callable[[Any], object]


@pytest.mark.parametrize("body", [CHAT, RESPONSE, {"model": "gpt", "input": "hi"}])
def test_a_sound_request(body: Any) -> None:
    """Nothing is said against what the documentation allows."""
    assert openai_complaints(body) == []


def _drop(path: str) -> Break:
    def change(body: Any) -> None:
        *way, last = _steps(path)
        for step in way:
            body = body[step]
        del body[last]

    return change


def _set(path: str, value: Any) -> Break:
    def change(body: Any) -> None:
        *way, last = _steps(path)
        for step in way:
            body = body[step]
        body[last] = value

    return change


def _insert(path: str, index: int, value: Any) -> Break:
    def change(body: Any) -> None:
        for step in _steps(path):
            body = body[step]
        body.insert(index, value)

    return change


def _steps(path: str) -> list[Any]:
    return [int(step) if step.isdigit() else step for step in path.split(".")]


CALL = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
RULES_OF_CHAT: dict[str, tuple[Break, str]] = {
    "a model": (_drop("model"), "$.model: is missing"),
    "no empty model": (_set("model", ""), "$.model"),
    "messages": (_set("messages", []), "$.messages: a list that is not empty"),
    "known fields": (_set("colour", "red"), "$.colour: no such field"),
    "known roles": (_set("messages.0.role", "narrator"), "'narrator' is none of"),
    "fields of a message": (_set("messages.0.mood", "x"), "$.messages[0].mood: no such field"),
    "a content": (_drop("messages.0.content"), "$.messages[0].content: is missing"),
    "no null of a user": (_set("messages.1.content", None), "$.messages[1].content"),
    "no empty parts": (_set("messages.1.content", []), "$.messages[1].content"),
    "known parts": (_set("messages.1.content.0", {"type": "video"}), "'video' is none of"),
    "an image's URL": (
        _set("messages.1.content.0", {"type": "image_url", "image_url": {"url": "x"}}),
        "a URL is wanted",
    ),
    "one source of a file": (
        _set("messages.1.content.0", {"type": "file", "file": {"filename": "x"}}),
        "either file_data or file_id",
    ),
    "texts of a system": (
        _set("messages.0.content", [{"type": "image_url", "image_url": {"url": "data:x"}}]),
        "$.messages[0].content",
    ),
    "an answer": (_set("messages.5.content", None), "is required without tool_calls"),
    "no empty calls": (_set("messages.2.tool_calls", []), "$.messages[2].tool_calls"),
    "ids of calls": (_set("messages.2.tool_calls.0.id", ""), "does not match"),
    "long ids": (_set("messages.2.tool_calls.0.id", "x" * 41), "does not match"),
    "types of calls": (_set("messages.2.tool_calls.0.type", "x"), "'x' is none of"),
    "names of calls": (_set("messages.2.tool_calls.0.function.name", "a b"), "does not match"),
    "arguments": (
        _set("messages.2.tool_calls.0.function.arguments", "[]"),
        "the text of a JSON object",
    ),
    "sound arguments": (
        _set("messages.2.tool_calls.0.function.arguments", "{"),
        "the text of a JSON object",
    ),
    "a result of each call": (_drop("messages.3"), "comes before the result of 'b'"),
    "a call of each result": (_drop("messages.2"), "'b' answers no call"),
    "one result": (_set("messages.4.tool_call_id", "b"), "'b' answers no call"),
    "results at once": (
        _insert("messages", 3, {"role": "user", "content": "x"}),
        "comes before the result of",
    ),
    "results at the end": (
        _insert("messages", 6, {"role": "assistant", "tool_calls": [CALL]}),
        "no result of 'c'",
    ),
    "unique ids": (_set("messages.2.tool_calls.1.id", "a"), "tool call id 'a' stands twice"),
    "no empty tools": (_set("tools", []), "$.tools: a list that is not empty"),
    "names of tools": (_set("tools.0.function.name", "x" * 65), "does not match"),
    "unique tools": (_insert("tools", 0, CHAT["tools"][0]), "name 'f' stands twice"),
    "schemas of tools": (
        _set("tools.0.function.parameters", {}),
        'a JSON schema of type "object"',
    ),
    "properties of tools": (
        _drop("tools.0.function.parameters.properties"),
        "missing its properties",
    ),
    "no choice at the top": (
        _set("tools.0.function.parameters.anyOf", []),
        "may not have anyOf at its top",
    ),
    "short descriptions": (_set("tools.0.function.description", "x" * 1025), "more than 1024"),
    "number of tools": (
        _set(
            "tools",
            [{"type": "function", "function": {"name": f"f{number}"}} for number in range(129)],
        ),
        "129 are more than 128",
    ),
    "a choice of tools": (_drop("tools"), "$.tool_choice: only allowed with tools"),
    "a stream's options": (_drop("stream"), "$.stream_options: only allowed with stream"),
    "a temperature": (_set("temperature", 3), "$.temperature: a number from 0 to 2"),
    "a bound": (_set("max_tokens", 0), "$.max_tokens"),
    "one choice": (_set("n", 2), "$.n: 2 is none of 1"),
    "a name of a schema": (_set("response_format.json_schema.name", "a b"), "does not match"),
    "an object": (
        _set("response_format.json_schema.schema", {"type": "array"}),
        'a JSON schema of type "object"',
    ),
    "true or false": (_set("stream", 1), "$.stream: true or false"),
}
RULES_OF_RESPONSES: dict[str, tuple[Break, str]] = {
    "a model": (_drop("model"), "$.model: is missing"),
    "an input": (_set("input", []), "$.input: a list that is not empty"),
    "known fields": (_set("messages", []), "$.messages: no such field"),
    "known items": (_set("input.2.type", "dream"), "'dream' is none of"),
    "known roles": (_set("input.0.role", "tool"), "'tool' is none of"),
    "inputs of a user": (
        _set("input.1.content", [{"type": "output_text", "text": "x"}]),
        "'output_text' is none of",
    ),
    "outputs of an assistant": (
        _set("input.7.content", [{"type": "input_text", "text": "x"}]),
        "'input_text' is none of",
    ),
    "a source of an image": (
        _set("input.1.content.0", {"type": "input_image", "detail": "auto"}),
        "either image_url or file_id",
    ),
    "a source of a file": (
        _set("input.1.content.0", {"type": "input_file", "filename": "x"}),
        "one of file_data, file_id, file_url",
    ),
    "ids of calls": (_set("input.3.call_id", "x" * 65), "does not match"),
    "arguments": (_set("input.3.arguments", ""), "the text of a JSON object"),
    "an output of each call": (_drop("input.5"), "no output of 'a'"),
    "a call of each output": (_drop("input.3"), "'a' is the output of no open call"),
    "one output": (_set("input.6.call_id", "a"), "'a' is the output of no open call"),
    "unique calls": (_set("input.4.call_id", "a"), "call_id 'a' stands twice"),
    "what reasoning led to": (
        _insert("input", 8, {"type": "reasoning", "id": "r2", "summary": []}),
        "reasoning without the item",
    ),
    "unique items": (_set("input.3.id", "rs"), "id 'rs' stands twice"),
    "schemas of tools": (_set("tools.0.parameters", {}), 'a JSON schema of type "object"'),
    "shape of tools": (_set("tools.0", CHAT["tools"][0]), "$.tools[0].function: no such field"),
    "a schema": (_drop("text.format.schema"), "$.text.format.schema: is missing"),
    "a bound": (_set("max_output_tokens", 15), "from 16 to"),
}


@pytest.mark.parametrize(("change", "complaint"), RULES_OF_CHAT.values(), ids=RULES_OF_CHAT)
def test_a_rule_of_chat_completions(change: Break, complaint: str) -> None:
    """A request that breaks a rule is complained of, and the complaint says where."""
    body = copy.deepcopy(CHAT)
    change(body)
    assert complaint in "; ".join(openai_complaints(body))
    assert openai_complaints(body) != []


@pytest.mark.parametrize(
    ("change", "complaint"), RULES_OF_RESPONSES.values(), ids=RULES_OF_RESPONSES
)
def test_a_rule_of_responses(change: Break, complaint: str) -> None:
    """A request that breaks a rule is complained of, and the complaint says where."""
    body = copy.deepcopy(RESPONSE)
    change(body)
    assert complaint in "; ".join(openai_complaints(body))
    assert openai_complaints(body) != []


@pytest.mark.parametrize(
    "body",
    [
        None,
        [],
        {},
        "x",
        {"model": 1, "messages": 1},
        {"model": "m", "messages": [1, None, {}, {"role": []}]},
        {"model": "m", "messages": [{"role": "assistant", "tool_calls": [1]}]},
        {"model": "m", "input": [1, None, {}, {"type": []}]},
        {"model": "m", "input": None, "tools": [{}], "text": 1},
    ],
)
def test_nonsense(body: Any) -> None:
    """Whatever comes is complained of, and nothing is raised."""
    assert openai_complaints(body) != []
