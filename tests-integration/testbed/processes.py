"""Processes that tests start."""

from __future__ import annotations

import os
import sys
from collections.abc import Awaitable, Callable

import trio


def environment() -> dict[str, str]:
    """What a Python needs to import whatever this one can."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}


async def until(condition: Callable[[], Awaitable[bool]], *, within_s: float = 60.0) -> None:
    """Return once something holds that other processes bring about. Raises `TooSlowError`."""
    with trio.fail_after(within_s):
        while not await condition():  # noqa: ASYNC110 - no event reaches us from there
            await trio.sleep(0.02)
