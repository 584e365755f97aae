"""One kind of work: finding sessions, working on so many at once, and resting in between.

- A session is in one place only: waiting, or under way.
- So many are taken as can be under way twice over. They are not leased while they wait, so other
  workers may take them first; then there is nothing left to do and the next one begins.
- Where there was more than could be taken, the lane looks again as soon as nobody waits, provided
  that something came of it. What turned out to be somebody else's business waits for the poll.
- A session with more to do goes to the back of those that wait; where more are due than could be
  taken it is given back instead, and found again in its turn.
- An error of one session has that session rest. An error of the ledger has the whole shift rest.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Literal, TypeAlias

import attrs
import trio

from rainengine.core.abc import DueSession
from rainengine.core.errors import (
    AppendUnknown,
    FenceLost,
    LeaseHeld,
    LedgerBusy,
    LedgerError,
    LedgerUnavailable,
    SessionBusy,
    SessionNotFound,
    TransactionTimeout,
)
from rainengine.core.records import RetryPolicy
from rainengine.runtime._engines import NoEngine
from rainengine.runtime._patience import Key, Resting, key_of
from rainengine.runtime._scanning import Scanner
from rainengine.runtime._shift import Bell, Shift
from rainengine.runtime._waiting import WaitingLine

Verdict: TypeAlias = Literal["done", "again", "nothing"]
"""What came of working on a session: all is done, or there is more, or there was nothing to do."""

ELSEWHERE = (SessionBusy, LeaseHeld, FenceLost, SessionNotFound)
"""Somebody else has the session, or it is gone."""

OCCUPIED = (LedgerBusy, TransactionTimeout)
"""The ledger does not get to this session: somebody keeps it locked, or it takes too long."""

AWAY = (LedgerUnavailable, AppendUnknown)
"""The ledger is away, unless it is `OCCUPIED`."""


@attrs.define(eq=False, kw_only=True)
class Lane:
    """Does one kind of work, for `settings.max_concurrent` sessions at once.

    `work` works on a session; `let_go` gives it back when there is more to do but no time.
    `later` says of sessions whether they are to be taken last.
    """

    scanner: Scanner
    shift: Shift
    resting: Resting
    work: Callable[[DueSession], Awaitable[Verdict]]
    let_go: Callable[[DueSession], Awaitable[None]]
    later: Callable[[DueSession], bool]
    under_way: int = attrs.field(default=0, init=False)
    _picked: list[DueSession] = attrs.field(factory=list[DueSession], init=False)
    _line: WaitingLine = attrs.field(factory=WaitingLine, init=False)
    _known: set[Key] = attrs.field(factory=set[Key], init=False)
    _progress: bool = attrs.field(default=False, init=False)
    _more: bool = attrs.field(default=False, init=False)
    _nursery: trio.Nursery | None = attrs.field(default=None, init=False)
    _nudge: Bell = attrs.field(init=False)
    _ended: Bell = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._nudge, self._ended = self.shift.bell(), self.shift.bell()

    # Round after round.

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Look for work and do it, until the shift ends."""
        async with trio.open_nursery() as self._nursery:
            task_status.started()
            while not self.shift.ending:
                self._begin_waiting()
                self._more = await self._look()
                await self._rest()
            await self._give_back()

    async def _look(self) -> bool:
        """Take what is due; return whether there was more than could be taken."""
        try:
            return await self._take_rounds()
        except LedgerError as error:
            self.shift.notice(error, asking=True)
            return False

    async def _take_rounds(self) -> bool:
        """Go on with the round, and with new ones, until there is no room or nothing to take."""
        self._progress = False
        room, whole = self._room, False
        taken = self._take_picked(room)
        while taken < room:
            page = await self.scanner.next_page()
            if page is not None:
                self.shift.outage.over(asking=True)
                self._picked = self._pick(page)
                taken += self._take_picked(room - taken)
            elif whole and not taken:
                return False
            else:
                self.scanner.begin()
                room, taken, whole = room - taken, 0, True
        return True

    def _take_picked(self, room: int) -> int:
        """Take as many as that; return how many. The others come first the next time."""
        eligible = [session for session in self._picked if self._is_eligible(session)]
        chosen, self._picked = eligible[: max(room, 0)], eligible[max(room, 0) :]
        self._take(chosen)
        return len(chosen)

    @property
    def _room(self) -> int:
        return 2 * self.shift.settings.max_concurrent - len(self._known)

    def _pick(self, page: Sequence[DueSession]) -> list[DueSession]:
        """Pick a few of each tenant."""
        share = self.shift.settings.sessions_per_tenant
        counts: Counter[str] = Counter()
        picked: list[DueSession] = []
        for session in sorted(filter(self._is_eligible, page), key=self.later):
            counts[session.tenant] += 1
            if counts[session.tenant] <= share:
                picked.append(session)
        return picked

    @property
    def _has_place(self) -> bool:
        """Whether a session that has more to do may wait here for its next turn."""
        crowded = self._more and self.shift.outage.error is None
        return not (crowded or self.shift.ending)

    def _is_eligible(self, session: DueSession) -> bool:
        key = key_of(session)
        return key not in self._known and not self.resting.has(key)

    async def _rest(self) -> None:
        poll_s = self.shift.settings.poll_interval_s * (1 + self.shift.fraction()) / 2
        if self._more:
            await self._until_nobody_waits(poll_s)
        else:
            await self._nudge.heard(poll_s)
        while self.shift.outage.left_s and not self.shift.ending:
            await self._nudge.heard(self.shift.outage.left_s)

    async def _until_nobody_waits(self, poll_s: float) -> None:
        """Return when more can be taken; where nothing comes of it, with the next poll."""
        with trio.move_on_after(poll_s):
            while (self._line or not self._progress) and not self.shift.ending:
                await self._ended.heard()

    async def _give_back(self) -> None:
        while self._line:
            await self._let_go(self._line.pop())

    # One pass.

    async def sweep(self) -> None:
        """Do all that is due now, and come back."""
        async with trio.open_nursery() as self._nursery:
            try:
                await self._take_everything()
            except LedgerError as error:
                self.shift.notice(error, asking=True)
        await self._give_back()

    async def _take_everything(self) -> None:
        page: Sequence[DueSession] | None = await self.scanner.page(None)
        while page:
            for session in self.scanner.shuffled(page):
                while self._room <= 0:
                    await self._ended.heard()
                if self.shift.ending:
                    return
                self.offer(session)
            last, full = page[-1], len(page) == self.scanner.page_size
            page = await self.scanner.page((last.tenant, last.session_id)) if full else None

    # Working.

    def offer(self, session: DueSession) -> None:
        """Take a session that is due, if it is not at work already and there is room for it."""
        if self._nursery is not None and self._room > 0 and self._is_eligible(session):
            self._take([session])

    def nudge(self) -> None:
        """Look for work now."""
        self._nudge.ring()

    def _take(self, sessions: Sequence[DueSession]) -> None:
        for session in sessions:
            self._known.add(key_of(session))
            self._line.push(session)
        self._begin_waiting()

    def _begin_waiting(self) -> None:
        """Begin with sessions that wait, as many as there is a place for."""
        shift = self.shift
        while self._line and self.under_way < shift.settings.max_concurrent:
            if self._nursery is None or shift.ending or shift.outage.left_s:
                return
            self.under_way += 1
            self._nursery.start_soon(self._serve, self._line.pop())

    async def _serve(self, session: DueSession) -> None:
        try:
            verdict = await self._attempt(session)
            stays = verdict == "again" and self._has_place
            if verdict == "again" and not stays:
                await self._let_go(session)
        finally:
            self.under_way -= 1
            self._known.discard(key_of(session))
        self._progress |= verdict != "nothing"
        self._take([session] if stays else [])
        self._ended.ring()

    async def _let_go(self, session: DueSession) -> None:
        self._known.discard(key_of(session))
        with suppress(LedgerError):  # its lease will run out
            await self.let_go(session)

    async def _attempt(self, session: DueSession) -> Verdict:
        try:
            verdict = await self.work(session)
        except OCCUPIED:
            self.shift.counts.busy += 1
            self._rest_briefly(session)
        except AWAY as error:
            self.shift.notice(error)
            return "again"
        except ELSEWHERE:
            self.shift.counts.busy += 1
            self._rest_briefly(session)
        except NoEngine as absence:
            self._rest_for_agent(session, absence.agent)
        except Exception as error:  # noqa: BLE001  # whatever a session does, others go on
            self._rest_after(session, error)
        else:
            return self._judged(session, verdict)
        return "nothing"

    def _judged(self, session: DueSession, verdict: Verdict) -> Verdict:
        if verdict == "nothing":
            self._rest_up_to(self.shift.settings.agent_retry_s, session)
        else:
            self.shift.outage.over(asking=False)
            self.resting.settled(key_of(session))
        return verdict

    def _rest_briefly(self, session: DueSession) -> None:
        """Others have it: look again soon, as they may die."""
        self._rest_up_to(4 * self.shift.settings.poll_interval_s, session)

    def _rest_up_to(self, longest_s: float, session: DueSession) -> None:
        policy = _doubling(self.shift.settings.poll_interval_s, longest_s)
        self.resting.rest(key_of(session), policy)

    def _rest_for_agent(self, session: DueSession, agent: str) -> None:
        retry_s = self.shift.settings.agent_retry_s
        self.resting.rest(key_of(session), _doubling(retry_s, retry_s), agent=agent)

    def _rest_after(self, session: DueSession, error: Exception) -> None:
        self.shift.counts.errors += 1
        self.shift.report(session, error)
        self.resting.rest(key_of(session), self.shift.settings.session_retry, failed=True)


def _doubling(first_s: float, longest_s: float) -> RetryPolicy:
    return RetryPolicy(
        initial_interval_ms=round(first_s * 1000), max_interval_ms=round(longest_s * 1000)
    )
