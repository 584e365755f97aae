"""How a worker behaves."""

from __future__ import annotations

import attrs

from rainengine.core.errors import InvalidConfiguration
from rainengine.core.records import RetryPolicy


@attrs.frozen(kw_only=True)
class WorkerSettings:
    """How a worker behaves.

    - `poll_interval_s`: how often it looks for work; a little less, so that a fleet spreads out.
    - `max_concurrent`: how many sessions it works on at once, of each kind of work.
    - `sessions_per_tenant`: how many it takes of one tenant before the next has its turn.
    - `page_size`: how many due sessions it asks for at a time.
    - `cached_engines`: how many engines it keeps, by tenant and agent.
    - `agent_retry_s`: when it asks again for an agent that there was no engine for.
    - `session_retry`: how long a session is left alone that raised an error; it is never given up.
    - `ledger_retry`: how long everything rests when the ledger is away; it is never given up.
    - `publish_retry`: when a row of the outbox is tried again, and after how many attempts it is
      dead.
    - `publish_timeout_s`: how long the publisher may take for a row.
    - `outbox_batch`: how many rows of one session it claims at a time.
    - `keep_delivered_ms`: how long rows are kept that were delivered.
    - `drain_timeout_s`: how long `Worker.drain` waits for steps that are under way.

    Raises `InvalidConfiguration` for what is not above 0.
    """

    poll_interval_s: float = 1.0
    max_concurrent: int = 16
    sessions_per_tenant: int = 4
    page_size: int = 100
    cached_engines: int = 64
    agent_retry_s: float = 15.0
    session_retry: RetryPolicy = RetryPolicy(initial_interval_ms=1_000, max_interval_ms=300_000)
    ledger_retry: RetryPolicy = RetryPolicy(initial_interval_ms=200, max_interval_ms=30_000)
    publish_retry: RetryPolicy = RetryPolicy(
        max_attempts=8, initial_interval_ms=1_000, max_interval_ms=300_000
    )
    publish_timeout_s: float = 10.0
    outbox_batch: int = 32
    keep_delivered_ms: int = 7 * 24 * 3_600_000
    drain_timeout_s: float = 30.0

    def __attrs_post_init__(self) -> None:
        for name, value in _numbers(self).items():
            if not 0 < value < float("inf"):
                raise InvalidConfiguration(name, f"{value} is not above 0")


def _numbers(settings: WorkerSettings) -> dict[str, float]:
    found: dict[str, float] = {}
    for field in attrs.fields(WorkerSettings):
        value = getattr(settings, field.name)
        parts = attrs.asdict(value) if isinstance(value, RetryPolicy) else {"": value}
        found |= {f"{field.name}.{part}".rstrip("."): number for part, number in parts.items()}
    return found
