"""What tokens cost."""

from __future__ import annotations

import sys

import pytest

from rainengine.core.prices import cost_micros, known_price
from rainengine.core.records import TokenPrice

NOW = 1_790_000_000_000


def test_a_known_price() -> None:
    """A model has a price with its source, found by its provider's id or URL alike."""
    price = known_price("gpt-4.1", at_ms=NOW, provider="openai")
    assert price is not None
    assert price.source.startswith("genai-prices ")
    assert (price.input_micros, price.output_micros, price.cached_micros) == (
        2_000_000,
        8_000_000,
        500_000,
    )
    assert known_price("gpt-4.1", at_ms=NOW, url="https://api.openai.com/v1") == price


@pytest.mark.parametrize(
    ("model", "url"),
    [
        ("no-such-model", "https://api.openai.com/v1"),
        ("gpt-4.1", "http://127.0.0.1:8000/v1"),
        ("", "https://api.openai.com/v1"),
    ],
)
def test_an_unknown_price(model: str, url: str) -> None:
    """An unknown model, and an endpoint of one's own, have no price."""
    assert known_price(model, at_ms=NOW, url=url) is None


def test_a_long_prompt_costs_more() -> None:
    """Where the price depends on the prompt's length, it is the one for that length."""
    short = known_price("gemini-2.5-pro", at_ms=NOW, provider="google", input_tokens=200_000)
    long = known_price("gemini-2.5-pro", at_ms=NOW, provider="google", input_tokens=200_001)
    assert short is not None
    assert long is not None
    assert (short.input_micros, long.input_micros) == (1_250_000, 2_500_000)


def test_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the package is not installed, no price is known."""
    monkeypatch.setitem(sys.modules, "genai_prices", None)
    assert known_price("gpt-4.1", at_ms=NOW, provider="openai") is None


@pytest.mark.parametrize(
    ("cached_price", "tokens", "cost"),
    [
        (None, (1_000_000, 0, 0), 2_000_000),
        (None, (0, 1_000_000, 0), 8_000_000),
        (None, (1_000_000, 0, 1_000_000), 2_000_000),
        (500_000, (1_000_000, 0, 400_000), 1_400_000),
        (500_000, (1, 0, 0), 2),
        (500_000, (1, 0, 1), 1),  # half a micro-unit, rounded up
        (500_000, (1, 0, 3), 2),  # more cached than there is: nothing is given back
        (0, (0, 0, 0), 0),
    ],
)
def test_a_cost(cached_price: int | None, tokens: tuple[int, int, int], cost: int) -> None:
    """Cached tokens are part of the input, and what is charged is rounded up."""
    price = TokenPrice(input_micros=2_000_000, output_micros=8_000_000, cached_micros=cached_price)
    given, output, cached = tokens
    assert cost == cost_micros(
        price, input_tokens=given, output_tokens=output, cached_tokens=cached
    )
