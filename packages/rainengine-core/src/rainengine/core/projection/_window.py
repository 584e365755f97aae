"""The conversation that a model is shown the newest part of."""

from __future__ import annotations

from rainengine.core.projection._state import WINDOW_ITEMS, Run, SessionProjection, WindowItem
from rainengine.core.records import JsonObject


def add_to_window(state: SessionProjection, item: WindowItem) -> None:
    """Add to the conversation and let go of its oldest item where there are too many."""
    state.window.append(item)
    if len(state.window) > WINDOW_ITEMS:
        del state.window[0]
        state.window_cut = True


def add_input(state: SessionProjection, run: Run, sequence: int) -> None:
    """Add what set a run in motion, or had it go on, to the conversation."""
    item = WindowItem(
        sequence=sequence, role="input", trigger_id=run.trigger_id, trigger=run.trigger
    )
    add_to_window(state, item)


def tell(state: SessionProjection, sequence: int, facts: JsonObject) -> None:
    """Add something that happened to the conversation."""
    add_to_window(state, WindowItem(sequence=sequence, role="event", facts=facts))
