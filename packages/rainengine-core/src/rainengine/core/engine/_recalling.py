"""Searching memory: what the model asked for, found by the host's retrieval.

A search is a read, so it is made before its decision is stored, and stored together with it.
Whatever retrieval does, the step goes on: what it gives is told if it can be, or else why not.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from itertools import islice

import trio

from rainengine.core import codec
from rainengine.core.abc import MemoryHit, Retrieval
from rainengine.core.engine._asking import told
from rainengine.core.engine._services import Step
from rainengine.core.engine._session import Outdated
from rainengine.core.kernel import deadline_ms
from rainengine.core.projection import RECALLED
from rainengine.core.records import (
    JsonObject,
    JsonValue,
    KernelEventRecord,
    MemorySearch,
    MemorySearched,
    ObservationAppended,
    Record,
)

_QUERY_CHARACTERS = 1_000
_HIT_CHARACTERS = 2_000
_ERROR_CHARACTERS = 500
_TIMEOUT_MS = 10_000


async def recall(step: Step, number: int, action: MemorySearch) -> list[Record]:
    """Return the records of a search: that it was made, and what it found or why it failed."""
    query = action.query[:_QUERY_CHARACTERS]
    limit = min(action.limit, step.profile.memory.semantic_retrieval_limit)
    found: JsonObject = {"query": query}
    try:
        hits = await _search(step, query, limit)
        found["hits"] = [_shown(hit) for hit in hits]
        return _records(step, number, hits, found)
    except Outdated:
        raise  # of the session, which was looked at as the search was left off
    except Exception as error:  # noqa: BLE001  # retrieval is somebody else's code
        why = codec.clean_text(told(error))[:_ERROR_CHARACTERS]
        return _records(step, number, (), {"query": query, "error": why})


async def _search(step: Step, query: str, limit: int) -> Sequence[MemoryHit]:
    retrieval = step.services.retrieval
    if retrieval is None:
        raise LookupError("there is no memory to be searched")
    left_ms = min(_TIMEOUT_MS, deadline_ms(step.run, step.policy) - step.now_ms())
    search = partial(_within, max(left_ms, 0) / 1000, retrieval, step, query, limit)
    found = await step.session.unless_cancelled(search)
    if found is None:
        raise InterruptedError("the run is to be stopped")
    known = step.session.projection.sequence
    return [_checked(hit, known) for hit in islice(found[0], limit)]


async def _within(
    seconds: float, retrieval: Retrieval, step: Step, query: str, limit: int
) -> tuple[Iterable[MemoryHit]]:
    with trio.move_on_after(seconds):
        return (await retrieval.search(step.session.session_id, query, limit),)
    raise TimeoutError(f"nothing was found within {seconds:g} s")


def _checked(hit: object, known: int) -> MemoryHit:
    if not isinstance(hit, MemoryHit) or not isinstance(hit.text, str):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"a {type(hit).__name__} is no memory")
    if type(hit.sequence) is not int or not 1 <= hit.sequence <= known:
        raise ValueError("a memory was found where the session has no record")
    return hit


def _shown(hit: MemoryHit) -> JsonValue:
    return {"sequence": hit.sequence, "text": codec.clean_text(hit.text)[:_HIT_CHARACTERS]}


def _records(step: Step, number: int, hits: Sequence[MemoryHit], found: JsonObject) -> list[Record]:
    query = found["query"]
    searched = MemorySearched(query=str(query), hits=tuple(hit.sequence for hit in hits))
    observed = ObservationAppended(
        observation_id=f"{step.run.trigger_id}:{number}", source=RECALLED, content=found
    )
    cap = step.session.backing.ledger.max_payload_bytes
    records = [KernelEventRecord(searched), KernelEventRecord(observed)]
    return [codec.read_back(record, cap=cap) for record in records]
