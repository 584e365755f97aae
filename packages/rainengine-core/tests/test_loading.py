"""Bringing a session into memory that is longer than what a ledger is asked for at once."""

from __future__ import annotations

from typing import Any

import pytest

from rainengine.core import Continue, Respond
from rainengine.core.records import KernelEventRecord, NewRecord, ObservationAppended

PAGE = 1_000


async def observe(stage: Any, count: int) -> None:
    """Have somebody else append so many observations."""
    before = (await stage.ledger.head("s")).sequence
    seen = [
        ObservationAppended(observation_id=f"o{before + n}", source="s", content=n)
        for n in range(count)
    ]
    new = [NewRecord(KernelEventRecord(event), 0) for event in seen]
    await stage.ledger.append("s", new, expected=None)


async def last_seen(engine: Any) -> tuple[int, str]:
    """How far the engine's projection of the session has come, and the newest observation."""
    projection = (await engine._turns.sessions.get("s")).projection
    return projection.sequence, projection.world.observations[-1].observation_id


@pytest.mark.parametrize("count", [PAGE - 1, PAGE, PAGE + 1, 2 * PAGE, 2 * PAGE + 500])
async def test_a_session_of_any_length_is_loaded(stage: Any, count: int) -> None:
    """However many pages it has, all of a session is taken in, and once."""
    await observe(stage, count)
    engine = stage.engine([Respond("x")])
    await engine.advance(stage.go_on)
    assert await last_seen(engine) == (count, f"o{count - 1}")


@pytest.mark.parametrize("count", [PAGE - 1, PAGE, 2 * PAGE])
async def test_what_came_meanwhile_is_taken_in(stage: Any, count: int) -> None:
    """An engine that knows a session takes in all that was appended since, however much."""
    engine = stage.engine([Continue(), Respond("x")])
    await stage.play(engine)
    known = (await stage.ledger.head("s")).sequence
    await observe(stage, count)
    await engine.advance(stage.go_on)
    assert await last_seen(engine) == (known + count, f"o{known + count - 1}")
    assert (await stage.replayed()).sequence == known + count
