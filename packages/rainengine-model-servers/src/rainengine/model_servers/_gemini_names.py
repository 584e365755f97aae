"""Names of fields: an API made of protocol buffers takes `inlineData` and `inline_data` alike."""

from __future__ import annotations

import re
from typing import Any, cast

from rainengine.model_servers._complaining import as_object

_THEIR_OWN = {
    "args",
    "response",
    "parametersJsonSchema",
    "responseJsonSchema",
    "partMetadata",
    "labels",
}
"""Fields whose values are the caller's own, and stay as they are."""


def camel_cased(value: Any) -> Any:  # noqa: ANN401  # JSON
    """Return a request with its fields named as the documentation names them."""
    if isinstance(value, list):
        return [camel_cased(item) for item in cast(list[object], value)]
    given = as_object(value)
    if given is None:
        return value
    named = {re.sub(r"_([a-z0-9])", _upper, name): inner for name, inner in given.items()}
    return {name: _inner(name, inner) for name, inner in named.items()}


def _upper(match: re.Match[str]) -> str:
    return match[1].upper()


def _inner(name: str, value: Any) -> Any:  # noqa: ANN401  # JSON
    if name in _THEIR_OWN:
        return value
    schemas = as_object(value) if name == "properties" else None
    if schemas is not None:
        return {parameter: camel_cased(schema) for parameter, schema in schemas.items()}
    return camel_cased(value)
