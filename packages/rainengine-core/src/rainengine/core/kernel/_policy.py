"""The effective policy: the operator's, with what the engine learned laid over it.

The ceiling of a value is worked out from the operator's policy of today whenever the effective
policy is: however much was learned, it cannot compound, and it follows the operator down.
An overlay only raises. One that was learned under a smaller value would otherwise undo what the
operator has raised since, and no proposal ever lowers anything.
"""

from __future__ import annotations

import math
from fractions import Fraction

import attrs

from rainengine.core.records import EnginePolicy, PolicyOverlay

TUNABLE = tuple(field.name for field in attrs.fields(PolicyOverlay))
"""The only fields of the policy that an overlay can touch."""

_MOST = 2**53
"""No value is tuned past this, so that it can be stored wherever it is copied to."""


def ceiling(base: EnginePolicy, name: str) -> int:
    """Return the most that a value may be tuned to, given the operator's policy.

    That is `ceil(max(value, 1) * (1 + max_policy_delta_percent / 100))`, and the value itself
    where the percentage is not a number above 0.
    """
    value: int = getattr(base, name)
    percent = base.self_improvement.max_policy_delta_percent
    if not (math.isfinite(percent) and percent > 0):
        return value
    return max(value, min(_raised(max(value, 1), percent), _MOST))


def _raised(value: int, percent: float) -> int:
    """Exactly and in floating point, whichever is less: no rounding lets a value past."""
    exact = math.ceil(value * (1 + Fraction(str(percent)) / 100))
    try:
        return min(exact, math.ceil(value * (1 + percent / 100)))
    except OverflowError:
        return exact


def effective_policy(base: EnginePolicy, overlay: PolicyOverlay | None) -> EnginePolicy:
    """Return `base` with the overlay's values, each held between the operator's and its ceiling.

    Where the operator wants no self-improvement, or only to be advised, that is `base`.
    """
    mode = base.self_improvement
    if overlay is None or not mode.enabled or mode.mode == "advisory":
        return base
    changes: dict[str, int] = {}
    for name in TUNABLE:
        learned = getattr(overlay, name)
        if learned is not None and learned > getattr(base, name):
            changes[name] = min(learned, ceiling(base, name))
    return attrs.evolve(base, **changes) if changes else base  # type: ignore[arg-type]
