"""The settings of a provider, each checked when they are made."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, TypeAlias, cast

import attrs

from rainengine.core.errors import InvalidConfiguration
from rainengine.core.records import TokenPrice
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

Sdk: TypeAlias = Literal["google-genai", "google-generativeai"]

GOOGLE = "https://generativelanguage.googleapis.com"

_OLD = "google-generativeai"


def _api_key(given: str | Secret | None) -> Secret | None:
    return None if given is None else read_secret("api_key", given)


def _bearer_token(given: str | Secret | None) -> Secret | None:
    return None if given is None else read_secret("bearer_token", given)


def _price(given: TokenPrice | Mapping[str, object] | None) -> TokenPrice | None:
    return read_price("price", given)


def _check_safety(_: object, field: attrs.Attribute[Any], value: object) -> None:
    given = cast(Mapping[object, object], value) if isinstance(value, Mapping) else {0: 0}
    if not all(isinstance(text, str) and text for pair in given.items() for text in pair):
        reason = "maps categories to thresholds: {'HARM_CATEGORY_HARASSMENT': 'BLOCK_NONE'}"
        raise InvalidConfiguration(field.name, reason)


def _check_budget(_: object, field: attrs.Attribute[Any], value: object) -> None:
    if type(value) is not int or value < -1:
        reason = "has to be a whole number of tokens; 0 is none, and -1 leaves it to the model"
        raise InvalidConfiguration(field.name, reason)


def _check_ttl(_: object, field: attrs.Attribute[Any], value: object) -> None:
    if type(value) is not int or value < 0:
        reason = "has to be a whole number of seconds; 0 keeps nothing"
        raise InvalidConfiguration(field.name, reason)


_optional = attrs.validators.optional


@attrs.frozen(kw_only=True)
class GeminiSettings:
    """What a provider of Gemini models has to know.

    Either `api_key` or `bearer_token` is set: a `Secret`, or a reference to one, `env:NAME` or
    `file:PATH`. The `model` is asked where a request names none.

    `max_output_tokens` bounds an answer, thoughts included, where a request does not.
    `thinking_budget` (in tokens) and `thinking_level` (such as `low`) say how long a model may
    think: older models know the one, newer ones the other. `safety` maps harm categories to
    thresholds.

    A prompt of `EnginePolicy.cache_threshold_tokens` or more is kept by Google for `cache_ttl_s`
    seconds, which costs storage; 0 keeps nothing. What a tool returned is cut at
    `max_tool_output_bytes`. `action_tools` says whether actions other than answering and calling
    skills are offered, as reserved tools. `price` replaces the known price of every model.

    `timeout_s` is how long the server may be silent; the engine limits the whole call.
    The `sdk` `google-generativeai` is the extra `generativeai`. It knows neither thinking nor
    signatures, so a model from Gemini 3 on cannot call tools through it.
    """

    model: str = attrs.field(validator=check_text)
    api_key: Secret | None = attrs.field(default=None, converter=_api_key)
    bearer_token: Secret | None = attrs.field(default=None, converter=_bearer_token)
    sdk: Sdk = attrs.field(default="google-genai", validator=check_one_of("google-genai", _OLD))
    base_url: str = attrs.field(default=GOOGLE, validator=check_url)
    api_version: str = attrs.field(default="v1beta", validator=check_one_of("v1beta", "v1"))
    max_output_tokens: int | None = attrs.field(default=None, validator=_optional(check_count))
    thinking_budget: int | None = attrs.field(default=None, validator=_optional(_check_budget))
    thinking_level: str | None = attrs.field(default=None, validator=_optional(check_text))
    safety: Mapping[str, str] = attrs.field(factory=dict[str, str], validator=_check_safety)
    cache_ttl_s: int = attrs.field(default=600, validator=_check_ttl)
    max_tool_output_bytes: int = attrs.field(default=262_144, validator=check_count)
    action_tools: bool = attrs.field(default=True, validator=check_flag)
    embedding_model: str = attrs.field(default="gemini-embedding-001", validator=check_text)
    dimensions: int | None = attrs.field(default=None, validator=_optional(check_count))
    price: TokenPrice | None = attrs.field(default=None, converter=_price)
    timeout_s: float = attrs.field(default=120.0, validator=check_positive)
    max_connections: int = attrs.field(default=100, validator=check_count)

    def __attrs_post_init__(self) -> None:
        if (self.api_key is None) == (self.bearer_token is None):
            raise InvalidConfiguration("api_key", "either api_key or bearer_token has to be set")
        if self.thinking_budget is not None and self.thinking_level is not None:
            reason = "either thinking_budget or thinking_level may be set"
            raise InvalidConfiguration("thinking_level", reason)
        if self.sdk == _OLD:
            self._check_old_sdk()

    def _check_old_sdk(self) -> None:
        for name in ("thinking_budget", "thinking_level"):
            if getattr(self, name) is not None:
                raise InvalidConfiguration(name, f"the SDK {_OLD} has no such setting")
        if self.api_version != "v1beta":
            raise InvalidConfiguration("api_version", f"the SDK {_OLD} knows v1beta only")
        if "/" in self.base_url.removesuffix("/").partition("://")[2]:
            raise InvalidConfiguration("base_url", f"the SDK {_OLD} takes no path in it")
