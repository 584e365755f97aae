"""What a call of the model used: recorded as it was reported, where that can be.

Rules:

- A figure that cannot be (negative, no number, absurdly large) is left out, and said to be.
- Where something was reserved, a call without sound figures counts as all of that; so does one
  that failed, unless its kind of failure costs nothing.
- Tokens whose cost was not reported cost what they would by the price that was reserved at, or
  all that was reserved where there is no price to work it out from.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs

from rainengine.core import codec
from rainengine.core.abc import ProviderDecision, Usage
from rainengine.core.errors import ProviderErrorKind
from rainengine.core.prices import COSTS_NOTHING, MAX_AMOUNT, cost_micros, is_amount
from rainengine.core.records import ProviderUsage, Record, TokenPrice

_AMOUNTS = ("input_tokens", "output_tokens", "cached_tokens", "cost_micros")
_SOURCE_CHARACTERS = 200


def usage_records(
    step: int, decision: ProviderDecision, reserved: ProviderUsage | None
) -> list[Record]:
    """Return the records of what a call used; `reserved` is what was set aside for it."""
    cache: list[Record] = [] if decision.cache is None else [decision.cache]
    if decision.usage is None and reserved is None:
        return cache
    figures = {} if decision.usage is None else _figures(decision.usage)
    if reserved is not None:
        figures |= amounts(reserved) if _tells_nothing(figures) else _priced(figures, reserved)
    return [ProviderUsage(step=step, status="settled", model=decision.model, **figures), *cache]


def _tells_nothing(figures: dict[str, Any]) -> bool:
    return "error" in figures or not any(figures.get(name) for name in _AMOUNTS)


def _priced(figures: dict[str, Any], reserved: ProviderUsage) -> dict[str, Any]:
    price = reserved.price
    if figures["price"] is not None or figures["cost_micros"]:
        return {}
    if price is None:
        return {"cost_micros": reserved.cost_micros}
    tokens = {name: figures[name] for name in _AMOUNTS if name != "cost_micros"}
    return {"cost_micros": min(cost_micros(price, **tokens), MAX_AMOUNT), "price": price}


def _figures(usage: Usage) -> dict[str, Any]:
    figures: dict[str, Any] = {name: reported(usage, name) for name in _AMOUNTS}
    odd = [name for name, value in figures.items() if not is_amount(value)]
    figures["price"] = sound_price(reported(usage, "price"))
    if not odd:
        return figures
    listed = ", ".join(f"{name}={codec.shown(figures[name], repr)}" for name in odd)
    return figures | dict.fromkeys(odd, 0) | {"error": f"the provider reported {listed}"[:500]}


def reported(usage: object, name: str) -> object:
    """Return what a provider reports under a name; None where it cannot be looked at."""
    try:
        return getattr(usage, name, None)
    except Exception:  # noqa: BLE001  # a provider is somebody else's code
        return None


def sound_price(price: object) -> TokenPrice | None:
    """Return the price if its figures can be."""
    if not isinstance(price, TokenPrice):
        return None
    figures = price.input_micros, price.output_micros, price.cached_micros or 0
    source = codec.shown(price.source, str)[:_SOURCE_CHARACTERS]
    return attrs.evolve(price, source=source) if all(map(is_amount, figures)) else None


def usage_complaint(usage: Sequence[Record]) -> str | None:
    """Return what cannot be right about the figures of a call, or None."""
    errors = [record.error for record in usage if isinstance(record, ProviderUsage)]
    return errors[0] if errors else None


def failure_record(
    step: int,
    model: str | None,
    kind: ProviderErrorKind,
    message: str,
    reserved: ProviderUsage | None,
) -> ProviderUsage:
    """The record of a call that brought no decision."""
    spent = {} if reserved is None or kind in COSTS_NOTHING else amounts(reserved)
    return ProviderUsage(
        step=step, status="failed", model=model, error_kind=kind, error=message[:500], **spent
    )


def amounts(usage: ProviderUsage) -> dict[str, Any]:
    """The figures of a record."""
    return {name: getattr(usage, name) for name in _AMOUNTS}
