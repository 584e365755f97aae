"""Telling a host of an answer's text while the model makes it."""

from __future__ import annotations

import logging
from types import TracebackType
from typing import Self

import attrs

from rainengine.core import codec
from rainengine.core.abc import StepContext
from rainengine.core.engine._requests import TextDelta
from rainengine.core.engine._services import OnDelta

_log = logging.getLogger("rainengine.core")


@attrs.define(eq=False)
class Sender:
    """Takes pieces of an answer for a host, until the answer is complete or given up.

    A host that fails over one is told no more of this answer.
    """

    _on_delta: OnDelta
    _context: StepContext
    _attempt: int = 1
    _silent: bool = False

    @classmethod
    def to(cls, on_delta: OnDelta, context: StepContext) -> Sender:
        """Make a sender to the host's callback."""
        return cls(on_delta, context)

    def __call__(self, text: str) -> None:
        if self._silent or not text:
            return
        try:
            self._on_delta(self._delta(text))
        except Exception:  # noqa: BLE001  # the host's code
            self._silent = True
            _log.exception("on_delta failed: no more of this answer is told")

    def restart(self) -> None:
        """Say that what was sent is void: the answer begins anew."""
        self._attempt += 1

    def _delta(self, text: str) -> TextDelta:
        return TextDelta(
            session_id=self._context.session_id,
            trigger_id=self._context.trigger_id,
            step=self._context.step,
            attempt=self._attempt,
            text=codec.clean_text(text),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._silent = True
