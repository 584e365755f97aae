"""Embeddings: requests and answers as JSON.

https://platform.openai.com/docs/api-reference/embeddings
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, cast

from rainengine.provider_openai._failing import unreadable
from rainengine.provider_openai._settings import OpenAISettings
from rainengine.provider_openai._values import as_count, as_object, as_objects

PATH = "/embeddings"
AT_ONCE = 2048
"""How many texts the API takes in one request."""


def body(texts: Sequence[str], settings: OpenAISettings) -> dict[str, Any]:
    """Return the body of a request."""
    dimensions = {} if settings.dimensions is None else {"dimensions": settings.dimensions}
    model = settings.embedding_model or settings.model
    return {"model": model, "input": list(texts), "encoding_format": "float", **dimensions}


def read(answer: object, count: int) -> list[tuple[float, ...]]:
    """Return the vectors in the order of the texts. Raises `ProviderError` if they are not so."""
    rows = as_objects(as_object(answer).get("data"))
    if sorted(as_count(row.get("index")) for row in rows) != list(range(count)):
        raise unreadable(f"{len(rows)} embeddings for {count} texts")
    rows.sort(key=lambda row: as_count(row.get("index")))
    return [_vector(row.get("embedding")) for row in rows]


def _vector(value: object) -> tuple[float, ...]:
    listed = cast(list[object], value) if isinstance(value, list) else []
    try:
        vector = tuple(float(cast(float, one)) for one in listed if type(one) in (int, float))
    except OverflowError:
        vector = ()
    if not vector or len(vector) < len(listed) or not all(map(math.isfinite, vector)):
        raise unreadable("an embedding is no list of numbers")
    return vector
