"""The engines that a worker uses: one for each tenant and agent, made by the host."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from math import inf
from typing import TypeAlias, TypeVar

import attrs
import trio

from rainengine.core import AgentEngine
from rainengine.core.abc import DueSession, Ledger, LedgerStore
from rainengine.core.errors import AgentMismatch

T = TypeVar("T")

EngineFor: TypeAlias = Callable[[Ledger, str | None], AgentEngine | None]
"""Makes the engine of an agent on one tenant's ledger, or None where there is no such agent here.

The name is None where it is not known whose the run is: any engine of that ledger will do, and
finds out.
"""

_GUESSES = 4
_REMEMBERED = 1_000
_log = logging.getLogger("rainengine.runtime")


class NoEngine(Exception):
    """There is no engine for the agent whose run or wake is due."""

    def __init__(self, agent: str) -> None:
        super().__init__(agent)
        self.agent = agent


@attrs.define(eq=False)
class _Absence:
    ask_again_at: float = -inf
    told: bool = False


@attrs.define(eq=False, kw_only=True)
class Engines:
    """Keeps the engines used last, up to `limit`, and remembers for a while where there is none."""

    store: LedgerStore
    engine_for: EngineFor
    limit: int
    retry_s: float
    _made: OrderedDict[tuple[str, str], AgentEngine] = attrs.field(
        factory=OrderedDict[tuple[str, str], AgentEngine], init=False
    )
    _absent: OrderedDict[tuple[str, str | None], _Absence] = attrs.field(
        factory=OrderedDict[tuple[str, str | None], _Absence], init=False
    )

    async def serve(self, session: DueSession, work: Callable[[AgentEngine], Awaitable[T]]) -> T:
        """Do the work with the engine of the agent that the session turns out to need.

        Who that is, the listing only guesses. Raises `NoEngine`.
        """
        wanted, engine = session.agent, self._guess(session)
        for _ in range(_GUESSES):
            if engine is None:
                break
            try:
                return await work(engine)
            except AgentMismatch as mismatch:
                wanted = mismatch.wanted
                engine = self._get(session.tenant, wanted)
        self._tell(session.tenant, wanted)
        raise NoEngine(wanted or "")

    def ask_anew(self) -> None:
        """Ask the host again for the engines that were missing."""
        for absence in self._absent.values():
            absence.ask_again_at = -inf

    def seems_absent(self, session: DueSession) -> bool:
        """Whether there was no engine for the session's agent, as far as the listing knows it."""
        return (session.tenant, session.agent) in self._absent

    def _guess(self, session: DueSession) -> AgentEngine | None:
        engine = self._get(session.tenant, session.agent)
        if engine is None and session.agent is not None:
            return self._get(session.tenant, None)
        return engine

    def _get(self, tenant: str, agent: str | None) -> AgentEngine | None:
        engine = self._kept(tenant, agent) or self._make(tenant, agent)
        if engine is not None:
            place = tenant, engine.agent.name
            self._made[place] = engine
            self._made.move_to_end(place)
            self._absent.pop(place, None)
        while len(self._made) > self.limit:
            self._made.popitem(last=False)
        return engine

    def _kept(self, tenant: str, agent: str | None) -> AgentEngine | None:
        if agent is not None:
            return self._made.get((tenant, agent))
        places = (place for place in reversed(self._made) if place[0] == tenant)
        return next((self._made[place] for place in places), None)

    def _make(self, tenant: str, agent: str | None) -> AgentEngine | None:
        absence = self._absent.get((tenant, agent))
        now = trio.current_time()
        if absence is not None and now < absence.ask_again_at:
            return None
        engine = self._ask_host(tenant, agent)
        if engine is None or agent not in (None, engine.agent.name):
            self._missed(tenant, agent).ask_again_at = now + self.retry_s
            return None
        return engine

    def _ask_host(self, tenant: str, agent: str | None) -> AgentEngine | None:
        try:
            return self.engine_for(self.store.for_tenant(tenant), agent)
        except Exception:  # noqa: BLE001  # the host's code
            _log.exception("no engine could be made for agent %r of tenant %r", agent, tenant)
            return None

    def _missed(self, tenant: str, agent: str | None) -> _Absence:
        absence = self._absent.setdefault((tenant, agent), _Absence())
        while len(self._absent) > _REMEMBERED:
            self._absent.popitem(last=False)
        return absence

    def _tell(self, tenant: str, agent: str | None) -> None:
        absence = self._missed(tenant, agent)
        if not absence.told:
            absence.told = True
            _log.warning("no engine serves agent %r of tenant %r: its runs wait", agent, tenant)
