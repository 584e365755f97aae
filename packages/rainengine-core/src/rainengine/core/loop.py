"""Conveniences around the engine: advancing until a run is over."""

from __future__ import annotations

import attrs

from rainengine.core.engine import (
    AdvanceResult,
    AgentEngine,
    ContinueRequest,
    EngineOutcome,
    ProcessRequest,
)
from rainengine.core.errors import SessionNotFound
from rainengine.core.records import OutcomeRecord, TriggerRecord


@attrs.frozen(kw_only=True)
class RunResult:
    """How a run ended, and how many advances that took."""

    advances: int
    outcome: EngineOutcome

    @property
    def response(self) -> str | None:
        """What the agent answered, if it did."""
        return self.outcome.response


async def run_until_terminal(
    engine: AgentEngine, request: ProcessRequest | ContinueRequest
) -> RunResult:
    """Advance a session until the request's run has an outcome, and return it.

    A run always ends: every step counts towards `max_steps`, and time towards the deadline.
    Runs that are ahead of it in the session are finished on the way.
    Raises what `AgentEngine.advance` raises.
    """
    result = await engine.advance(request)
    advances = 1
    wanted = result.trigger_id
    while result.outcome is None or result.outcome.trigger_id != wanted:
        if result.idle:
            return RunResult(advances=advances, outcome=await _find(engine, result, wanted))
        result = await engine.advance(ContinueRequest(session_id=request.session_id))
        advances += 1
        if result.answer_id == wanted and result.answer_id is not None:
            wanted = result.trigger_id
    return RunResult(advances=advances, outcome=result.outcome)


async def _find(engine: AgentEngine, idle: AdvanceResult, wanted: str | None) -> EngineOutcome:
    """Find the outcome of a run that somebody else ended, and more runs after it.

    Of an answer it is that of the run that it resumed, unless the answer was refused.
    """
    own: OutcomeRecord | None = None
    of_resumed: OutcomeRecord | None = None
    resumed: str | None = None
    after = 0
    while page := await engine.ledger.read(idle.session_id, after=after):
        for record in (entry.record for entry in page):
            if isinstance(record, TriggerRecord) and record.trigger_id == wanted:
                resumed = record.resumes
            elif isinstance(record, OutcomeRecord) and record.trigger_id == wanted:
                own = record
            elif isinstance(record, OutcomeRecord) and record.trigger_id == resumed:
                of_resumed = record
        after = page[-1].sequence
    found = own or of_resumed
    if found is None:
        raise SessionNotFound(idle.session_id)
    return EngineOutcome.of(found, replay=True)
