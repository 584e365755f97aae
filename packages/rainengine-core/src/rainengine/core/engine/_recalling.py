"""Searching memory: what the model asked for, found by the host's retrieval."""

from __future__ import annotations

import trio

from rainengine.core import codec
from rainengine.core.abc import MemoryHit
from rainengine.core.engine._services import Step
from rainengine.core.errors import InadmissibleValue
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

_HIT_CHARACTERS = 2_000
_TIMEOUT_S = 10.0


async def recall(step: Step, number: int, action: MemorySearch) -> list[Record]:
    """Return the records of a search: that it was made, and what it found or why it failed."""
    limit = min(action.limit, max(step.profile.memory.semantic_retrieval_limit, 1))
    hits: list[MemoryHit] = []
    found: JsonObject = {"query": action.query}
    try:
        hits = await _search(step, action.query, limit)
        found["hits"] = [_shown(hit) for hit in hits]
    except Exception as error:  # noqa: BLE001  # retrieval is somebody else's code
        found["error"] = codec.clean_text(f"{type(error).__name__}: {codec.shown(error, str)}")[
            :500
        ]
    searched = MemorySearched(query=action.query, hits=tuple(hit.sequence for hit in hits))
    observed = ObservationAppended(
        observation_id=f"{step.run.trigger_id}:{number}", source=RECALLED, content=found
    )
    return [KernelEventRecord(searched), KernelEventRecord(observed)]


async def _search(step: Step, query: str, limit: int) -> list[MemoryHit]:
    retrieval = step.services.retrieval
    if retrieval is None:
        raise InadmissibleValue("query", "there is no memory to be searched")
    with trio.fail_after(_TIMEOUT_S):
        return list(await retrieval.search(step.session.session_id, query, limit))[:limit]


def _shown(hit: MemoryHit) -> JsonValue:
    return {"sequence": hit.sequence, "text": codec.clean_text(hit.text)[:_HIT_CHARACTERS]}
