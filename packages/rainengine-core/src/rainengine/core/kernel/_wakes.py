"""Wakes: which are due, and which may be scheduled."""

from __future__ import annotations

from collections.abc import Collection

from rainengine.core.errors import WakeRefusal
from rainengine.core.projection import SessionProjection, Wake
from rainengine.core.records import ScheduledWake, WakePolicy


def due_wakes(projection: SessionProjection, now_ms: int) -> tuple[Wake, ...]:
    """Return the wakes whose time has come, the oldest first."""
    due = (wake for wake in projection.world.wakes.values() if wake.due_at_ms <= now_ms)
    return tuple(sorted(due, key=lambda wake: (wake.due_at_ms, wake.wake_id)))


def wake_refusal(
    projection: SessionProjection,
    policy: WakePolicy,
    wake_id: str,
    *,
    more: Collection[str] = (),
) -> WakeRefusal | None:
    """Return why a wake may not be scheduled, or None. One that is pending may be moved.

    `more` are wakes that will be pending besides those that are.
    """
    wakes = {*projection.world.wakes, *more}
    if not policy.allow_scheduled_wakes:
        return "not_allowed"
    if wake_id in wakes:
        return None
    if _is_running(projection, wake_id):
        return "fired"
    return "too_many" if len(wakes) >= policy.max_pending_wakes else None


def _is_running(projection: SessionProjection, wake_id: str) -> bool:
    triggers = (run.trigger for run in (projection.run, *projection.queue) if run is not None)
    return any(
        isinstance(trigger, ScheduledWake) and trigger.wake_id == wake_id for trigger in triggers
    )
