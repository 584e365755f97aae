"""What tokens cost, and how many a call may have at most.

Prices are those of the package `genai-prices`, as it was released: nothing is fetched. Providers
depend on it; core works without it, and then knows no price.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from decimal import ROUND_CEILING, Decimal
from typing import TYPE_CHECKING

from rainengine.core import codec
from rainengine.core.abc import ProviderRequest
from rainengine.core.errors import ProviderErrorKind
from rainengine.core.records import (
    Attachment,
    AttachmentPart,
    ChatMessage,
    JsonValue,
    SkillManifest,
    TokenPrice,
)

if TYPE_CHECKING:
    from genai_prices.types import ModelPrice, TieredPrices

MAX_AMOUNT = 2**53
"""More tokens or cost than this are no amount, and their sums would not fit a ledger."""

_MICROS = 1_000_000


def is_amount(value: object) -> bool:
    """Whether this can be a number of tokens, a cost, or a time."""
    return type(value) is int and 0 <= value <= MAX_AMOUNT


def known_price(
    model: str,
    *,
    at_ms: int,
    input_tokens: int = 0,
    provider: str | None = None,
    url: str | None = None,
) -> TokenPrice | None:
    """Return what a model's tokens cost in US dollars at a time (Unix, milliseconds), or None.

    The model is looked for at a provider, by its id or by the URL of its API. Where the price
    depends on the length of the prompt, it is the one for so many `input_tokens`.
    """
    prices = _find(model, at_ms, input_tokens, provider, url)
    if prices is None or prices.input_mtok is None or prices.output_mtok is None:
        return None
    cached = prices.cache_read_mtok
    return TokenPrice(
        input_micros=_micros(prices.input_mtok, input_tokens),
        output_micros=_micros(prices.output_mtok, input_tokens),
        cached_micros=None if cached is None else _micros(cached, input_tokens),
        source=_source(),
    )


def _find(
    model: str, at_ms: int, input_tokens: int, provider: str | None, url: str | None
) -> ModelPrice | None:
    try:
        from genai_prices import Usage, calc_price
    except ImportError:
        return None
    time, usage = datetime.fromtimestamp(at_ms / 1000, UTC), Usage(input_tokens=input_tokens)
    try:
        found = (
            calc_price(usage, model, genai_request_timestamp=time, provider_api_url=url)
            if provider is None
            else calc_price(usage, model, genai_request_timestamp=time, provider_id=provider)
        )
    except (LookupError, ValueError):
        return None
    return found.model_price


def _source() -> str:
    from genai_prices import __version__

    return f"genai-prices {__version__}"


def _micros(price: Decimal | TieredPrices, input_tokens: int) -> int:
    """Return a price a million tokens in millionths, rounded up."""
    if not isinstance(price, Decimal):
        reached = [tier.price for tier in price.tiers if input_tokens > tier.start]
        price = reached[-1] if reached else price.base
    return int((price * _MICROS).to_integral_value(ROUND_CEILING))


def cost_micros(
    price: TokenPrice, *, input_tokens: int, output_tokens: int, cached_tokens: int = 0
) -> int:
    """Return what so many tokens cost, in millionths of a currency unit, rounded up.

    `input_tokens` includes `cached_tokens`, which cost the full price where they have none.
    """
    cached = price.input_micros if price.cached_micros is None else price.cached_micros
    total = (
        max(input_tokens - cached_tokens, 0) * price.input_micros
        + cached_tokens * cached
        + output_tokens * price.output_micros
    )
    return -(-total // _MICROS)


# Before a call.

COSTS_NOTHING: frozenset[ProviderErrorKind] = frozenset({"rate_limited", "configuration"})
"""Kinds of failure after which a call was refused at once, and has cost nothing."""

_MESSAGE_TOKENS = 16
"""What a provider may add to each message, and to each skill."""
_FRAME_TOKENS = 512
_FILE_TOKENS = 4096
"""What a file may have besides its bytes: even a small picture counts as a whole one."""


def most_input_tokens(request: ProviderRequest) -> int:
    """Return how many tokens a request's prompt may have at most: none has less than a byte."""
    return most_tokens(request.messages, request.available_skills, request.config.response_schema)


def most_tokens(
    messages: Sequence[object],
    skills: Sequence[SkillManifest],
    schema: JsonValue = None,
    *,
    files: Iterable[Attachment] = (),
) -> int:
    """Return how many tokens these values may have at most as parts of a prompt.

    `messages` are chat messages, or what is to become of one each; `files` those that do not
    stand in chat messages.
    """
    pieces = (*messages, *skills, schema)
    count = _FRAME_TOKENS + _MESSAGE_TOKENS * len(pieces)
    parts = (part for message in messages if isinstance(message, ChatMessage)
             for part in message.parts)  # fmt: skip
    shown = [part.attachment for part in parts if isinstance(part, AttachmentPart)]
    count += sum(map(_file_tokens, (*shown, *files)))
    return count + sum(len(codec.encode_value(piece)) for piece in pieces)


def _file_tokens(file: Attachment) -> int:
    return _FILE_TOKENS + (0 if file.blob is None else max(file.blob.size, 0))
