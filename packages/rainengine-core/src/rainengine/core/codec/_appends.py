"""The admission rule for a whole append: what every store checks before anything else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import get_args

import attrs

from rainengine.core.abc import LeaseChange, OutboxItem, SessionIndex, SessionState
from rainengine.core.codec import _admission as admission
from rainengine.core.codec._shapes import to_json
from rainengine.core.codec._wire import (
    MAX_TIME,
    MIN_TIME,
    EncodedRecord,
    encode_batch,
    encode_value,
)
from rainengine.core.errors import InadmissibleValue
from rainengine.core.records import NewRecord

MAX_TTL_MS = 2**53

_ACTIONS = frozenset({"take", "extend", "free"})
_STATES = frozenset(get_args(SessionState))


@attrs.frozen
class EncodedAppend:
    """What an append stores. `outbox` holds topics and JSON texts, in order."""

    records: list[EncodedRecord]
    outbox: tuple[tuple[str, str], ...] = ()


def encode_append(
    session_id: str,
    records: Sequence[NewRecord],
    *,
    lease: LeaseChange | None = None,
    index: SessionIndex | None = None,
    outbox: Sequence[OutboxItem] = (),
    cap: int = admission.MAX_PAYLOAD_BYTES,
) -> EncodedAppend:
    """Encode everything that `Ledger.append` was given, or raise `InadmissibleValue`."""
    admission.check_identifier("session_id", session_id)
    if lease is not None:
        _check_lease(lease)
    if index is not None:
        _check_index(index)
    if not records and (lease is None or outbox):
        raise InadmissibleValue("records", "may be empty only where all there is is a lease change")
    encoded = encode_batch(records, cap=cap)
    return EncodedAppend(encoded, tuple([_encode_item(item, cap) for item in outbox]))


def _check_lease(lease: LeaseChange) -> None:
    admission.check_identifier("lease.owner", lease.owner)
    admission.check_integer("lease.ttl_ms", lease.ttl_ms, 0, MAX_TTL_MS)
    if lease.action not in _ACTIONS:
        raise InadmissibleValue("lease.action", f"{lease.action!r} is none of {sorted(_ACTIONS)}")


def _check_index(index: SessionIndex) -> None:
    if index.state not in _STATES:
        raise InadmissibleValue("index.state", f"{index.state!r} is none of {sorted(_STATES)}")
    if index.agent is not None:
        admission.check_identifier("index.agent", index.agent)
    if index.wake_due_at_ms is not None:
        admission.check_integer("index.wake_due_at_ms", index.wake_due_at_ms, MIN_TIME, MAX_TIME)


def _encode_item(item: OutboxItem, cap: int) -> tuple[str, str]:
    topic = admission.check_identifier("outbox.topic", item.topic)
    payload = encode_value(to_json(item.payload))
    admission.check_size(payload, cap)
    return topic, payload.decode()
