"""Names as the documentation has them.

An API made of protocol buffers takes `inlineData` and `inline_data` alike, and the words of an
enumeration as well as their numbers (https://protobuf.dev/programming-guides/json/).
"""

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

_WORDS = {
    "type": "TYPE_UNSPECIFIED STRING NUMBER INTEGER BOOLEAN ARRAY OBJECT NULL",
    "mode": "MODE_UNSPECIFIED AUTO ANY NONE VALIDATED",
    "category": "HARM_CATEGORY_UNSPECIFIED HARM_CATEGORY_DEROGATORY HARM_CATEGORY_TOXICITY"
    " HARM_CATEGORY_VIOLENCE HARM_CATEGORY_SEXUAL HARM_CATEGORY_MEDICAL HARM_CATEGORY_DANGEROUS"
    " HARM_CATEGORY_HARASSMENT HARM_CATEGORY_HATE_SPEECH HARM_CATEGORY_SEXUALLY_EXPLICIT"
    " HARM_CATEGORY_DANGEROUS_CONTENT HARM_CATEGORY_CIVIC_INTEGRITY",
    "threshold": "HARM_BLOCK_THRESHOLD_UNSPECIFIED BLOCK_LOW_AND_ABOVE BLOCK_MEDIUM_AND_ABOVE"
    " BLOCK_ONLY_HIGH BLOCK_NONE OFF",
}
"""The words of enumerations by their fields, in the order of their numbers."""


def camel_cased(value: Any) -> Any:  # noqa: ANN401  # JSON
    """Return a request with its fields and words as the documentation has them."""
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
    words = _WORDS.get(name, "").split()
    if type(value) is int and 0 <= value < len(words):
        return words[value]
    schemas = as_object(value) if name == "properties" else None
    if schemas is not None:
        return {parameter: camel_cased(schema) for parameter, schema in schemas.items()}
    return camel_cased(value)
