"""Metrics of model calls by the OpenTelemetry conventions for generative AI.

https://opentelemetry.io/docs/specs/semconv/gen-ai/gen-ai-metrics/

Costs nothing where no OpenTelemetry SDK is set up for metrics.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING

import attrs

from rainengine.core.telemetry import CHAT, ERROR_TYPE, MODEL, OPERATION

if TYPE_CHECKING:
    from opentelemetry.metrics import Histogram, MeterProvider

TOKEN_USAGE = "gen_ai.client.token.usage"  # noqa: S105  # a name
DURATION = "gen_ai.client.operation.duration"
TOKEN_TYPE = "gen_ai.token.type"  # noqa: S105  # a name
PROVIDER = "gen_ai.provider.name"
RESPONSE_MODEL = "gen_ai.response.model"

_SECONDS = tuple(0.01 * 2**n for n in range(14))
_TOKENS = tuple(4**n for n in range(14))


@attrs.frozen(kw_only=True)
class CallFacts:
    """What is measured of a call: how long it took, and what it used or how it failed."""

    seconds: float
    model: str | None
    answered_by: str | None = None
    provider: str | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    error_type: str | None = None


def measure(facts: Callable[[], CallFacts]) -> None:
    """Record a call of a model, whose facts are only asked for where somebody measures."""
    found = _instruments(_provider())
    if found is None:
        return
    (durations, tokens), call = found, facts()
    known = {
        OPERATION: CHAT,
        MODEL: call.model,
        RESPONSE_MODEL: call.answered_by,
        PROVIDER: call.provider,
    }
    attributes = {name: value for name, value in known.items() if value is not None}
    failed = {} if call.error_type is None else {ERROR_TYPE: call.error_type}
    durations.record(call.seconds, attributes | failed)
    for kind, amount in (("input", call.input_tokens), ("output", call.output_tokens)):
        if amount is not None:
            tokens.record(amount, attributes | {TOKEN_TYPE: kind})


def _provider() -> MeterProvider | None:
    """What hands out instruments, once an SDK is set up, which may happen after the first call."""
    from opentelemetry import metrics

    provider = metrics.get_meter_provider()
    # The API has no public name for what stands there until an SDK is set up.
    unset = type(provider).__name__ == "_ProxyMeterProvider"
    return None if unset or isinstance(provider, metrics.NoOpMeterProvider) else provider


@lru_cache(maxsize=4)
def _instruments(provider: MeterProvider | None) -> tuple[Histogram, Histogram] | None:
    if provider is None:
        return None
    meter = provider.get_meter("rainengine.core")
    durations = meter.create_histogram(
        DURATION,
        "s",
        "How long calls of models take.",
        explicit_bucket_boundaries_advisory=_SECONDS,
    )
    tokens = meter.create_histogram(
        TOKEN_USAGE,
        "{token}",
        "How many tokens calls of models use.",
        explicit_bucket_boundaries_advisory=_TOKENS,
    )
    return durations, tokens
