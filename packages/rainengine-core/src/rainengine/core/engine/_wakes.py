"""Wakes: scheduling them, and bringing in those whose time has come; ending waits that are over.

- A wake id is used once in a session. Its trigger comes in under the key `wake:ID`, so however
  many workers find it due, it fires once. Such keys are the engine's alone: a request under one
  would silence the wake.
- Its trigger is intake: it is stored at once, also while somebody works on the session.
- With the trigger the wake is pending no longer, and the session's row says when the next is due.
  That holds only for the wakes that were looked at, so the append names the head they were seen at.
  Beside a holder who appends all the time the head is given up and the row is left as it is:
  workers then look once more in vain, until the wake's run has begun.
- A wake that a run asks for lets its own run do no more than that run: its scopes and no others,
  the policy of its request, and its requester. A run that was delegated may not ask: what it does
  later would be in no budget of its parent's, and go on when the parent has called it off.
- A run that waited for a person until its token expired is called off in the same append, by a
  request to cancel it; the session's row says when that is due as it does for wakes.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import attrs

from rainengine.core import codec
from rainengine.core.abc import SessionIndex
from rainengine.core.engine._intake import Intake, checked_scopes
from rainengine.core.engine._ledgers import Backing
from rainengine.core.engine._requests import WAKE_KEYS, Agent, ProcessRequest, Submitted
from rainengine.core.engine._session import OpenSession, Outdated
from rainengine.core.errors import (
    AgentMismatch,
    DuplicateTrigger,
    SequenceConflict,
    WakeRefused,
)
from rainengine.core.kernel import due_wakes, end_of_wait, wake_refusal
from rainengine.core.projection import Run, Wake, next_expiry_ms
from rainengine.core.records import (
    CancelRequest,
    KernelEventRecord,
    NewRecord,
    ScheduledWake,
    WakeScheduled,
)

_LATEST_MS = 2**53
_TRIES_AT_HEAD = 3


def key_of(wake_id: str) -> str:
    """The idempotency key under which a wake fires."""
    return f"{WAKE_KEYS}{wake_id}"


def admitted(wake: WakeScheduled) -> WakeScheduled:
    """Return the wake if it can be stored and fire. Raises `InadmissibleValue`."""
    codec.check_identifier("wake_id", wake.wake_id)
    codec.check_identifier("wake_id", key_of(wake.wake_id))
    codec.check_integer("due_at_ms", wake.due_at_ms, 1, _LATEST_MS)
    checked_scopes(wake.granted_scopes)
    return wake


@attrs.frozen(kw_only=True, eq=False)
class Wakes:
    """Schedules and fires the wakes of one agent."""

    backing: Backing
    agent: Agent
    intake: Intake

    def event(
        self, wake_id: str | None, due_at_ms: int, reason: str, granted_scopes: Collection[str]
    ) -> WakeScheduled:
        """Make the event of a wake, under a new id if it has none. Raises `InadmissibleValue`."""
        wake_id = self.intake.ids.new_id() if wake_id is None else wake_id
        return admitted(
            WakeScheduled(
                wake_id=wake_id,
                due_at_ms=due_at_ms,
                reason=reason,
                granted_scopes=tuple(dict.fromkeys(checked_scopes(granted_scopes))),
                agent=self.agent.name,
            )
        )

    async def schedule(self, session: OpenSession, wake: WakeScheduled) -> None:
        """Record a wake, unless it is there. Raises `WakeRefused` and what `note` raises."""
        if session.tenure.may_be_behind() and not await session.refresh():
            raise Outdated
        pending = session.projection.world.wakes.get(wake.wake_id)
        if pending is not None and _is_same(pending, wake):
            return
        await self._check(session, wake.wake_id)
        await session.note(KernelEventRecord(wake))

    async def _check(self, session: OpenSession, wake_id: str) -> None:
        reason = wake_refusal(session.projection, self.agent.profile.wake, wake_id)
        if reason is None and wake_id not in session.projection.world.wakes:
            ended = await self.backing.ledger.find_outcome(session.session_id, key_of(wake_id))
            reason = None if ended is None else "fired"
        if reason is not None:
            raise WakeRefused(session.session_id, wake_id, reason)

    async def fire(self, session: OpenSession, now_ms: int) -> tuple[Submitted, ...]:
        """Store the triggers of this agent's wakes that are due, and call off what is overdue.

        Raises `AgentMismatch` where only other agents' wakes are due, and `Outdated`.
        """
        spent: set[str] = set()
        conflicts = 0
        while True:
            if session.tenure.may_be_behind() and not await session.refresh():
                raise Outdated
            overdue = session.projection.overdue(now_ms)
            due = self._due(session, now_ms, spent, alone=not overdue)
            if not due and not overdue:
                return ()
            try:
                at_head = conflicts < _TRIES_AT_HEAD
                return await self._bring_in(session, due, overdue, spent, at_head=at_head)
            except SequenceConflict:
                conflicts += 1
            except DuplicateTrigger as duplicate:
                # Fired by somebody else just now, which a second look will show;
                # or long ago, and scheduled again by records that did not come from here.
                spent.add(duplicate.idempotency_key)
            session.tenure.told_of_news = True

    def _due(
        self, session: OpenSession, now_ms: int, spent: Collection[str], *, alone: bool
    ) -> list[Wake]:
        """Return this agent's wakes; where they are `alone`, there have to be some."""
        due = due_wakes(session.projection, now_ms)
        due = tuple(wake for wake in due if key_of(wake.wake_id) not in spent)
        mine = [wake for wake in due if wake.agent in (None, self.agent.name)]
        if due and not mine and alone:
            raise AgentMismatch(due[0].agent or "", self.agent.name)
        return mine

    async def _bring_in(
        self,
        session: OpenSession,
        due: Sequence[Wake],
        overdue: Sequence[Run],
        spent: set[str],
        *,
        at_head: bool,
    ) -> tuple[Submitted, ...]:
        triggers = [self._trigger(session, wake) for wake in due]
        called_off = [self._end_of_wait(run) for run in overdue]
        fired = spent | {key_of(wake.wake_id) for wake in due}
        next_ms = _next_due_ms(session, fired, overdue) if at_head else None
        agent = self.agent.name if due else overdue[0].agent.name
        appended = await self.backing.ledger.append(
            session.session_id,
            [*triggers, *called_off],
            expected=session.head if at_head else None,
            index=SessionIndex(state="running", agent=agent, wake_due_at_ms=next_ms),
        )
        session.tenure.told_of_news = True
        return tuple(
            Submitted(
                session_id=session.session_id,
                trigger_id=trigger.trigger_id or "",
                sequence=sequence,
                duplicate=False,
            )
            for sequence, trigger in enumerate(triggers, start=appended.first_sequence)
        )

    def _trigger(self, session: OpenSession, wake: Wake) -> NewRecord:
        record = self.intake.record_of(
            ProcessRequest(
                session_id=session.session_id,
                trigger=ScheduledWake(
                    wake_id=wake.wake_id, due_at_ms=wake.due_at_ms, reason=wake.reason
                ),
                granted_scopes=wake.granted_scopes,
                policy=None if wake.asked_by is None else wake.asked_by.policy,
            ),
            wake.asked_by,
        )
        now_ms = self.intake.clock.now_ms()
        return NewRecord(record, now_ms, record.trigger_id, key_of(wake.wake_id))

    def _end_of_wait(self, run: Run) -> NewRecord:
        request = CancelRequest(reason=end_of_wait(run), trigger_id=run.trigger_id)
        return NewRecord(request, self.intake.clock.now_ms(), run.trigger_id)


def _is_same(pending: Wake, wake: WakeScheduled) -> bool:
    return pending == Wake(
        wake_id=wake.wake_id,
        due_at_ms=wake.due_at_ms,
        reason=wake.reason,
        scheduled=True,
        granted_scopes=wake.granted_scopes,
        agent=wake.agent,
        asked_by=wake.asked_by,
    )


def _next_due_ms(session: OpenSession, fired: Collection[str], overdue: Sequence[Run]) -> int:
    """When the next wake is due, or a wait over; 0 where none is left."""
    wakes = session.projection.world.wakes.values()
    times: list[int] = [wake.due_at_ms for wake in wakes if key_of(wake.wake_id) not in fired]
    parked = session.projection.parked.values()
    over = {run.trigger_id for run in overdue}
    expiry_ms = next_expiry_ms(one for one in parked if one.run.trigger_id not in over)
    if expiry_ms is not None:
        times.append(expiry_ms)
    return min(times, default=0)
