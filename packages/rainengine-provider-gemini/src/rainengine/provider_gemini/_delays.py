"""How long the API wants to be left alone before it is asked again."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

LONGEST_MS = 86_400_000
"""No server has a run wait for more than a day."""

_RETRY_INFO = "type.googleapis.com/google.rpc.RetryInfo"


def delay_ms(
    details: Iterable[Mapping[str, Any]], headers: Mapping[str, str], now_ms: int
) -> int | None:
    """Return how long to wait, in milliseconds, where an error says so.

    By the `RetryInfo` in its details, or else by its header `retry-after`: seconds, or a date,
    which is taken from `now_ms`, Unix time.
    """
    infos = (detail.get("retryDelay") for detail in details if detail.get("@type") == _RETRY_INFO)
    said = headers.get("retry-after", "")
    waits = (
        *(_seconds_ms(str(info).removesuffix("s")) for info in infos),
        _seconds_ms(said),
        _until_ms(said, now_ms),
    )
    wait = next((one for one in waits if one is not None), None)
    return None if wait is None else math.ceil(min(max(wait, 0), LONGEST_MS))


def _seconds_ms(text: str) -> float | None:
    return float(text) * 1000 if re.fullmatch(r"[0-9]+(\.[0-9]+)?", text) else None


def _until_ms(date: str, now_ms: int) -> float | None:
    try:
        at = parsedate_to_datetime(date)
    except (ValueError, OverflowError):
        return None
    # The older forms of a date name no zone, and mean UTC (RFC 9110, section 5.6.7).
    zoned = at if at.tzinfo else at.replace(tzinfo=UTC)
    return (zoned - datetime.fromtimestamp(0, UTC)).total_seconds() * 1000 - now_ms
