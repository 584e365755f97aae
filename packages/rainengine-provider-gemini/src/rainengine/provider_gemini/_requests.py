"""What the engine asks, as the body of a `generateContent`.

https://ai.google.dev/api/generate-content
"""

from __future__ import annotations

import re

from rainengine.core.abc import ProviderRequest
from rainengine.core.records import JsonObject, JsonValue
from rainengine.core.tool_calling import RESERVED, Tool, offered_tools
from rainengine.provider_gemini._contents import Dialect, contents_of, system_texts
from rainengine.provider_gemini._files import Files
from rainengine.provider_gemini._settings import GeminiSettings
from rainengine.provider_gemini._values import as_object

ANSWER_TOOL = f"{RESERVED}respond"
"""The tool that older models answer with where the answer has a schema and there are tools."""

WRAPPED = "answer"
"""The parameter of that tool that an answer is in, if its schema is not that of an object."""

_THIRD = 3
"""The generation that signs its calls, and can call functions where an answer has a schema."""


def generation_of(model: str) -> int:
    """Return the generation in a model's name: 3 of `gemini-3-pro` and of `gemini-flash-latest`.

    A model that is no Gemini has 0.
    """
    found = re.search(r"gemini-(\d+)", model)
    return int(found[1]) if found else _THIRD * ("gemini" in model)


def body_of(
    request: ProviderRequest, settings: GeminiSettings, *, model: str, files: Files
) -> JsonObject:
    """Return the body that asks for an answer."""
    newest = generation_of(model) >= _THIRD
    dialect = Dialect(
        model=model, files=files, max_output_bytes=settings.max_tool_output_bytes, signed=newest
    )
    tools = _tools(request, settings)
    schema = request.config.response_schema
    if schema is not None and tools and not newest:
        tools, schema = (*tools, _answer_tool(schema)), None
    body: JsonObject = {"contents": list[JsonValue](contents_of(request.messages, dialect))}
    instruction: list[JsonValue] = [{"text": text} for text in system_texts(request.messages)]
    if instruction:
        body["systemInstruction"] = {"parts": instruction}
    if tools:
        body["tools"] = [{"functionDeclarations": [_declaration(tool) for tool in tools]}]
    generation = _generation(request, settings, schema)
    if generation:
        body["generationConfig"] = generation
    if settings.safety:
        body["safetySettings"] = [
            {"category": category, "threshold": threshold}
            for category, threshold in settings.safety.items()
        ]
    return body


def _tools(request: ProviderRequest, settings: GeminiSettings) -> tuple[Tool, ...]:
    tools = offered_tools(request)
    if settings.action_tools:
        return tools
    return tuple(tool for tool in tools if not tool.name.startswith(RESERVED))


def _answer_tool(schema: JsonObject) -> Tool:
    parameters = schema if _is_object(schema) else _wrapped(schema)
    description = "Give your final answer, once no other tool is to be called."
    return Tool(name=ANSWER_TOOL, description=description, parameters=parameters)


def _is_object(schema: JsonObject) -> bool:
    return schema.get("type") == "object"


def _wrapped(schema: JsonObject) -> JsonObject:
    return {"type": "object", "properties": {WRAPPED: schema}, "required": [WRAPPED]}


def answer_in(args: object, schema: JsonObject) -> JsonValue:
    """Return the answer that the model gave as the arguments of `ANSWER_TOOL`."""
    given = as_object(args) or {}
    return given if _is_object(schema) else given.get(WRAPPED)


def _declaration(tool: Tool) -> JsonObject:
    declaration: JsonObject = {"name": tool.name, "parametersJsonSchema": tool.parameters}
    return {**declaration, "description": tool.description or tool.name}


def _generation(
    request: ProviderRequest, settings: GeminiSettings, schema: JsonObject | None
) -> JsonObject:
    config = request.config
    generation: JsonObject = {}
    if config.temperature is not None:
        generation["temperature"] = config.temperature
    max_tokens = config.max_tokens or settings.max_output_tokens
    if max_tokens is not None:
        generation["maxOutputTokens"] = max_tokens
    if schema is not None:
        generation["responseMimeType"] = "application/json"
        generation["responseJsonSchema"] = schema
    thinking = _thinking(settings)
    if thinking:
        generation["thinkingConfig"] = thinking
    return generation


def _thinking(settings: GeminiSettings) -> JsonObject:
    if settings.thinking_budget is not None:
        return {"thinkingBudget": settings.thinking_budget}
    return {} if settings.thinking_level is None else {"thinkingLevel": settings.thinking_level}
