"""What a turn leaves to the garbage collector: nothing, so that a host may have it run seldom."""

from __future__ import annotations

import gc
from typing import Any

import pytest
import trio

from rainengine.core import Respond


async def garbage_of(work: Any) -> int:
    """How many objects only a collection can free after some work."""
    gc.collect()
    gc.disable()
    try:
        await work()
        return gc.collect()
    finally:
        gc.enable()


@pytest.mark.parametrize("seconds", [0, 15], ids=["at once", "with a heartbeat"])
async def test_a_turn_makes_no_cycles(stage: Any, seconds: float) -> None:
    """All that a turn with tools used is freed as soon as nothing refers to it."""

    async def decide(request: Any) -> Any:
        await trio.sleep(seconds)
        return stage.calls("a", "b") if request.context.step == 1 else Respond("x")

    engine = stage.engine(decide, stage.skill("a"), stage.skill("b"))
    await stage.play(engine)
    assert await garbage_of(lambda: stage.play(engine)) == 0
