"""Settings of a provider. Whatever is wrong with them is found when they are made."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, TypeAlias
from urllib.parse import urlsplit

import attrs

from rainengine.core.errors import InvalidConfiguration
from rainengine.core.records import JsonObject, TokenPrice
from rainengine.core.settings import (
    Secret,
    check_count,
    check_flag,
    check_one_of,
    check_positive,
    check_text,
    check_url,
    read_price,
    read_secret,
)

Api: TypeAlias = Literal["chat", "responses"]
"""Chat completions, which most compatible endpoints speak, or the responses API."""

MaxTokensField: TypeAlias = Literal["max_completion_tokens", "max_tokens"]

_OPENAI = "https://api.openai.com/v1"
_optional = attrs.validators.optional


def _api_key(given: str | Secret) -> Secret:
    return read_secret("api_key", given)


def _price(given: TokenPrice | Mapping[str, object] | None) -> TokenPrice | None:
    return read_price("price", given)


def _check_object(_: object, field: attrs.Attribute[Any], value: object) -> None:
    if not isinstance(value, dict):
        raise InvalidConfiguration(field.name, "has to be an object")


@attrs.frozen(kw_only=True)
class OpenAISettings:
    """How to reach a model, and how to ask it.

    `api_key` is a reference (`env:NAME`, `file:PATH`) or a `Secret`; an endpoint that wants none
    takes any. `timeout_s` is how long to wait for the endpoint's next bytes, in seconds.
    `price` is used instead of the one that is known for the model at `base_url`.
    `max_output_tokens` bounds answers where the request does not.

    What not every endpoint speaks alike: `max_tokens_field` is by what name chat completions take
    that bound, `structured_output` whether they take a schema, `stream_usage` whether they can be
    asked for the usage of a stream; `extra_body` is added to every request for an answer.

    Raises `InvalidConfiguration`, which names the setting.
    """

    model: str = attrs.field(validator=check_text)
    api_key: Secret = attrs.field(converter=_api_key)
    base_url: str = attrs.field(default=_OPENAI, validator=check_url)
    api: Api = attrs.field(default="chat", validator=check_one_of("chat", "responses"))
    organization: str | None = attrs.field(default=None, validator=_optional(check_text))
    project: str | None = attrs.field(default=None, validator=_optional(check_text))
    timeout_s: float = attrs.field(default=120.0, validator=check_positive)
    price: TokenPrice | None = attrs.field(default=None, converter=_price)
    max_output_tokens: int | None = attrs.field(default=None, validator=_optional(check_count))
    reasoning_effort: str | None = attrs.field(default=None, validator=_optional(check_text))
    parallel_tool_calls: bool | None = attrs.field(default=None, validator=_optional(check_flag))
    action_tools: bool = attrs.field(default=True, validator=check_flag)
    """Whether actions other than answering and calling skills are offered, as reserved tools."""
    max_tool_description: int = attrs.field(default=1024, validator=check_count)
    """How many characters of a tool's description are sent: OpenAI takes no more than 1024."""
    max_tool_output_bytes: int = attrs.field(default=262_144, validator=check_count)
    """How many bytes of a tool's result are sent."""
    structured_output: Literal["json_schema", "json_object"] = attrs.field(
        default="json_schema", validator=check_one_of("json_schema", "json_object")
    )
    max_tokens_field: MaxTokensField | None = attrs.field(
        default=None,
        validator=_optional(check_one_of("max_completion_tokens", "max_tokens")),
    )
    """By default `max_completion_tokens` at OpenAI, and `max_tokens` elsewhere."""
    stream_usage: bool = attrs.field(default=True, validator=check_flag)
    extra_body: JsonObject = attrs.field(factory=dict[str, Any], validator=_check_object)
    embedding_model: str | None = attrs.field(default=None, validator=_optional(check_text))
    """The model of embeddings: by default `model`."""
    dimensions: int | None = attrs.field(default=None, validator=_optional(check_count))
    """How long the vectors are to be, where the model leaves that open."""

    @property
    def token_bound(self) -> MaxTokensField:
        """By what name chat completions take a bound of the answer's tokens."""
        host = urlsplit(self.base_url).hostname or ""
        at_openai = host == "api.openai.com" or host.endswith(".openai.azure.com")
        return self.max_tokens_field or ("max_completion_tokens" if at_openai else "max_tokens")
