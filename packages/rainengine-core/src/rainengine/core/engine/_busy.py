"""What becomes of a message while a run is open, and which runs a cancellation is for."""

from __future__ import annotations

from typing import cast

from rainengine.core.engine._listening import Stop
from rainengine.core.engine._requests import ProcessRequest
from rainengine.core.kernel import REASON_CHARACTERS
from rainengine.core.projection import SessionProjection, answered_token
from rainengine.core.records import AgentProfile, BusyPolicy, HumanInput, Message

INTERRUPTED = "interrupted by a newer message"


def busy_policy(profile: AgentProfile, request: ProcessRequest) -> BusyPolicy:
    """How a request meets an open run; only messages from people do not always queue."""
    from_people = isinstance(request.trigger, Message | HumanInput)
    return profile.busy if from_people else "queue"


def is_busy(projection: SessionProjection) -> bool:
    """Whether a run is active or waits for its turn; those that wait for answers do not count."""
    return projection.run is not None or bool(projection.queue)


def interruptions(projection: SessionProjection) -> tuple[Stop, ...]:
    """What a message stops that interrupts: the active run, and messages that wait before it."""
    waiting = [run for run in projection.queue if isinstance(run.trigger, Message | HumanInput)]
    active = [] if projection.run is None else [projection.run]
    fresh = (run for run in (*active, *waiting) if run.cancel_reason is None)
    return tuple(Stop(run.trigger_id, INTERRUPTED) for run in fresh)


def cancellations(
    projection: SessionProjection, reason: str, trigger_id: str | None
) -> tuple[Stop, ...]:
    """What a cancellation stops: the run of this trigger, or else whichever comes first.

    Where none is active nor waits for its turn, it is all that wait for answers. A long reason is
    cut, as the records that end a run repeat it.
    """
    parked = [waiting.run.trigger_id for waiting in projection.parked.values()]
    begun = [] if projection.run is None else [projection.run.trigger_id]
    begun += [r.trigger_id for r in projection.queue if answered_token(r.trigger) is None]
    meant = begun[:1] or parked
    if trigger_id is not None:
        answered = _run_behind(projection, trigger_id)
        meant = [run_id for run_id in (*begun, *parked) if run_id in (trigger_id, answered)]
    if isinstance(cast(object, reason), str):  # anything else is for the admission rule to refuse
        reason = reason[:REASON_CHARACTERS]
    return tuple(Stop(run_id, reason) for run_id in meant)


def _run_behind(projection: SessionProjection, trigger_id: str) -> str | None:
    """The run that is answered to by this trigger, if it is an answer that waits for its turn."""
    for answer in projection.queue:
        parked = projection.parked.get(answered_token(answer.trigger) or "")
        if answer.trigger_id == trigger_id and parked is not None:
            return parked.run.trigger_id
    return None
