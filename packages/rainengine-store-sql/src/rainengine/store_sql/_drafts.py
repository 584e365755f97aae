"""What is on its way to the writer: appends, and transactions of other kinds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import attrs
import trio

from rainengine.core.abc import Appended, LeaseChange, OutboxItem, SessionIndex
from rainengine.core.codec import EncodedRecord, encode_append
from rainengine.core.judging import claims_of, is_intake
from rainengine.core.records import Head, NewRecord
from rainengine.store_sql._rows import Key, RecordRow, chain


@attrs.define(eq=False)
class Draft:
    """An append that is admitted, encoded and chained to the head it expects, but not judged.

    `now_ms` is the store's clock at the call.
    `triggers` are the positions and idempotency keys of its triggers that have one.
    `intake` says that it brings nothing but records which anybody may append.
    `rows` fit behind `expected`; where there are none, `records` are chained when it is judged.
    `task` is who waits for `result`.
    """

    key: Key
    records: Sequence[EncodedRecord]
    rows: Sequence[RecordRow]
    expected: Head | None
    fence: int | None
    lease: LeaseChange | None
    index: SessionIndex | None
    outbox: Sequence[tuple[str, str]]
    triggers: Sequence[tuple[int, str]]
    intake: bool
    now_ms: int
    submitted_s: float = 0.0
    task: trio.lowlevel.Task | None = None
    result: Result | None = None


@attrs.define(eq=False)
class Transaction:
    """Something to be done with a connection, alone. `task` is who waits for `result`.

    `connect` opens one for it; None stands for the writer's own.
    """

    work: Callable[[Any], object]
    timeout_s: float
    connect: Callable[[], Any] | None = None
    submitted_s: float = 0.0
    task: trio.lowlevel.Task | None = None
    result: Result | None = None


@attrs.frozen
class Done:
    """What a transaction returned, once it was committed."""

    value: Any


Result: TypeAlias = Appended | Done | BaseException


def draft_append(
    key: Key,
    records: Sequence[NewRecord],
    *,
    expected: Head | None,
    fence: int | None,
    lease: LeaseChange | None,
    index: SessionIndex | None,
    outbox: Sequence[OutboxItem],
    now_ms: int,
    cap: int,
) -> Draft:
    """Admit and encode an append. Raises `InadmissibleValue`."""
    encoded = encode_append(key[1], records, lease=lease, index=index, outbox=outbox, cap=cap)
    found = encoded.records
    return Draft(
        key,
        found,
        () if expected is None else chain(key, expected.sequence, expected.hash, found),
        expected,
        fence,
        lease,
        index,
        encoded.outbox,
        claims_of(found),
        is_intake(found),
        now_ms,
    )


def draft_lease(key: Key, lease: LeaseChange, *, fence: int, now_ms: int) -> Draft:
    """Draft a change of the lease alone. Raises `InadmissibleValue`."""
    encode_append(key[1], (), lease=lease)
    return Draft(
        key,
        records=(),
        rows=(),
        expected=None,
        fence=fence,
        lease=lease,
        index=None,
        outbox=(),
        triggers=(),
        intake=True,
        now_ms=now_ms,
    )
