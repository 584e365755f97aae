"""The responses API: requests and answers as JSON.

https://platform.openai.com/docs/api-reference/responses
Nothing is stored at the endpoint: the whole conversation goes along each time, and reasoning
comes back sealed, with the calls that it led to.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rainengine.core.abc import ProviderRequest
from rainengine.core.records import AttachmentPart, ChatMessage, JsonObject, ToolCallPart
from rainengine.core.tool_calling import (
    RESERVED,
    ModelAnswer,
    Tool,
    ToolUse,
    json_text,
    result_text,
    shortened,
    tool_name,
)
from rainengine.provider_openai._failing import filtered, refused, unreadable
from rainengine.provider_openai._failures import told_failure
from rainengine.provider_openai._files import Files, response_part
from rainengine.provider_openai._opaque import opened, sealed
from rainengine.provider_openai._reading import Reading, Tokens
from rainengine.provider_openai._schemas import SCHEMA_NAME, asked_for, is_strict
from rainengine.provider_openai._settings import OpenAISettings
from rainengine.provider_openai._texts import Paired, paired, text_of, texts_of
from rainengine.provider_openai._tools import tools_of
from rainengine.provider_openai._values import as_count, as_object, as_objects, as_text

PATH = "/responses"

_SEALED_REASONING = "reasoning.encrypted_content"
"""What reasoning comes back with only if it is asked for, and models without any refuse."""


# Requests.


def body(request: ProviderRequest, settings: OpenAISettings, files: Files) -> dict[str, Any]:
    """Return the body of a request. Raises `ProviderError` for a file that cannot be sent."""
    writer = _Writer(request, settings, files)
    return {
        "model": writer.model,
        "input": writer.items(),
        "store": False,
        **_tools(tools_of(request, settings), settings),
        **writer.options(),
        **settings.extra_body,
    }


def streamed(whole: dict[str, Any], settings: OpenAISettings) -> dict[str, Any]:
    """Return the body of the same request for a stream."""
    return {**whole, "stream": True}


def _tools(tools: list[Tool], settings: OpenAISettings) -> dict[str, Any]:
    if not tools:
        return {}
    listed = [
        {
            "type": "function",
            "name": tool.name,
            "description": tool.description,
            "parameters": tool.parameters,
            "strict": False,  # which this API takes as wanted if it is left out
        }
        for tool in tools
    ]
    parallel = settings.parallel_tool_calls
    return {"tools": listed, **({} if parallel is None else {"parallel_tool_calls": parallel})}


class _Writer:
    """Writes one request."""

    def __init__(self, request: ProviderRequest, settings: OpenAISettings, files: Files) -> None:
        self._request = request
        self._settings = settings
        self._files = files
        self.model = request.config.model or settings.model

    def options(self) -> dict[str, Any]:
        config, effort = self._request.config, self._settings.reasoning_effort
        given = {
            "temperature": config.temperature,
            "max_output_tokens": config.max_tokens or self._settings.max_output_tokens,
            "reasoning": None if effort is None else {"effort": effort},
            "include": None if effort is None else [_SEALED_REASONING],
            "text": self._format(config.response_schema),
        }
        return {name: value for name, value in given.items() if value is not None}

    def _format(self, schema: JsonObject | None) -> dict[str, Any] | None:
        if schema is None:
            return None
        if self._settings.structured_output == "json_object":
            return {"format": {"type": "json_object"}}
        strict = is_strict(schema)
        wanted = {"type": "json_schema", "name": SCHEMA_NAME, "schema": schema, "strict": strict}
        return {"format": wanted}

    def items(self) -> list[dict[str, Any]]:
        written = [one for pair in paired(self._request) for one in self._items_of(pair)]
        schema = self._request.config.response_schema
        if schema is not None and self._settings.structured_output == "json_object":
            written.append({"role": "system", "content": asked_for(schema)})
        return written

    def _items_of(self, pair: Paired) -> Iterable[dict[str, Any]]:
        message = pair.message
        if message.role == "tool":
            for call_id, part in pair.results():
                output = shortened(result_text(part), self._settings.max_tool_output_bytes)
                yield {"type": "function_call_output", "call_id": call_id, "output": output}
        elif pair.ids:
            yield from self._calls_of(pair)
        elif message.role == "user":
            yield {"role": "user", "content": self._said_by_user(message)}
        else:
            yield {"role": message.role, "content": texts_of(message.parts)}

    def _said_by_user(self, message: ChatMessage) -> str | list[dict[str, Any]]:
        if not any(isinstance(part, AttachmentPart) for part in message.parts):
            return texts_of(message.parts)
        return [
            response_part(part.attachment, self._files)
            if isinstance(part, AttachmentPart)
            else {"type": "input_text", "text": text_of(part) or ""}
            for part in message.parts
        ]

    def _calls_of(self, pair: Paired) -> Iterable[dict[str, Any]]:
        said = texts_of(pair.message.parts)
        if said:
            yield {"role": "assistant", "content": said}
        for call_id, call in pair.calls():
            yield from as_objects(opened(call.opaque, "responses", self.model).get("before"))
            yield _call(call_id, call)


def _call(call_id: str, call: ToolCallPart) -> dict[str, Any]:
    return {
        "type": "function_call",
        "call_id": call_id,
        "name": tool_name(call.name),
        "arguments": json_text(call.args),
    }


# Answers.


def read(response: object, request: ProviderRequest, settings: OpenAISettings) -> Reading:
    """Read a whole answer. Raises `ProviderError` where it is none."""
    given = as_object(response)
    status = given.get("status")
    reason = as_object(given.get("incomplete_details")).get("reason")
    if status in ("failed", "cancelled"):
        raise told_failure(as_object(given.get("error")))
    if "output" not in given or status in ("queued", "in_progress"):
        raise unreadable("it is no finished response")
    if reason == "content_filter":
        raise filtered()
    asked = request.config.model or settings.model
    items = as_objects(given["output"])
    answer = ModelAnswer(
        text=_text(items, request), uses=_uses(items, asked), cut_short=status == "incomplete"
    )
    model = as_text(given.get("model")) or asked
    return Reading(answer=answer, tokens=_tokens(given.get("usage")), model=model)


def _text(items: list[dict[str, Any]], request: ProviderRequest) -> str:
    contents = [
        content
        for item in items
        if item.get("type") == "message"
        for content in as_objects(item.get("content"))
    ]
    said = "".join(as_text(content.get("text")) for content in contents)
    refusal = "".join(as_text(content.get("refusal")) for content in contents)
    if refusal and request.config.response_schema is not None:
        raise refused(refusal)
    return said or refusal


def _uses(items: list[dict[str, Any]], model: str) -> tuple[ToolUse, ...]:
    uses: list[ToolUse] = []
    before: list[dict[str, Any]] = []
    for item in items:
        if item.get("type") != "function_call":
            before += _carried(item)
            continue
        name = as_text(item.get("name"))
        uses.append(
            ToolUse(
                name=name,
                args=item.get("arguments"),
                call_id=as_text(item.get("call_id")),
                opaque=sealed("responses", model, {"before": before}),
            )
        )
        if not name.startswith(RESERVED):  # such a call is not shown again, and carries nothing
            before = []
    return tuple(uses)


def _carried(item: dict[str, Any]) -> list[dict[str, Any]]:
    """Return an item as it goes back with the call that it led to, if it can.

    Reasoning that is not in the item itself could only be found at the endpoint, where nothing
    is stored.
    """
    if item.get("type") == "reasoning" and (item.get("encrypted_content") or item.get("content")):
        kept = ["type", "id", "summary", "encrypted_content", "content"]
    elif item.get("type") == "message":
        kept = ["type", "role", "content", "phase"]
    else:
        return []
    return [{name: item[name] for name in kept if item.get(name) is not None}]


def _tokens(usage: object) -> Tokens | None:
    given = as_object(usage)
    if not given:
        return None
    details = as_object(given.get("input_tokens_details"))
    return Tokens(
        input=as_count(given.get("input_tokens")),
        output=as_count(given.get("output_tokens")),
        cached=as_count(details.get("cached_tokens")),
    )
