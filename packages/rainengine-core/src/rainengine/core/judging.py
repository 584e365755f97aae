"""Whether an append may be stored: the rules of `Ledger.append`, pure and one for all stores.

A store reads where the session stands, within what makes its append atomic, and asks `refusal`.
The admission rule comes before that: `rainengine.core.codec.encode_append` applies it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, Protocol

from rainengine.core.abc import INTAKE_KINDS, LeaseChange
from rainengine.core.errors import (
    DuplicateTrigger,
    FenceLost,
    LeaseHeld,
    LedgerError,
    SequenceConflict,
)
from rainengine.core.records import Head, TriggerRecord


class Standing(NamedTuple):
    """Where a session stands before an append. `owner` stays after the lease has expired."""

    session_id: str
    sequence: int
    hash: bytes
    owner: str | None
    expires_at_ms: int
    fence: int


class Entry(Protocol):
    """What is judged of a record."""

    @property
    def kind(self) -> str:
        """The tag that it is stored under."""
        ...

    @property
    def idempotency_key(self) -> str | None:
        """The key that it came with."""
        ...


def claims_of(records: Iterable[Entry]) -> list[tuple[int, str]]:
    """Return the positions and keys of those triggers that have a key."""
    return [
        (position, record.idempotency_key)
        for position, record in enumerate(records)
        if record.idempotency_key is not None and record.kind == TriggerRecord.kind
    ]


def is_intake(records: Iterable[Entry]) -> bool:
    """Whether anybody may append these, beside whoever holds the session."""
    return all(record.kind in INTAKE_KINDS for record in records)


def refusal(
    standing: Standing,
    *,
    claims: Sequence[tuple[int, str]],
    claimed: Mapping[str, int],
    intake: bool,
    expected: Head | None,
    fence: int | None,
    lease: LeaseChange | None,
    now_ms: int,
) -> LedgerError | None:
    """Return the first error of `Ledger.append` that applies, if any does.

    `claims` and `intake` are what `claims_of` and `is_intake` say of the append's records.
    `claimed` gives the sequences of the session's triggers by key; of those of `claims` at least.
    """
    if claims:
        duplicate = _duplicate(standing, claims, claimed)
        if duplicate is not None:
            return duplicate
    if fence is not None and fence != standing.fence:
        return FenceLost(standing.session_id, fence, standing.fence)
    lost = _lost_or_held(standing, intake=intake, fence=fence, lease=lease, now_ms=now_ms)
    if lost is not None:
        return lost
    if expected is None:
        return None
    if expected.sequence != standing.sequence or expected.hash != standing.hash:
        return SequenceConflict(standing.session_id, expected.sequence, standing.sequence)
    return None


def _duplicate(
    standing: Standing, claims: Sequence[tuple[int, str]], claimed: Mapping[str, int]
) -> DuplicateTrigger | None:
    fresh: dict[str, int] = {}
    for position, key in claims:
        sequence = standing.sequence + 1 + position
        first = claimed.get(key) or fresh.setdefault(key, sequence)
        if first != sequence:
            return DuplicateTrigger(standing.session_id, key, first)
    return None


def _lost_or_held(
    standing: Standing,
    *,
    intake: bool,
    fence: int | None,
    lease: LeaseChange | None,
    now_ms: int,
) -> FenceLost | LeaseHeld | None:
    """Judge by the lease; a fence that is given is the newest."""
    owner = standing.owner
    held = owner is not None and standing.expires_at_ms > now_ms
    if lease is None:
        allowed = not held or intake or fence is not None
    elif lease.action == "take":
        allowed = not held or lease.owner == owner
    else:
        allowed = fence is not None and lease.owner == owner
    if allowed:
        return None
    if owner is not None and held:
        return LeaseHeld(standing.session_id, owner, standing.expires_at_ms)
    return FenceLost(standing.session_id, fence or 0, standing.fence)
