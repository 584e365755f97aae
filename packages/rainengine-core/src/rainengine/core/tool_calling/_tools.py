"""The tools that a model is offered."""

from __future__ import annotations

from rainengine.core.abc import ProviderRequest
from rainengine.core.records import SkillManifest
from rainengine.core.tool_calling._actions import Tool, action_tools
from rainengine.core.tool_calling._names import tool_name


def offered_tools(request: ProviderRequest) -> tuple[Tool, ...]:
    """Return the tools of a request, skills first. Only a model that is to act has any."""
    if request.purpose != "act":
        return ()
    skills = request.available_skills if "call_skills" in request.actions else ()
    return (*map(_skill_tool, skills), *action_tools(request.actions))


def _skill_tool(skill: SkillManifest) -> Tool:
    return Tool(
        name=tool_name(skill.name),
        description=skill.description,
        parameters={"type": "object", **skill.input_schema},
    )
