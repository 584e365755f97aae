"""What a turn with calls holds beside them, carried along by its calls' `opaque`.

A model that thinks signs what it says, and wants every signature back where it was
(https://ai.google.dev/gemini-api/docs/thought-signatures). Each call carries its own; what stood
before the first call, the text that announces it for example, is carried by that call.

It is meant for the model that it came from: what other models and providers have left there is
not understood.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from rainengine.core.records import JsonValue
from rainengine.core.tool_calling import json_text
from rainengine.provider_gemini._values import as_list, as_object

_API = "gemini"


def pack(model: str, signature: str | None, before: Sequence[JsonValue]) -> str | None:
    """Return what a call is to carry, or None where that is nothing."""
    if signature is None and not before:
        return None
    carried: dict[str, Any] = {"api": _API, "model": model}
    if signature is not None:
        carried["signature"] = signature
    if before:
        carried["before"] = list(before)
    return json_text(carried)


def unpack(model: str, opaque: str | None) -> tuple[str | None, list[JsonValue]]:
    """Return the signature of a call, and the parts that stood before it."""
    try:
        carried = as_object(json.loads(opaque)) if opaque else None
    except (ValueError, RecursionError):
        return None, []
    if carried is None or (carried.get("api"), carried.get("model")) != (_API, model):
        return None, []
    return carried.get("signature"), as_list(carried.get("before")) or []
