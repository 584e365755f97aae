"""The sessions that an engine has in memory, and the lock that lets one advance at a time."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from contextlib import AbstractAsyncContextManager

import attrs
import trio

from rainengine.core.abc import Clock, Ledger
from rainengine.core.engine._ledgers import Backing
from rainengine.core.engine._listening import Stop
from rainengine.core.engine._loading import load, take_for_new
from rainengine.core.engine._session import OpenSession
from rainengine.core.engine._tenure import Holder
from rainengine.core.records import Head, ProviderUsage

_MOST_UNUSED = 10_000
"""Of how many sessions that went from memory an unused reservation is remembered."""

_TAKEN: dict[tuple[int, str], trio.lowlevel.ParkingLot] = {}
"""The sessions that are advanced just now, and who waits for them: by ledger handle, as two
engines in one process may share one."""


_IN_USE: dict[tuple[int, str], OpenSession] = {}
"""What those who have the turn work with, whichever engine it is: they are told of news here."""


def turn(ledger: Ledger, session_id: str) -> AbstractAsyncContextManager[None]:
    """Wait for this process's turn on a session."""
    return _Turn((id(ledger), session_id))


def is_taken(ledger: Ledger, session_id: str) -> bool:
    """Whether somebody in this process has the turn on a session, or waits for it."""
    return (id(ledger), session_id) in _TAKEN


@attrs.define(eq=False)
class _Turn:
    """Holds a session's place in `_TAKEN`, in which those wait who come later."""

    _place: tuple[int, str]

    async def __aenter__(self) -> None:
        waiting = _TAKEN.get(self._place)
        if waiting is None:
            _TAKEN[self._place] = trio.lowlevel.ParkingLot()
        else:
            await waiting.park()

    async def __aexit__(self, *_: object) -> None:
        waiting = _TAKEN[self._place]
        if waiting:
            waiting.unpark()  # who takes the place over
        else:
            del _TAKEN[self._place]


@attrs.frozen
class _Unused:
    """A reservation whose call was not made when its session went from memory.

    It is unused for as long as nobody else has held the session: the fence is the same, or,
    where there is none, the head.
    """

    trigger_id: str
    reservation: ProviderUsage
    fence: int | None
    head: Head | None

    @classmethod
    def of(cls, session: OpenSession) -> _Unused | None:
        """What would be unused of a session as it stands."""
        run, fence = session.projection.run, session.tenure.fence
        if run is None or run.reservation is None:
            return None
        head = session.head if fence is None else None
        return cls(run.trigger_id, run.reservation, fence, head)


@attrs.define(eq=False)
class SessionCache:
    """The projections of recently used sessions; the least recently used one goes first.

    Of one that goes, it is remembered that a reservation was not used: nobody else knows.
    """

    backing: Backing
    holder: Holder
    clock: Clock
    limit: int
    _sessions: OrderedDict[str, OpenSession] = attrs.field(
        factory=OrderedDict[str, OpenSession], init=False
    )
    _unused: OrderedDict[str, _Unused] = attrs.field(factory=OrderedDict[str, _Unused], init=False)

    async def get(self, session_id: str, *, assume_new: bool = False) -> OpenSession:
        """Return the session, from memory or from the ledger. The caller has its turn.

        With `assume_new` one that is not in memory is taken for new, without reading.
        """
        session = self._sessions.pop(session_id, None)
        if session is None or session.stale:
            parts = self.backing, session_id, self.holder, self.clock
            session = take_for_new(*parts) if assume_new else self._recognised(await load(*parts))
        session.emitted, session.resumed = [], None
        _IN_USE[self._place(session_id)] = session
        return session

    def _recognised(self, session: OpenSession) -> OpenSession:
        known = self._unused.pop(session.session_id, None)
        session.reserved = known is not None and known == _Unused.of(session)
        return session

    async def look_at(self, session_id: str) -> OpenSession:
        """Load the session beside whoever has its turn, to read it and append intake only."""
        return await load(self.backing, session_id, self.holder, self.clock)

    async def let_go(self, session_id: str) -> None:
        """Give up the session's lease if this engine's owner has it. The caller has its turn."""
        leases, owner = self.backing.leases, self.holder.owner
        if leases is None:
            return
        known = self._sessions.get(session_id)
        if known is not None:
            await known.give_back()
            known.tenure.holding = False
        lease = await leases.lease_of(session_id)
        if lease.owner == owner:
            await leases.release(session_id, owner=owner, fence=lease.fence)

    def tell(self, session_id: str) -> None:
        """Have a remembered session look for news before its next step."""
        session = _IN_USE.get(self._place(session_id)) or self._sessions.get(session_id)
        if session is not None:
            session.tenure.told_of_news = True

    def tell_of_cancellation(self, session_id: str, stops: Iterable[Stop]) -> None:
        """Have a step that is under way let go of what it waits for, where it is to be stopped."""
        session = _IN_USE.get(self._place(session_id))
        if session is not None:
            for stop in stops:
                session.tell_of_cancellation(stop)

    def keep(self, session: OpenSession) -> None:
        """Remember a session after use, unless an append left it in doubt."""
        _IN_USE.pop(self._place(session.session_id), None)
        if session.stale or session.assumed_new:
            return
        self._sessions[session.session_id] = session
        while len(self._sessions) > self.limit:
            self._forget(self._sessions.pop(self._least_needed()))

    def _forget(self, session: OpenSession) -> None:
        unused = _Unused.of(session) if session.reserved else None
        if unused is None:
            return
        self._unused[session.session_id] = unused
        if len(self._unused) > _MOST_UNUSED:
            self._unused.popitem(last=False)

    def _place(self, session_id: str) -> tuple[int, str]:
        return id(self.backing.ledger), session_id

    def _least_needed(self) -> str:
        """The session used longest ago; one with an unused reservation only if all have one."""
        unreserved = (name for name, session in self._sessions.items() if not session.reserved)
        return next(unreserved, next(iter(self._sessions)))
