"""The effective policy: the operator's, with what the engine learned laid over it."""

from __future__ import annotations

import math
from typing import Any

import attrs

from rainengine.core.records import EnginePolicy, PolicyOverlay

_TUNABLE = tuple(field.name for field in attrs.fields(PolicyOverlay))


def effective_policy(base: EnginePolicy, overlay: PolicyOverlay | None) -> EnginePolicy:
    """Return `base` with the overlay's values, each held under its ceiling.

    The ceiling is `ceil(max(base, 1) * (1 + max_policy_delta_percent / 100))` and is worked out
    from the operator's policy of today: however much was learned, it cannot compound.
    """
    if overlay is None or not base.self_improvement.enabled:
        return base
    factor = 1 + max(base.self_improvement.max_policy_delta_percent, 0.0) / 100
    changes: dict[str, Any] = {}
    for name in _TUNABLE:
        proposed = getattr(overlay, name)
        if proposed is not None:
            changes[name] = min(proposed, math.ceil(max(getattr(base, name), 1) * factor))
    return attrs.evolve(base, **changes) if changes else base
