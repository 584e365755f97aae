"""Reading the outbox rows of delegated work."""

from __future__ import annotations

from rainengine.core.abc import DelegatedResult, DelegationCancelled, DelegationOrder
from rainengine.core.codec._shapes import structure
from rainengine.core.records import JsonValue


def read_order(payload: JsonValue) -> DelegationOrder | DelegationCancelled:
    """Read the payload of a row of a topic `delegation:STREAM`. Raises `InadmissibleValue`."""
    cancelled = isinstance(payload, dict) and payload.get("kind") == "cancelled"
    shape = DelegationCancelled if cancelled else DelegationOrder
    read: DelegationOrder | DelegationCancelled = structure(payload, shape)
    return read


def read_result(payload: JsonValue) -> DelegatedResult:
    """Read the payload of a row of the topic `delegation-result`. Raises `InadmissibleValue`."""
    result: DelegatedResult = structure(payload, DelegatedResult)
    return result
