"""One advance of a session that this process has the turn of: from a request to its result."""

from __future__ import annotations

import attrs

from rainengine.core.engine._deltas import delta_of, wake_of
from rainengine.core.engine._intake import Intake
from rainengine.core.engine._repeating import Known
from rainengine.core.engine._requests import (
    AdvanceResult,
    ContinueRequest,
    EngineOutcome,
    ProcessRequest,
)
from rainengine.core.engine._session import OpenSession, Outdated, Resumed
from rainengine.core.engine._steps import Stepper
from rainengine.core.errors import SessionNotFound
from rainengine.core.projection import left_over
from rainengine.core.records import OutcomeRecord


@attrs.frozen(eq=False)
class Advancer:
    """Takes requests in, and steps."""

    intake: Intake
    stepper: Stepper

    async def advance(
        self,
        session: OpenSession,
        request: ProcessRequest | ContinueRequest,
        submitted: Known | None,
    ) -> AdvanceResult:
        """Take the session's next step, for a request, or for one that was `submitted` already."""
        if session.tenure.holding and not self._is_next(session) and not await session.refresh():
            raise Outdated
        if isinstance(request, ContinueRequest):
            return await self._continue(session)
        accepted = submitted or await self.intake.accept(session, request, self.stepper.begin)
        if isinstance(accepted, Known):
            return await self._repeat(session, accepted)
        outcome = await self.stepper.step(session)
        return self._result(session, accepted, outcome)

    def _is_next(self, session: OpenSession) -> bool:
        """Whether the next run, as far as is known, is this engine's.

        If not, another engine of the same owner may have taken it on without this one's knowing.
        """
        run = session.projection.next_run(self.intake.clock.now_ms())
        return run is None or run.agent.name == self.intake.agent.name

    async def _continue(self, session: OpenSession) -> AdvanceResult:
        if session.tenure.may_be_behind() and not await session.refresh():
            raise Outdated
        projection = session.projection
        if projection.sequence == 0:
            raise SessionNotFound(session.session_id)
        run = projection.next_run(self.intake.clock.now_ms())
        if run is not None:
            outcome = await self.stepper.step(session)
            worked_on = run.trigger_id if outcome is None else outcome.trigger_id
            return self._result(session, worked_on, outcome)
        last = projection.last_outcome
        return AdvanceResult(
            session_id=session.session_id,
            trigger_id=None if last is None else last.trigger_id,
            outcome=None if last is None else EngineOutcome.of(last, replay=True),
            idle=True,
        )

    async def _repeat(self, session: OpenSession, known: Known) -> AdvanceResult:
        """Answer a request whose idempotency key was used before."""
        record = await self.intake.repeats.outcome_to_repeat(session, known)
        if record is not None:
            return AdvanceResult(
                session_id=session.session_id,
                trigger_id=record.trigger_id,
                answer_id=known.trigger_id if record.trigger_id != known.trigger_id else None,
                outcome=EngineOutcome.of(record, replay=True),
            )
        if known.resumes is not None and not session.projection.has_open(known.trigger_id):
            session.resumed = Resumed(known.trigger_id, known.resumes)
        outcome = await self.stepper.step(session)
        return self._result(session, known.trigger_id, outcome)

    def _result(
        self, session: OpenSession, trigger_id: str, outcome: OutcomeRecord | None
    ) -> AdvanceResult:
        session.offer_snapshot()
        events, resumed = tuple(session.emitted), session.resumed
        if resumed is not None and resumed.answer_id == trigger_id:
            trigger_id = resumed.trigger_id
        return AdvanceResult(
            session_id=session.session_id,
            trigger_id=trigger_id,
            answer_id=None if resumed is None else resumed.answer_id,
            outcome=None if outcome is None else EngineOutcome.of(outcome),
            emitted_events=events,
            state_delta=delta_of(events),
            wake_request=wake_of(events),
            waiting=left_over(session.projection),
        )
