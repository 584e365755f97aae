"""The session as the ledger tells it: which process did what, and when."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import attrs

from rainengine.core import CallSkills, Message, Respond
from rainengine.core.records import (
    CoordinationClaim,
    ModelDecision,
    OutcomeRecord,
    StoredRecord,
    ToolNodeCheckpoint,
    ToolResult,
    TriggerRecord,
)


@attrs.define(kw_only=True)
class Line:
    """One or more records in a few words. `process` counts from 0."""

    first: int
    last: int
    at_ms: int
    process: int
    text: str


def timeline(records: Iterable[StoredRecord]) -> Iterator[Line]:
    """Tell a session line by line; results that follow each other share a line."""
    process = 0
    results: list[StoredRecord] = []
    for entry in records:
        if isinstance(entry.record, ToolResult):
            results.append(entry)
            continue
        process += isinstance(entry.record, CoordinationClaim)
        tell = _TELL.get(type(entry.record))
        told = tell(entry.record) if tell is not None else []
        if told and results:
            before = process - isinstance(entry.record, CoordinationClaim)
            yield _line(results, before, f"   stored: {_results(results)}")
            results = []
        for text in told:
            yield _line([entry], process, text)


def _line(entries: list[StoredRecord], process: int, text: str) -> Line:
    return Line(
        first=entries[0].sequence,
        last=entries[-1].sequence,
        at_ms=entries[-1].occurred_at_ms,
        process=process,
        text=text,
    )


def _results(entries: list[StoredRecord]) -> str:
    records = [entry.record for entry in entries if isinstance(entry.record, ToolResult)]
    failed = [one for one in records if one.failure is not None]
    text = _counts(one.name for one in records)
    for one in failed:
        text += f" ({one.call_id} failed: {one.failure.message if one.failure else ''})"
    return text


def _counts(names: Iterable[str]) -> str:
    counted = Counter(names).items()
    return ", ".join(name if times == 1 else f"{times} {name}" for name, times in counted)


def _trigger(record: TriggerRecord) -> list[str]:
    trigger = record.trigger
    return [f'{trigger.user_id}: "{trigger.content}"' if isinstance(trigger, Message) else "?"]


def _decision(record: ModelDecision) -> list[str]:
    step, action = f"step {record.step}: the model", record.action
    if isinstance(action, CallSkills):
        return [f"{step} calls {_counts(call.name for call in action.calls)}"]
    return [f"{step} answers" if isinstance(action, Respond) else f"{step} decides"]


def _claim(record: CoordinationClaim) -> list[str]:
    return [f"takes the session over as {record.owner}; the fence is now {record.fence}"]


def _checkpoint(record: ToolNodeCheckpoint) -> list[str]:
    told = []
    for node in record.nodes:
        if node.detail == "again after an interruption":
            told.append(f"   {node.call_id} begins again under its old key, attempt {node.attempt}")
        elif node.statuses[0] == "failed" and node.statuses[-1] == "succeeded":
            told.append(f"   {node.call_id} failed, and succeeded on attempt {node.attempt}")
    return told


def _outcome(record: OutcomeRecord) -> list[str]:
    return [f"{record.stop_reason} after {record.steps_executed} steps: {record.response}"]


_TELL: dict[type, Callable[[Any], list[str]]] = {
    TriggerRecord: _trigger,
    ModelDecision: _decision,
    CoordinationClaim: _claim,
    ToolNodeCheckpoint: _checkpoint,
    OutcomeRecord: _outcome,
}
