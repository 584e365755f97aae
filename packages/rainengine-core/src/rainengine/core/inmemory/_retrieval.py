"""Memory without an index: a session is read anew for each search."""

from __future__ import annotations

import re

import attrs

from rainengine.core import codec
from rainengine.core.abc import Ledger, MemoryHit
from rainengine.core.records import (
    Deliberation,
    HumanInput,
    KernelEventRecord,
    MemoryArchived,
    Message,
    OutcomeRecord,
    Record,
    ToolResult,
    Trigger,
    TriggerRecord,
)

_PAGE = 1000
_WORD = re.compile(r"\w+")
_NO_CONTENT = ("attachments", "resume_token", "correlation_id", "type")


class InMemoryRetrieval:
    """Finds again what was said and done in a session, by the words of the query.

    It finds triggers, answers, results of tools and notes that were kept. The more of the query's
    words stand in one the better it fits; of those that fit as well, the newest come first.
    Each search reads the whole session: good for tests, trials, and sessions that stay short.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    async def search(self, session_id: str, query: str, limit: int) -> list[MemoryHit]:
        """Return up to `limit` records that have a word of the query. Raises `LedgerError`."""
        wanted = _words(query)
        hits: list[MemoryHit] = []
        after = 0
        while wanted:
            page = await self._ledger.read(session_id, after=after, limit=_PAGE)
            for entry in page:
                text = _text_of(entry.record)
                found = len(wanted & _words(text))
                if found:
                    score = found / len(wanted)
                    hits.append(MemoryHit(sequence=entry.sequence, text=text, score=score))
            if len(page) < _PAGE:
                break
            after = page[-1].sequence
        return sorted(hits, key=lambda hit: (-hit.score, -hit.sequence))[: max(limit, 0)]


def _words(text: str) -> set[str]:
    return set(_WORD.findall(text.casefold()))


def _text_of(record: Record) -> str:
    if isinstance(record, TriggerRecord):
        return _text_of_trigger(record.trigger)
    if isinstance(record, OutcomeRecord):
        return record.response or ""
    if isinstance(record, ToolResult):
        told = _json(record.value) if record.failure is None else record.failure.message
        return f"{record.name}: {told}"
    if isinstance(record, Deliberation):
        return record.summary
    if isinstance(record, KernelEventRecord) and isinstance(record.event, MemoryArchived):
        return record.event.content
    return ""


def _text_of_trigger(trigger: Trigger) -> str:
    if isinstance(trigger, Message | HumanInput):
        return trigger.content
    facts = attrs.asdict(trigger, recurse=False)  # type: ignore[arg-type]  # every trigger is attrs
    return _json({name: value for name, value in facts.items() if name not in _NO_CONTENT})


def _json(value: object) -> str:
    return value if isinstance(value, str) else codec.encode_value(value).decode()
