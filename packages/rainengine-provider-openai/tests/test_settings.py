"""Settings: what is wrong with them is found when they are made, and named."""

from __future__ import annotations

from typing import Any

import pytest

from rainengine.core.errors import InvalidConfiguration
from rainengine.core.records import TokenPrice
from rainengine.core.settings import Secret, read_settings
from rainengine.provider_openai import OpenAISettings

GOOD: dict[str, Any] = {"model": "gpt-test", "api_key": Secret("sk-canary")}


def test_good_settings() -> None:
    """A model and a key suffice; prices may be plain values."""
    settings = read_settings(
        OpenAISettings, GOOD | {"price": {"input_micros": 1, "output_micros": 2}}
    )
    assert settings.base_url == "https://api.openai.com/v1"
    assert settings.price == TokenPrice(input_micros=1, output_micros=2, source="settings")
    assert OpenAISettings(**GOOD, price=settings.price).price == settings.price


@pytest.mark.parametrize("field", ["model", "api_key"])
def test_a_setting_that_is_missing(field: str) -> None:
    """Without a model or a key there is nothing to ask."""
    with pytest.raises(InvalidConfiguration) as caught:
        read_settings(OpenAISettings, {name: GOOD[name] for name in GOOD.keys() - {field}})
    assert (caught.value.field, caught.value.reason) == (field, "has to be set")


WRONG: list[tuple[str, Any]] = [
    ("colour", "red"),
    ("model", ""),
    ("model", None),
    ("api_key", ""),
    ("api_key", "sk-canary"),
    ("api_key", Secret("")),
    ("base_url", "api.openai.com"),
    ("base_url", "https://user:sk-canary@host/v1"),
    ("base_url", "https://host/v1?key=sk-canary"),
    ("api", "completions"),
    ("organization", ""),
    ("project", 7),
    ("timeout_s", 0),
    ("timeout_s", "60"),
    ("price", 7),
    ("price", {"input_micros": 1}),
    ("price", {"input_micros": -1, "output_micros": 1}),
    ("price", {"input_micros": 1.5, "output_micros": 1}),
    ("price", {"colour": 1}),
    ("max_output_tokens", 0),
    ("reasoning_effort", ""),
    ("parallel_tool_calls", "yes"),
    ("action_tools", None),
    ("max_tool_description", 0),
    ("max_tool_output_bytes", True),
    ("structured_output", "xml"),
    ("max_tokens_field", "max"),
    ("stream_usage", 1),
    ("extra_body", []),
    ("embedding_model", ""),
    ("dimensions", 0),
]


@pytest.mark.parametrize(("field", "value"), WRONG)
def test_a_wrong_setting(field: str, value: Any) -> None:
    """What is wrong is named by its field, and no secret is repeated."""
    with pytest.raises(InvalidConfiguration) as caught:
        read_settings(OpenAISettings, {**GOOD, field: value})
    assert caught.value.field.partition(".")[0] == field
    assert "sk-canary" not in str(caught.value)
