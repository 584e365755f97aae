"""Settings: what is wrong with them is found when they are made, and named."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from rainengine.core.errors import InvalidConfiguration
from rainengine.core.records import TokenPrice
from rainengine.core.settings import Secret, read_settings
from rainengine.provider_gemini import GeminiSettings, open_gemini_settings
from rainengine.provider_gemini._transport import auth_headers

GOOD = {"model": "gemini-2.5-flash", "api_key": Secret("k")}
OLD = {"sdk": "google-generativeai"}

BAD: dict[str, tuple[dict[str, Any], str]] = {
    "no model": ({"model": ""}, "model"),
    "model is no text": ({"model": 3}, "model"),
    "no key": ({"api_key": None}, "api_key"),
    "key itself": ({"api_key": "canary-9"}, "api_key"),
    "key not set": ({"api_key": "env:NOT_SET_9"}, "api_key"),
    "empty key": ({"api_key": Secret(" ")}, "api_key"),
    "key and token": ({"bearer_token": Secret("t")}, "api_key"),
    "token not set": ({"api_key": None, "bearer_token": "file:/not/there"}, "bearer_token"),
    "unknown setting": ({"modle": "x"}, "modle"),
    "unknown SDK": ({"sdk": "vertex"}, "sdk"),
    "no URL": ({"base_url": "localhost"}, "base_url"),
    "key in the URL": ({"base_url": "https://host/?key=canary-9"}, "base_url"),
    "unknown version": ({"api_version": "v2"}, "api_version"),
    "no tokens": ({"max_output_tokens": 0}, "max_output_tokens"),
    "negative budget": ({"thinking_budget": -2}, "thinking_budget"),
    "two ways to think": ({"thinking_budget": 1, "thinking_level": "low"}, "thinking_level"),
    "safety is a list": ({"safety": ["OFF"]}, "safety"),
    "safety without a threshold": ({"safety": {"HARM_CATEGORY_HARASSMENT": None}}, "safety"),
    "negative ttl": ({"cache_ttl_s": -1}, "cache_ttl_s"),
    "no output": ({"max_tool_output_bytes": 0}, "max_tool_output_bytes"),
    "no timeout": ({"timeout_s": 0}, "timeout_s"),
    "no connections": ({"max_connections": 0}, "max_connections"),
    "price is a number": ({"price": 3}, "price"),
    "negative price": ({"price": {"input_micros": -1, "output_micros": 1}}, "price"),
    "half a price": ({"price": {"input_micros": 1}}, "price.output_micros"),
    "no embedding model": ({"embedding_model": ""}, "embedding_model"),
    "no dimensions": ({"dimensions": 0}, "dimensions"),
    "old SDK thinks": ({**OLD, "thinking_budget": 1}, "thinking_budget"),
    "old SDK with levels": ({**OLD, "thinking_level": "low"}, "thinking_level"),
    "old SDK with v1": ({**OLD, "api_version": "v1"}, "api_version"),
    "old SDK with a path": ({**OLD, "base_url": "https://host/path"}, "base_url"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_setting_is_named(name: str) -> None:
    """A setting that is missing, wrong or unknown is refused, by name and without its secret."""
    changes, field = BAD[name]
    with pytest.raises(InvalidConfiguration) as caught:
        read_settings(GeminiSettings, {**GOOD, **changes})
    assert field == caught.value.field
    assert "canary" not in str(caught.value)


async def test_model_has_to_be_there() -> None:
    """There is no default model."""
    with pytest.raises(InvalidConfiguration, match=r"^model: has to be set"):
        async with open_gemini_settings({"api_key": "env:X"}):
            pass


def test_plain_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Settings are made of plain values, with secrets by reference."""
    monkeypatch.setenv("GEMINI_KEY_9", "canary-9\n")
    price = {"input_micros": 1, "output_micros": 2}
    settings = read_settings(
        GeminiSettings, {"model": "m", "api_key": "env:GEMINI_KEY_9", "price": price}
    )
    assert {"x-goog-api-key": "canary-9"} == auth_headers(settings)
    assert TokenPrice(input_micros=1, output_micros=2, source="settings") == settings.price
    assert "canary" not in repr(settings)


def test_bearer_token() -> None:
    """A token goes where tokens go."""
    settings = GeminiSettings(model="m", bearer_token=Secret("t"))
    assert {"authorization": "Bearer t"} == auth_headers(settings)


async def test_missing_sdk_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the old SDK is not installed, the extra that brings it is named."""
    ours = "rainengine.provider_gemini._generativeai"
    monkeypatch.delitem(sys.modules, ours, raising=False)
    monkeypatch.setitem(sys.modules, "google.generativeai.protos", None)  # type: ignore[arg-type]
    with pytest.raises(InvalidConfiguration, match=r"^sdk: .* extra generativeai"):
        async with open_gemini_settings({**GOOD, **OLD}):
            pass
