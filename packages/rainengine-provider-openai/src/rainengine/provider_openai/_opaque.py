"""What an answer holds beside its calls, carried by the calls themselves.

A reasoning model wants its reasoning back with the calls that it led to, and endpoints add fields
of their own to a call. The ledger keeps that as text (`PlannedSkillCall.opaque`) and gives it
back whenever the call is shown. It is meant for the model and the API that it came from; what
others left there is not understood, and left out.
"""

from __future__ import annotations

import json
from typing import Any, cast

from rainengine.core.tool_calling import json_text


def sealed(api: str, model: str, carried: dict[str, Any]) -> str | None:
    """Return what is to be carried, as text; None where nothing is."""
    held = {name: value for name, value in carried.items() if value}
    return json_text({"api": api, "model": model, **held}) if held else None


def opened(opaque: str | None, api: str, model: str) -> dict[str, Any]:
    """Return what this API and model left, or nothing."""
    try:
        value = json.loads(opaque) if opaque else None
    except (ValueError, RecursionError):
        return {}
    if not isinstance(value, dict):
        return {}
    held = cast(dict[str, Any], value)
    return held if (held.get("api"), held.get("model")) == (api, model) else {}
