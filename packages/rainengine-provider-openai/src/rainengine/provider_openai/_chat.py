"""Chat completions: requests and answers as JSON.

https://platform.openai.com/docs/api-reference/chat
"""

from __future__ import annotations

from typing import Any

from rainengine.core.abc import ProviderRequest
from rainengine.core.errors import ProviderError
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
from rainengine.provider_openai._files import Files, chat_part
from rainengine.provider_openai._opaque import opened, sealed
from rainengine.provider_openai._reading import Reading, Tokens
from rainengine.provider_openai._schemas import SCHEMA_NAME, asked_for, is_strict
from rainengine.provider_openai._settings import OpenAISettings
from rainengine.provider_openai._texts import Paired, paired, text_of, texts_of
from rainengine.provider_openai._tools import tools_of
from rainengine.provider_openai._values import as_count, as_object, as_objects, as_text, said_in

PATH = "/chat/completions"

_REASONING = ("reasoning_content", "reasoning", "reasoning_details")
"""Fields of a message in which endpoints give reasoning, and want it back with its calls."""
OF_A_CALL = frozenset({"id", "index", "type", "function"})


# Requests.


def body(request: ProviderRequest, settings: OpenAISettings, files: Files) -> dict[str, Any]:
    """Return the body of a request. Raises `ProviderError` for a file that cannot be sent."""
    writer = _Writer(request, settings, files)
    return {
        "model": writer.model,
        "messages": writer.messages(),
        **_tools(tools_of(request, settings), settings),
        **writer.options(),
        **settings.extra_body,
    }


def streamed(whole: dict[str, Any], settings: OpenAISettings) -> dict[str, Any]:
    """Return the body of the same request for a stream."""
    if not settings.stream_usage:
        return {**whole, "stream": True}
    options = {**as_object(whole.get("stream_options")), "include_usage": True}
    return {**whole, "stream": True, "stream_options": options}


def _tools(tools: list[Tool], settings: OpenAISettings) -> dict[str, Any]:
    if not tools:
        return {}
    listed = [
        {
            "type": "function",
            "function": {
                "name": tool.name,
                "description": tool.description,
                "parameters": tool.parameters,
            },
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
        config, settings = self._request.config, self._settings
        bound = config.max_tokens or settings.max_output_tokens
        given = {
            "temperature": config.temperature,
            settings.token_bound: bound,
            "reasoning_effort": settings.reasoning_effort,
            "response_format": self._format(config.response_schema),
        }
        return {name: value for name, value in given.items() if value is not None}

    def _format(self, schema: JsonObject | None) -> JsonObject | None:
        if schema is None:
            return None
        if self._settings.structured_output == "json_object":
            return {"type": "json_object"}
        wanted: JsonObject = {"name": SCHEMA_NAME, "schema": schema, "strict": is_strict(schema)}
        return {"type": "json_schema", "json_schema": wanted}

    def messages(self) -> list[dict[str, Any]]:
        written = [one for pair in paired(self._request) for one in self._messages_of(pair)]
        schema = self._request.config.response_schema
        if schema is not None and self._settings.structured_output == "json_object":
            written.append({"role": "system", "content": asked_for(schema)})
        return written

    def _messages_of(self, pair: Paired) -> list[dict[str, Any]]:
        message = pair.message
        if message.role == "tool":
            return [
                {"role": "tool", "tool_call_id": call_id, "content": self._shown(result_text(part))}
                for call_id, part in pair.results()
            ]
        if message.role == "user":
            return [{"role": "user", "content": self._said_by_user(message)}]
        if pair.ids:
            return [self._with_calls(pair)]
        return [{"role": message.role, "content": texts_of(message.parts)}]

    def _shown(self, text: str) -> str:
        return shortened(text, self._settings.max_tool_output_bytes)

    def _said_by_user(self, message: ChatMessage) -> str | list[dict[str, Any]]:
        if not any(isinstance(part, AttachmentPart) for part in message.parts):
            return texts_of(message.parts)
        return [
            chat_part(part.attachment, self._files)
            if isinstance(part, AttachmentPart)
            else {"type": "text", "text": text_of(part) or ""}
            for part in message.parts
        ]

    def _with_calls(self, pair: Paired) -> dict[str, Any]:
        carried = [opened(call.opaque, "chat", self.model) for _, call in pair.calls()]
        beside = as_object(carried[0].get("message"))
        said = texts_of(pair.message.parts) or said_in(beside.get("content")) or None
        calls = [
            {**_call(call_id, call), **as_object(held.get("call"))}
            for (call_id, call), held in zip(pair.calls(), carried, strict=True)
        ]
        reasoning = {name: beside[name] for name in _REASONING if name in beside}
        return {"role": "assistant", "content": said, "tool_calls": calls, **reasoning}


def _call(call_id: str, call: ToolCallPart) -> dict[str, Any]:
    function = {"name": tool_name(call.name), "arguments": json_text(call.args)}
    return {"id": call_id, "type": "function", "function": function}


# Answers.

ENDINGS = ("stop", "tool_calls", "function_call", "length", "eos", "stop_sequence")
"""Why answers end that can be read; an answer that ended otherwise may be half an answer."""


def read(completion: object, request: ProviderRequest, settings: OpenAISettings) -> Reading:
    """Read a whole answer. Raises `ProviderError` where it is none."""
    given = as_object(completion)
    choices = as_objects(given.get("choices"))
    if not choices:
        raise unreadable("it has no choices")
    asked = request.config.model or settings.model
    message = as_object(choices[0].get("message"))
    finish = choices[0].get("finish_reason")
    _raise_if_failed(finish, message, request)
    answer = ModelAnswer(
        text=said_in(message.get("content")) or as_text(message.get("refusal")),
        uses=_uses(message, asked),
        cut_short=finish == "length",
    )
    return Reading(
        answer=answer,
        tokens=_tokens(given.get("usage")),
        model=as_text(given.get("model")) or asked,
    )


def _raise_if_failed(finish: object, message: dict[str, Any], request: ProviderRequest) -> None:
    if finish == "content_filter":
        raise filtered()
    if finish and finish not in ENDINGS:  # as `error` at OpenRouter: the model behind it failed
        told = f"the model failed while answering: it ended with {finish}"
        raise ProviderError(told, kind="internal", retryable=True)
    refusal = as_text(message.get("refusal"))
    if refusal and request.config.response_schema is not None:
        raise refused(refusal)


def _uses(message: dict[str, Any], model: str) -> tuple[ToolUse, ...]:
    uses: list[ToolUse] = []
    beside = _beside(message)
    for call in as_objects(message.get("tool_calls")):
        function = as_object(call.get("function"))
        name = as_text(function.get("name"))
        extra = {field: value for field, value in call.items() if field not in OF_A_CALL and value}
        uses.append(
            ToolUse(
                name=name,
                args=function.get("arguments"),
                call_id=as_text(call.get("id")),
                opaque=sealed("chat", model, {"call": extra, "message": beside}),
            )
        )
        if not name.startswith(RESERVED):  # such a call is not shown again, and carries nothing
            beside = {}
    return tuple(uses)


def _beside(message: dict[str, Any]) -> dict[str, Any]:
    """Return what the message holds beside its calls."""
    kept = ("content", *_REASONING)
    return {name: message[name] for name in kept if message.get(name)}


def _tokens(usage: object) -> Tokens | None:
    given = as_object(usage)
    if not given:
        return None
    details = as_object(given.get("prompt_tokens_details"))
    cached = details.get("cached_tokens") or given.get("prompt_cache_hit_tokens")
    return Tokens(
        input=as_count(given.get("prompt_tokens")),
        output=as_count(given.get("completion_tokens")),
        cached=as_count(cached),
    )
