"""The tools of a request as both APIs take them."""

from __future__ import annotations

import attrs

from rainengine.core.abc import ActionKind, ProviderRequest
from rainengine.core.tool_calling import Tool, offered_tools
from rainengine.provider_openai._settings import OpenAISettings

_WITHOUT_TOOLS: frozenset[ActionKind] = frozenset({"respond", "call_skills"})


def tools_of(request: ProviderRequest, settings: OpenAISettings) -> list[Tool]:
    """Return the tools, with descriptions and schemas that the API takes."""
    actions = request.actions if settings.action_tools else request.actions & _WITHOUT_TOOLS
    return [
        _fitted(tool, settings) for tool in offered_tools(attrs.evolve(request, actions=actions))
    ]


def _fitted(tool: Tool, settings: OpenAISettings) -> Tool:
    return Tool(
        name=tool.name,
        description=tool.description[: settings.max_tool_description],
        parameters={"properties": {}, **tool.parameters},  # refused without properties
    )
