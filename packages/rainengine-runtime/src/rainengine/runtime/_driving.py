"""Runs and wakes: what a worker has a session's engine do."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import attrs

from rainengine.core import AgentEngine, ContinueRequest
from rainengine.core.abc import Clock, DueSession
from rainengine.core.errors import LedgerError
from rainengine.runtime._engines import Engines
from rainengine.runtime._lane import AWAY, ELSEWHERE, Verdict
from rainengine.runtime._patience import Key, key_of
from rainengine.runtime._shift import Shift


@attrs.define(eq=False, kw_only=True)
class Driver:
    """Takes runs up and brings them to their ends."""

    engines: Engines
    shift: Shift
    _holders: dict[Key, AgentEngine] = attrs.field(factory=dict[Key, AgentEngine], init=False)

    async def drive(self, session: DueSession) -> Verdict:
        """Advance a session until one of its runs has ended, or the shift ends."""
        return await self.engines.serve(session, lambda engine: self._hold(session, engine))

    async def let_go(self, session: DueSession) -> None:
        """Give the session's lease back, if an engine here may have it. Raises `LedgerError`."""
        engine = self._holders.pop(key_of(session), None)
        if engine is not None:
            await engine.release(session.session_id)

    async def _hold(self, session: DueSession, engine: AgentEngine) -> Verdict:
        self._holders[key_of(session)] = engine
        try:
            verdict = await self._advance(session, engine)
        except AWAY:
            raise
        except ELSEWHERE:
            del self._holders[key_of(session)]
            raise
        except Exception:
            with suppress(
                LedgerError
            ):  # so that another agent, or a worker with other code, can try at once
                await self.let_go(session)
            raise
        if verdict != "again":
            del self._holders[key_of(session)]
        return verdict

    async def _advance(self, session: DueSession, engine: AgentEngine) -> Verdict:
        while not self.shift.ending:
            result = await engine.advance(ContinueRequest(session_id=session.session_id))
            if result.idle:
                return "nothing"
            self.shift.counts.advances += 1
            if result.outcome is not None:
                self.shift.counts.runs += 1
                return "again" if result.waiting else "done"
        return "again"


@attrs.frozen(eq=False, kw_only=True)
class Waker:
    """Brings in wakes; `bring_up` is told of the sessions that have something to do then."""

    engines: Engines
    shift: Shift
    clock: Clock
    bring_up: Callable[[DueSession], None]

    async def wake(self, session: DueSession) -> Verdict:
        """Bring in the wakes of a session whose time has come."""
        fired = await self.engines.serve(session, lambda engine: self._fire(session, engine))
        if not fired:
            return "nothing"
        self.shift.counts.wakes += fired
        self.bring_up(session)
        return "done"

    async def _fire(self, session: DueSession, engine: AgentEngine) -> int:
        return len(await engine.fire_wakes(session.session_id, now_ms=self.clock.now_ms()))
