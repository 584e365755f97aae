"""Having one's turn on a session, and the session as it stands then."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

import attrs

from rainengine.core.abc import Ledger
from rainengine.core.engine._session import OpenSession, Outdated
from rainengine.core.engine._sessions import SessionCache, is_taken, turn
from rainengine.core.errors import LeaseHeld, SessionBusy

T = TypeVar("T")


@attrs.frozen(eq=False)
class Turns:
    """Brings work and sessions together, one at a time on each session in this process."""

    ledger: Ledger
    sessions: SessionCache

    async def take(
        self,
        session_id: str,
        work: Callable[[OpenSession], Awaitable[T]],
        *,
        assume_new: bool = False,
    ) -> T:
        """Wait for the turn, and do the work; anew where the session turns out to have moved on.

        Raises `SessionBusy` where another process holds the session.
        """
        async with turn(self.ledger, session_id):
            while True:
                session = await self.sessions.get(session_id, assume_new=assume_new)
                assume_new = False
                try:
                    return await work(session)
                except Outdated:
                    if not session.assumed_new:
                        await session.refresh()
                except LeaseHeld as held:
                    raise SessionBusy(held.session_id, held.owner, held.expires_at_ms) from held
                finally:
                    self.sessions.keep(session)

    async def take_or_look(self, session_id: str, work: Callable[[OpenSession], Awaitable[T]]) -> T:
        """Do work that needs no turn: where a step has it, which may take long, beside that."""
        if not is_taken(self.ledger, session_id):
            return await self.take(session_id, work)
        while True:
            session = await self.sessions.look_at(session_id)
            try:
                return await work(session)
            except Outdated:
                continue
            finally:
                self.sessions.tell(session_id)

    async def let_go(self, session_id: str) -> None:
        """Wait for the turn, and give up the session's lease."""
        async with turn(self.ledger, session_id):
            await self.sessions.let_go(session_id)
