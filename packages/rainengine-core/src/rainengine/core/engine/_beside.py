"""What is done in a session beside whoever has its turn: triggers, cancellations, a look."""

from __future__ import annotations

import attrs

from rainengine.core.abc import Ledger
from rainengine.core.engine._busy import busy_policy
from rainengine.core.engine._intake import Intake
from rainengine.core.engine._repeating import Known
from rainengine.core.engine._requests import ContinueRequest, ProcessRequest, Submitted
from rainengine.core.engine._sessions import SessionCache, is_taken
from rainengine.core.errors import SequenceConflict, SessionNotFound
from rainengine.core.records import PendingApproval


@attrs.frozen(eq=False)
class Beside:
    """Appends intake, and tells a step of this process that is under way."""

    ledger: Ledger
    sessions: SessionCache
    intake: Intake

    async def submit(self, request: ProcessRequest) -> Submitted:
        """Make a trigger durable. Raises `RunOpen`, and what `Intake.submit` raises."""
        if not self.intake.has_to_look(request):
            return await self.intake.submit(request)
        while True:
            session = await self.sessions.look_at(request.session_id)
            try:
                submitted, stops = await self.intake.submit_after_looking(session, request)
            except SequenceConflict:
                continue
            self.sessions.tell_of_cancellation(request.session_id, stops)
            self.sessions.tell(request.session_id)
            return submitted

    async def cancel(self, session_id: str, reason: str, trigger_id: str | None) -> bool:
        """Have runs stopped; return whether there are any. Raises `SessionNotFound`."""
        while True:
            session = await self.sessions.look_at(session_id)
            if session.projection.sequence == 0:
                raise SessionNotFound(session_id)
            try:
                stops = await self.intake.cancel(session, reason, trigger_id)
            except SequenceConflict:
                continue
            self.sessions.tell_of_cancellation(session_id, stops)
            self.sessions.tell(session_id)
            return bool(stops)

    async def pending_approvals(self, session_id: str) -> tuple[PendingApproval, ...]:
        """Return what people are asked and can still answer. Raises `SessionNotFound`."""
        projection = (await self.sessions.look_at(session_id)).projection
        if projection.sequence == 0:
            raise SessionNotFound(session_id)
        now_ms = self.intake.clock.now_ms()
        runs = (p.run for p in projection.parked.values() if not p.is_late(now_ms))
        return tuple(
            run.pending for run in runs if run.pending is not None and run.cancel_reason is None
        )

    async def look_ahead(self, request: ProcessRequest | ContinueRequest) -> Known | None:
        """As `meet`, where this process takes a step in the session."""
        return await self.meet(request) if is_taken(self.ledger, request.session_id) else None

    async def meet(self, request: ProcessRequest | ContinueRequest) -> Known | None:
        """Have a message meet a session that somebody holds, without waiting for its turn.

        One that interrupts is brought in, and what is then known of it returned. Raises `RunOpen`
        where it is to be rejected.
        """
        if isinstance(request, ContinueRequest):
            return None
        busy = busy_policy(self.intake.agent.profile, request)
        if busy == "interrupt":
            return await self.intake.repeats.known_as(request, await self.submit(request))
        if busy == "reject":
            session = await self.sessions.look_at(request.session_id)
            await self.intake.stops_for(session.projection, request)
        return None
