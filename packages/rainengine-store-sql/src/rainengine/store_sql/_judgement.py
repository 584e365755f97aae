"""Whether an append may be stored, and what it makes of its session. Pure, and one for all stores.

The rules are those of `rainengine.core.judging`.
A dialect hands in the session's row as it stands inside the transaction;
what comes back is either the refusal or everything that is to be written.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypeAlias

from rainengine.core.abc import Appended, LeaseChange, SessionIndex
from rainengine.core.errors import LedgerError
from rainengine.core.judging import Standing, refusal
from rainengine.core.records import Head
from rainengine.store_sql._drafts import Draft
from rainengine.store_sql._rows import OutboxRow, RecordRow, SessionRow, chain


class Change(NamedTuple):
    """What an accepted append writes and returns. `before` is the row that it was judged by."""

    before: SessionRow
    row: SessionRow
    records: Sequence[RecordRow]
    outbox: Sequence[OutboxRow]
    appended: Appended


Verdict: TypeAlias = Change | LedgerError


def judge(draft: Draft, row: SessionRow, stored_keys: Mapping[str, int]) -> Verdict:
    """Accept or refuse an append.

    `stored_keys` gives the sequences of those of the draft's trigger keys that the session holds.
    """
    refused = refusal(
        Standing(
            row.session_id,
            row.head,
            row.hash,
            row.lease_owner,
            row.lease_expires_at_ms,
            row.fence,
        ),
        claims=draft.triggers,
        claimed=stored_keys,
        intake=draft.intake,
        expected=draft.expected,
        fence=draft.fence,
        lease=draft.lease,
        now_ms=draft.now_ms,
    )
    return refused or _accept(draft, row)


def _accept(draft: Draft, row: SessionRow) -> Change:
    records = _rows_behind(draft, row)
    last = records[-1] if records else None
    head, digest = (row.head, row.hash) if last is None else (last.sequence, last.hash)
    fence, owner, expires = _leased(draft.lease, row, draft.now_ms)
    state, agent, wake = _indexed(draft.index, row)
    first_ms, last_ms = _times(row, records)
    after = SessionRow(
        row.tenant,
        row.session_id,
        head,
        digest,
        fence,
        owner,
        expires,
        state,
        agent,
        wake,
        first_ms,
        last_ms,
    )
    appended = Appended(head=Head(head, digest), first_sequence=row.head + 1, fence=fence)
    return Change(row, after, records, _outbox_rows(draft, head), appended)


def _rows_behind(draft: Draft, row: SessionRow) -> Sequence[RecordRow]:
    return draft.rows or chain(draft.key, row.head, row.hash, draft.records)


def _leased(lease: LeaseChange | None, row: SessionRow, now_ms: int) -> tuple[int, str | None, int]:
    if lease is None:
        return row.fence, row.lease_owner, row.lease_expires_at_ms
    if lease.action == "free":
        return row.fence, None, 0
    return row.fence + (lease.action == "take"), lease.owner, now_ms + lease.ttl_ms


def _indexed(index: SessionIndex | None, row: SessionRow) -> tuple[str, str | None, int | None]:
    if index is None:
        return row.state, row.agent, row.wake_due_at_ms
    agent = row.agent if index.agent is None else index.agent
    wake = row.wake_due_at_ms if index.wake_due_at_ms is None else index.wake_due_at_ms or None
    return index.state, agent, wake


def _times(row: SessionRow, records: Sequence[RecordRow]) -> tuple[int, int]:
    if not records:
        return row.first_recorded_at_ms, row.last_recorded_at_ms
    first_ms = row.first_recorded_at_ms if row.head else records[0].occurred_at_ms
    return first_ms, records[-1].occurred_at_ms


def _outbox_rows(draft: Draft, sequence: int) -> list[OutboxRow]:
    return [
        OutboxRow(*draft.key, sequence, ordinal, topic, payload, 0, draft.now_ms)
        for ordinal, (topic, payload) in enumerate(draft.outbox)
    ]
