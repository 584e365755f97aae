"""Finding what is due, a few sessions of every tenant at a time.

Theory. The store lists due sessions by tenant and session id, all tenants in one list.
Read from its start, page by page, a tenant with 100,000 of them would hide all tenants after it.
So a round takes the list a page at a time and, where a page ends within a tenant, jumps to the
next one. What was jumped over is not lost: for each such tenant a mark is kept, and its next visit
goes on from there. So each tenant is visited once a round, and each of its sessions is looked at
after as many rounds as it has pages. A round that is broken off, as there is no room for more,
goes on at the same place.

A round of more than one page begins at a random tenant, so that workers do not all walk the same
way, and what is found is handed out in random order.

Rejected: walking on from where the last scan ended (a tenant would wait for all before it);
one query a tenant (most have nothing due); a random session id to begin at (ids are not evenly
spread).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence

import attrs

from rainengine.core.abc import DuePosition, DueSession, WorkKind, WorkQueue

_MARKS = 1_000
_STARTS = 1_000


@attrs.define(eq=False, kw_only=True)
class Scanner:
    """Goes round what is due of one kind. `now_ms` gives the time to judge by, or None."""

    queue: WorkQueue
    kind: WorkKind
    page_size: int
    fraction: Callable[[], float]
    now_ms: Callable[[], int | None]
    _position: DuePosition | None = attrs.field(default=None, init=False)
    _start: str | None = attrs.field(default=None, init=False)
    _wrapped: bool = attrs.field(default=False, init=False)
    _over: bool = attrs.field(default=True, init=False)
    _seen: list[str] = attrs.field(factory=list[str], init=False)
    _marks: OrderedDict[str, str] = attrs.field(factory=OrderedDict[str, str], init=False)

    def begin(self) -> None:
        """Begin a round, somewhere among the tenants of the last one."""
        seen, self._seen = self._seen, []
        self._start = seen[int(self.fraction() * len(seen))] if len(seen) > 1 else None
        self._position = None if self._start is None else (self._start, None)
        self._wrapped = self._over = False

    async def next_page(self) -> Sequence[DueSession] | None:
        """Return due sessions of the next tenants, in random order; None where no round is on."""
        if self._over:
            return None
        page = await self.page(self._position)
        found = await self._continued(page) if len(page) == self.page_size else list(page)
        self._move_on(page)
        return self.shuffled(found)

    async def page(self, after: DuePosition | None) -> Sequence[DueSession]:
        """Return a page of what is due as the store lists it."""
        return await self.queue.due(
            self.kind, now_ms=self.now_ms(), after=after, limit=self.page_size
        )

    def shuffled(self, sessions: Sequence[DueSession]) -> list[DueSession]:
        """Return the sessions in random order."""
        return sorted(sessions, key=lambda _: self.fraction())

    def _move_on(self, page: Sequence[DueSession]) -> None:
        if len(page) == self.page_size:
            last = page[-1].tenant
            self._position = (last, None)
            self._over = self._wrapped and self._start is not None and last >= self._start
            self._seen = [*self._seen, last][:_STARTS]
        elif self._start is None or self._wrapped:
            self._over = True
        else:
            self._position, self._wrapped = None, True

    async def _continued(self, page: Sequence[DueSession]) -> list[DueSession]:
        """Return a full page, its last tenant's part from where the last visit ended."""
        tenant = page[-1].tenant
        others = [session for session in page if session.tenant != tenant]
        mark = self._marks.pop(tenant, None)
        rest: Sequence[DueSession] = ()
        if mark is not None:
            further = await self.page((tenant, mark))
            rest = [session for session in further if session.tenant == tenant]
        rest = rest or [session for session in page if session.tenant == tenant]
        self._marks[tenant] = rest[-1].session_id
        while len(self._marks) > _MARKS:
            self._marks.popitem(last=False)
        return [*others, *rest]
