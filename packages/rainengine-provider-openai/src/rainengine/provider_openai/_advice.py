"""What an endpoint says, in the head of a failed answer, about asking again."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime

_UNITS_MS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_LIMITS = ("requests", "tokens")
_MOST_MS = 86_400_000


def should_retry(headers: Mapping[str, str], *, default: bool) -> bool:
    """Whether asking again makes sense: as the endpoint says, or else by default."""
    said = headers.get("x-should-retry")
    return default if said not in ("true", "false") else said == "true"


def advised_wait_ms(headers: Mapping[str, str], now_ms: int) -> int | None:
    """Return how long to wait before asking again, in milliseconds, where the endpoint says so.

    By `retry-after-ms`, `retry-after` (seconds, or a date), or the limits that are used up.
    """
    waits = (
        _number(headers.get("retry-after-ms"), 1),
        _number(headers.get("retry-after"), 1_000),
        _until(headers.get("retry-after"), now_ms),
        _until_limits_are_reset(headers),
    )
    wait = next((one for one in waits if one is not None), None)
    return None if wait is None else math.ceil(min(max(wait, 0), _MOST_MS))


def _number(text: str | None, factor: int) -> float | None:
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value * factor if math.isfinite(value) else None  # which may be infinite again


def _until(date: str | None, now_ms: int) -> float | None:
    try:
        at = parsedate_to_datetime(date or "")
        return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() * 1_000 - now_ms
    except (ValueError, OverflowError):
        return None


def _until_limits_are_reset(headers: Mapping[str, str]) -> float | None:
    resets = [
        _duration_ms(headers.get(f"x-ratelimit-reset-{limit}", ""))
        for limit in _LIMITS
        if headers.get(f"x-ratelimit-remaining-{limit}") == "0"
    ]
    return max((reset for reset in resets if reset is not None), default=None)


def _duration_ms(text: str) -> float | None:
    """Read a duration such as `6m0s` or `120ms`; None where it is none."""
    pieces = _DURATION.findall(text)
    return sum(float(number) * _UNITS_MS[unit] for number, unit in pieces) if pieces else None
