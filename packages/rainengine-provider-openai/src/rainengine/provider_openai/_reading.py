"""What is read off an answer, whichever API gave it."""

from __future__ import annotations

import attrs

from rainengine.core.abc import Usage
from rainengine.core.prices import cost_micros
from rainengine.core.records import TokenPrice
from rainengine.core.tool_calling import ModelAnswer


@attrs.frozen(kw_only=True)
class Tokens:
    """What an answer used. `input` includes `cached`, of which no more counts."""

    input: int
    output: int
    cached: int

    def usage(self, price: TokenPrice | None) -> Usage:
        """Return the usage at this price."""
        cost, cached = 0, min(self.cached, self.input)
        if price is not None:
            cost = cost_micros(
                price,
                input_tokens=self.input,
                output_tokens=self.output,
                cached_tokens=cached,
            )
        return Usage(
            input_tokens=self.input,
            output_tokens=self.output,
            cached_tokens=cached,
            cost_micros=cost,
            price=price,
        )


@attrs.frozen(kw_only=True)
class Reading:
    """An answer, what it used where that is told, and the model that is said to have given it."""

    answer: ModelAnswer
    tokens: Tokens | None
    model: str | None
