"""Folding of what the engine learned about itself."""

from __future__ import annotations

from typing import Any

from rainengine.core.projection._state import SessionProjection, SkillRecord
from rainengine.core.records import PolicyTuning, Record, Reflection, StrategyPreference


def _reflection(state: SessionProjection, record: Reflection, sequence: int, entry: object) -> None:
    state.last_reflection_sequence = sequence


def _tuning(state: SessionProjection, record: PolicyTuning, *_: object) -> None:
    if record.status == "applied":
        state.overlay = record.overlay
    elif record.status == "rolled_back":
        state.overlay = None


def _preference(state: SessionProjection, record: StrategyPreference, *_: object) -> None:
    state.skills.setdefault(record.skill, SkillRecord()).preference = record.preference


LEARNING_FOLDS: dict[type[Record], Any] = {
    Reflection: _reflection,
    PolicyTuning: _tuning,
    StrategyPreference: _preference,
}
