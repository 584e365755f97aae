"""What stands in the outbox for work that is handed to another worker.

An order goes to the topic `delegation:STREAM`, and if the run that waits for it is stopped, its
cancellation after it. Whoever works on the order answers with a `DelegationResult` to the parent's
session, under the correlation id; a delegated run of an engine puts it on `delegation-result`.
"""

from __future__ import annotations

from typing import Literal

import attrs

from rainengine.core.records import DelegatedTask, JsonValue

ORDERS = "delegation:"
"""The beginning of the topics that delegated work goes to; the stream's name follows."""

RESULTS = "delegation-result"
"""The topic that the results of delegated runs go to."""


@attrs.frozen(kw_only=True)
class DelegationOrder:
    """Work that was delegated.

    `agent` and `session_id` are the parent's. The scopes and the budget (millionths of a currency
    unit, and tokens if they are bounded) are the most that whoever works on it may have. `depth`
    is how many delegations led to it, of at most `max_depth`; `requester` the person behind it.
    """

    session_id: str
    agent: str
    correlation_id: str
    worker: str | None
    task: DelegatedTask
    granted_scopes: tuple[str, ...]
    budget_micros: int
    budget_tokens: int | None
    depth: int
    max_depth: int
    requester: str | None = None
    kind: Literal["order"] = "order"


@attrs.frozen(kw_only=True)
class DelegationCancelled:
    """Nobody waits for delegated work any more."""

    correlation_id: str
    reason: str
    kind: Literal["cancelled"] = "cancelled"


@attrs.frozen(kw_only=True)
class DelegatedResult:
    """How a delegated run ended.

    `session_id` and `agent` are the parent's; cost is in millionths of a currency unit. The payload
    is an object with `stop_reason`, `response` and `detail`. `failed`: it was stopped, or could not
    begin.
    """

    agent: str
    session_id: str
    correlation_id: str
    payload: JsonValue
    cost_micros: int
    tokens: int
    failed: bool = False
