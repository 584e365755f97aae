"""How an engine holds a session: its lease, its fence, and how fresh both of them are."""

from __future__ import annotations

import attrs

from rainengine.core.abc import Clock, Lease, LeaseChange, SessionLeases
from rainengine.core.errors import AppendUnknown, LedgerUnavailable
from rainengine.core.records import CoordinationClaim, Head


@attrs.frozen(kw_only=True)
class Holder:
    """Who holds sessions, and for how long at a time."""

    owner: str
    ttl_ms: int

    @property
    def beat_ms(self) -> int:
        """How often a lease is extended."""
        return max(self.ttl_ms // 3, 1)


@attrs.define(kw_only=True, eq=False)
class Tenure:
    """One session's lease as its engine knows it. `leases` is None where the ledger has none.

    `fence` is the newest one known, and this engine's own while it is `holding` the session.
    """

    session_id: str
    holder: Holder
    leases: SessionLeases | None
    clock: Clock
    fence: int | None = None
    holding: bool = False
    told_of_news: bool = False
    lease: Lease | None = None
    _extended_at_ms: int = attrs.field(default=0, init=False)

    async def look(self) -> Head | None:
        """Learn who holds the session; return the head that goes with it, if there are leases."""
        self.told_of_news = False
        if self.leases is None:
            return None
        self.lease = await self.leases.lease_of(self.session_id)
        self.holding = self.holding and self.fence == self.lease.fence
        self.fence = self.lease.fence
        return self.lease.head

    def may_be_behind(self) -> bool:
        """Whether others may have appended without this having been noticed.

        A holder learns of intake with its next append, so that steps that follow each other
        closely need no reading. After a pause, or when told of news, it looks first.
        """
        pause_ms = self.clock.now_ms() - self._extended_at_ms
        return not self.holding or self.told_of_news or not 0 <= pause_ms < self.holder.beat_ms

    @property
    def free(self) -> bool:
        """Whether nobody held the session when it was looked at, not even someone long gone."""
        return self.leases is None or (self.lease is not None and self.lease.owner is None)

    # With an append.

    def claim(self) -> CoordinationClaim | None:
        """Return the record of a run being taken over; None where there is nothing to take."""
        if self.holding or self.leases is None:
            return None
        previous = None if self.lease is None else self.lease.owner
        fence = (self.fence or 0) + 1
        return CoordinationClaim(
            owner=self.holder.owner, fence=fence, previous_owner=previous or ""
        )

    def change(self, *, final: bool) -> LeaseChange | None:
        """Return what an append does to the lease; after a `final` one there is nothing to hold."""
        if self.leases is None:
            return None
        if not self.holding:
            return LeaseChange("take", self.holder.owner, self.holder.ttl_ms)
        if final:
            return LeaseChange("free", self.holder.owner)
        return LeaseChange("extend", self.holder.owner, self.holder.ttl_ms)

    def changed(self, lease: LeaseChange | None, fence: int, at_ms: int, *, ends: bool) -> None:
        """Note what an append at this time did; without leases, one that `ends` a run frees."""
        self._extended_at_ms = at_ms
        if lease is None:
            self.holding = not ends
        else:
            self.fence, self.holding = fence, lease.action != "free"

    # Without one.

    def due_in_s(self) -> float:
        """In how many seconds the lease should be extended. At once if the clock was set back."""
        pause_ms = self.clock.now_ms() - self._extended_at_ms
        return max(self.holder.beat_ms - pause_ms, 0) / 1000 if pause_ms >= 0 else 0.0

    async def release(self) -> None:
        """Give the lease back, if this engine has it."""
        held, self.holding = self.holding, False
        if held and self.leases is not None and self.fence is not None:
            owner = self.holder.owner
            await self.leases.release(self.session_id, owner=owner, fence=self.fence)

    async def extend(self) -> Head | None:
        """Extend the lease; return the head, or None where nothing could be learnt.

        Raises `FenceLost`. A ledger that is away raises nothing: the next attempt may get
        through, and until then the fence keeps this safe.
        """
        began_ms = self.clock.now_ms()
        owner, ttl_ms = self.holder.owner, self.holder.ttl_ms
        try:
            if self.leases is None or self.fence is None or not self.holding:
                return None
            return await self.leases.heartbeat(
                self.session_id, owner=owner, fence=self.fence, ttl_ms=ttl_ms
            )
        except (LedgerUnavailable, AppendUnknown):
            return None
        finally:
            self._extended_at_ms = began_ms
