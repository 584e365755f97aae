"""Folding records, one at a time and in order, into what they mean."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from rainengine.core.projection._learning import LEARNING_FOLDS
from rainengine.core.projection._runs import RUN_FOLDS
from rainengine.core.projection._spending import SPENDING_FOLDS
from rainengine.core.projection._state import SessionProjection
from rainengine.core.projection._tools import TOOL_FOLDS
from rainengine.core.projection._waiting import WAITING_FOLDS
from rainengine.core.projection._world import WORLD_FOLDS
from rainengine.core.records import NewRecord, Record, StoredRecord

Fold: TypeAlias = Callable[[SessionProjection, Any, int, NewRecord | StoredRecord], None]

_FOLDS: dict[type[Record], Fold] = {
    **RUN_FOLDS,
    **SPENDING_FOLDS,
    **WAITING_FOLDS,
    **TOOL_FOLDS,
    **WORLD_FOLDS,
    **LEARNING_FOLDS,
}


def fold(state: SessionProjection, sequence: int, entry: NewRecord | StoredRecord) -> None:
    """Take the record with this sequence into `state`. Costs the same however long the history.

    A kind that is not known or has no bearing on the projection only moves the sequence.
    Raises `ValueError` where the sequence is not the next one.
    """
    if sequence != state.sequence + 1:
        raise ValueError(f"record {sequence} cannot follow record {state.sequence}")
    state.sequence = sequence
    state.last_recorded_at_ms = entry.occurred_at_ms
    if sequence == 1:
        state.first_recorded_at_ms = entry.occurred_at_ms
    record = entry.record
    folding = _FOLDS.get(type(record))
    if folding is not None:
        folding(state, record, sequence, entry)
