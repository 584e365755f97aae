"""Being told that a run is to be stopped, while its step waits for something.

The request is durable before anybody is told of it. What is told here comes ahead of reading it:
it lets go of a model, and keeps further calls of tools from starting. That the run was cancelled
is known only once the request has been read.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

import attrs
import trio

T = TypeVar("T")
_log = logging.getLogger("rainengine.core")


@attrs.frozen
class Stop:
    """A run that is to be stopped, and why."""

    trigger_id: str
    reason: str


@attrs.define(eq=False)
class Listening:
    """What the holder of a session has been told."""

    _stop: Stop | None = attrs.field(default=None, init=False)
    _scope: trio.CancelScope | None = attrs.field(default=None, init=False)

    def tell(self, stop: Stop) -> None:
        """Let go of what the run waits for."""
        self._stop = stop
        if self._scope is not None:
            self._scope.cancel()

    def reason(self, trigger_id: str) -> str | None:
        """Why this run is to be stopped, if it is."""
        stop = self._stop
        return None if stop is None or stop.trigger_id != trigger_id else stop.reason

    async def during(self, work: Callable[[], Awaitable[T]]) -> tuple[T] | None:
        """Do the work and return what it returned; None where it was let go of.

        What it raises while it is let go of is logged: nobody waits for it any more.
        """
        self._scope = scope = trio.CancelScope()
        try:
            with scope:
                return (await work(),)
        except Exception:
            if not scope.cancel_called:
                raise
            _log.exception("what was let go of failed")
        finally:
            self._scope = None
        return None
