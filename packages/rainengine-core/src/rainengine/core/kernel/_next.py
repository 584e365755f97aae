"""What to do next: the heart of the kernel, as a pure function of the projection."""

from __future__ import annotations

from typing import TypeAlias

import attrs

from rainengine.core.kernel._gates import GATES, GRAPH_GATES, Finish, closed_gate
from rainengine.core.projection import Run, SessionProjection
from rainengine.core.records import EnginePolicy


@attrs.frozen
class Idle:
    """Effect: nothing; no run is open and no trigger waits."""


@attrs.frozen
class Activate:
    """Effect: begin the oldest waiting trigger."""

    run: Run


@attrs.frozen
class RunGraph:
    """Effect: carry the open tool graph to its end."""

    run: Run


@attrs.frozen
class AskProvider:
    """Effect: ask the model what to do in this step."""

    run: Run
    step: int


Effect: TypeAlias = Idle | Activate | Finish | RunGraph | AskProvider


def next_effect(projection: SessionProjection, policy: EnginePolicy, now_ms: int) -> Effect:
    """Decide the session's next effect. `policy` is the active run's effective policy."""
    run = projection.run
    if run is None:
        return Activate(projection.queue[0]) if projection.queue else Idle()
    gates = GATES if run.graph is None else GRAPH_GATES
    finish = closed_gate(gates, run, projection, policy, now_ms)
    if finish is not None:
        return finish
    return RunGraph(run) if run.graph is not None else AskProvider(run, run.steps + 1)
