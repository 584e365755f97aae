"""Small records for checks and tests."""

from __future__ import annotations

from rainengine.core.records import (
    CancelRequest,
    Head,
    KernelEventRecord,
    MemoryArchived,
    Message,
    NewRecord,
    OutcomeRecord,
    StopReason,
    TriggerRecord,
)

START_MS = 1_700_000_000_000


def trigger(
    key: str | None = None, *, run: str = "run", content: str = "hello", resumes: str | None = None
) -> NewRecord:
    """A trigger, which is intake."""
    record = TriggerRecord(
        trigger_id=run,
        trigger=Message(user_id="user", content=content),
        body_hash="0" * 64,
        resumes=resumes,
    )
    return NewRecord(record, START_MS, run, key)


def note(content: str = "note", *, at: int = START_MS) -> NewRecord:
    """A record that is no intake."""
    event = MemoryArchived(note_id="note", content=content)
    return NewRecord(KernelEventRecord(event), at, "run")


def cancel() -> NewRecord:
    """A request to cancel, which is intake."""
    return NewRecord(CancelRequest(reason="enough"), START_MS)


def outcome(run: str = "run", *, reason: StopReason = "responded", response: str = "") -> NewRecord:
    """How a run ended."""
    record = OutcomeRecord(trigger_id=run, stop_reason=reason, steps_executed=1, response=response)
    return NewRecord(record, START_MS, run)


OTHER_HEAD = Head(10_000, b"\1" * 32)
"""A head that no session in a check ever has."""
