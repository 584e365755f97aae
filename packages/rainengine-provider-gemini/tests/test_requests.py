"""What the engine asks, as the body of a request."""

from __future__ import annotations

from typing import Any

import attrs
import pytest

from rainengine.core.records import ChatMessage, SkillManifest, TextPart
from rainengine.core.settings import Secret
from rainengine.model_servers import gemini_complaints
from rainengine.provider_gemini import GeminiSettings
from rainengine.provider_gemini._requests import ANSWER_TOOL, body_of, generation_of

OLD, NEW = "gemini-2.5-flash", "gemini-3-pro"


def body(request: Any, model: str = OLD, **settings: Any) -> Any:
    """The body of a request."""
    made = GeminiSettings(model=model, api_key=Secret("k"), **settings)
    return body_of(request, made, model=model, files={})


def declared(sent: Any) -> dict[str, Any]:
    """The functions of a body, by name."""
    return {one["name"]: one for tool in sent["tools"] for one in tool["functionDeclarations"]}


def test_little_is_asked_with_little(asking: Any) -> None:
    """Without tools and settings there are contents and nothing else."""
    expected = {"contents": [{"role": "user", "parts": [{"text": "Hello"}]}]}
    assert expected == body(asking(actions=frozenset({"respond"})))


def test_system_instruction(asking: Any) -> None:
    """What the system says first is the system instruction."""
    sent = body(asking(ChatMessage("system", (TextPart("Be kind."),)), "Hello"))
    assert {"parts": [{"text": "Be kind."}]} == sent["systemInstruction"]


def test_skills_are_functions(asking: Any, look_up: SkillManifest) -> None:
    """A skill is declared by its name, description and JSON Schema."""
    sent = body(asking(available_skills=(look_up,), actions=frozenset({"respond", "call_skills"})))
    expected = {
        "name": "look_up",
        "description": "Looks up a city.",
        "parametersJsonSchema": look_up.input_schema,
    }
    assert {"look_up": expected} == declared(sent)


def test_other_actions_are_reserved_functions(asking: Any) -> None:
    """Actions that the engine can follow are functions of reserved names, unless switched off."""
    request = asking(actions=frozenset({"respond", "yield", "plan"}))
    assert {"rainengine_yield", "rainengine_plan"} == declared(body(request)).keys()
    assert "tools" not in body(request, action_tools=False)


def test_skill_without_a_description_has_its_name(asking: Any, look_up: SkillManifest) -> None:
    """The API wants a description, so there is one."""
    bare = attrs.evolve(look_up, description="")
    assert "look_up" == declared(body(asking(available_skills=(bare,))))["look_up"]["description"]


def test_generation(asking: Any) -> None:
    """Temperature and bounds go along; the request's bound counts before the setting's."""
    request = asking(temperature=0.5, max_tokens=9)
    sent = body(request, max_output_tokens=7, thinking_budget=0)
    expected = {"temperature": 0.5, "maxOutputTokens": 9, "thinkingConfig": {"thinkingBudget": 0}}
    assert expected == sent["generationConfig"]
    assert {"maxOutputTokens": 7} == body(asking(), max_output_tokens=7)["generationConfig"]
    sent = body(asking(), thinking_level="low")
    assert {"thinkingConfig": {"thinkingLevel": "low"}} == sent["generationConfig"]


def test_safety(asking: Any) -> None:
    """Thresholds go along as the API has them."""
    sent = body(asking(), safety={"HARM_CATEGORY_HARASSMENT": "BLOCK_NONE"})
    expected = [{"category": "HARM_CATEGORY_HARASSMENT", "threshold": "BLOCK_NONE"}]
    assert expected == sent["safetySettings"]


SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}


@pytest.mark.parametrize("purpose", ["plan", "summarise"])
def test_structured_output(asking: Any, look_up: SkillManifest, purpose: Any) -> None:
    """Where there are no tools, an answer's schema is the API's own business."""
    request = asking(purpose=purpose, response_schema=SCHEMA, available_skills=(look_up,))
    sent = body(request)
    assert "tools" not in sent
    assert {
        "responseMimeType": "application/json",
        "responseJsonSchema": SCHEMA,
    } == sent["generationConfig"]


def test_structured_output_beside_tools(asking: Any, look_up: SkillManifest) -> None:
    """Newer models take a schema beside tools; older ones get a tool to answer with."""
    request = asking(response_schema=SCHEMA, available_skills=(look_up,))
    newer, older = body(request, NEW), body(request, OLD)
    assert SCHEMA == newer["generationConfig"]["responseJsonSchema"]
    assert ANSWER_TOOL not in declared(newer)
    assert "generationConfig" not in older
    assert SCHEMA == declared(older)[ANSWER_TOOL]["parametersJsonSchema"]
    assert [] == gemini_complaints(newer, model=NEW) + gemini_complaints(older, model=OLD)


def test_answer_that_is_no_object_is_wrapped(asking: Any, look_up: SkillManifest) -> None:
    """The parameters of a function are an object, so that another answer is within one."""
    request = asking(response_schema={"type": "array"}, available_skills=(look_up,))
    parameters = declared(body(request))[ANSWER_TOOL]["parametersJsonSchema"]
    assert {"answer": {"type": "array"}} == parameters["properties"]


@pytest.mark.parametrize(
    ("model", "generation"),
    [
        ("gemini-2.5-flash", 2),
        ("models/gemini-3-pro-preview", 3),
        ("gemini-10-x", 10),
        ("gemini-flash-latest", 3),
        ("gemma-3-27b-it", 0),
    ],
)
def test_generation_of_a_model(model: str, generation: int) -> None:
    """The name says which generation a model is of; a Gemini without a number is the newest."""
    assert generation == generation_of(model)
