"""One step of one session: ask the kernel what is next, do that one thing, record it."""

from __future__ import annotations

from typing import TypeAlias

import attrs

from rainengine.core import telemetry
from rainengine.core.engine import _graphs as graphs
from rainengine.core.engine._answers import take_in
from rainengine.core.engine._closing import finish
from rainengine.core.engine._deciding import decide
from rainengine.core.engine._planning import broken_plan, next_of_plan, plan_at_start
from rainengine.core.engine._recalling import recall
from rainengine.core.engine._reservations import next_call
from rainengine.core.engine._services import Services, Step
from rainengine.core.engine._session import OpenSession
from rainengine.core.engine._unfollowed import UNSTORABLE, unfollowed
from rainengine.core.engine._waits import wait
from rainengine.core.kernel import (
    Activate,
    AskProvider,
    Close,
    Effect,
    Finish,
    Followed,
    FollowPlan,
    Idle,
    RunGraph,
    effective_policy,
    next_effect,
)
from rainengine.core.projection import Run, answered_token
from rainengine.core.records import EnginePolicy, OutcomeRecord, Record

_InRun: TypeAlias = Finish | RunGraph | FollowPlan | AskProvider


@attrs.frozen(eq=False)
class Stepper:
    """Takes steps with the services of one engine."""

    services: Services

    async def step(self, session: OpenSession) -> OutcomeRecord | None:
        """Move the session one step; return the outcome if its run ended or waits."""
        while True:
            effect, policy = self._next(session)
            if isinstance(effect, Idle):
                return None
            if isinstance(effect, Close):
                return await self._close(session, effect)
            if not isinstance(effect, Activate):
                return await self._perform(session, effect, policy)
            if answered_token(effect.run.trigger) is None:
                await self._activate(session, effect.run)
                continue
            taken = await take_in(self.services, session, effect.run)
            if taken.work is not None:
                return await self.services.heartbeats.during(session, taken.work)
            if taken.outcome is not None:
                return taken.outcome

    def begin(self, session: OpenSession, run: Run) -> list[Record]:
        """Return what follows from a trigger becoming the active run."""
        begun = self.services.intake.activation(run)
        if run.cancel_reason is not None:
            return begun
        begun += plan_at_start(self.services, session.projection, run)
        step = Step(self.services, session, run, self._policy(session, run))
        return [*begun, *next_call(step, begun)]

    def _next(self, session: OpenSession) -> tuple[Effect, EnginePolicy]:
        run = session.projection.run
        policy = EnginePolicy() if run is None else self._policy(session, run)
        effect = next_effect(
            session.projection,
            policy,
            self.services.clock.now_ms(),
            self.services.agent.profile,
            plans=self.services.asking_planner is not None,
        )
        return effect, policy

    def _policy(self, session: OpenSession, run: Run) -> EnginePolicy:
        self.services.intake.check_agent(run)
        return effective_policy(run.policy, session.projection.overlay)

    async def _activate(self, session: OpenSession, run: Run) -> None:
        self.services.intake.check_agent(run)
        await session.commit(self.begin(session, run), run=run)

    async def _close(self, session: OpenSession, effect: Close) -> OutcomeRecord | None:
        step = Step(self.services, session, effect.run, self._policy(session, effect.run))
        await session.claim()
        return await self.services.heartbeats.during(session, lambda: _end(step, effect.finish))

    async def _perform(
        self, session: OpenSession, effect: _InRun, policy: EnginePolicy
    ) -> OutcomeRecord | None:
        run = session.projection.run
        if run is None:
            return None
        telemetry.link(run.traceparent)
        await session.claim()
        step = Step(self.services, session, run, policy)
        return await self.services.heartbeats.during(session, lambda: _do(step, effect))


async def _do(step: Step, effect: _InRun) -> OutcomeRecord | None:
    if isinstance(effect, Finish):
        return await _end(step, effect)
    if isinstance(effect, RunGraph):
        return await graphs.resume(step)
    if isinstance(effect, FollowPlan):
        records, followed = next_of_plan(step, effect)
        return await _record(step, records, followed, effect.step)
    decided = await decide(step, effect)
    records = [*broken_plan(step.run), *decided.records]
    return await _record(step, records, decided.followed, decided.steps)


async def _end(step: Step, end: Finish) -> OutcomeRecord:
    found_out = await graphs.find_out(step)
    return await finish(step, [], end, steps=step.run.steps, found_out=found_out)


async def _record(
    step: Step, batch: list[Record], followed: Followed, number: int
) -> OutcomeRecord | None:
    """Append a decision together with what follows from it, and do that."""
    try:
        begun = await _append(step, batch, followed, number)
    except UNSTORABLE as error:
        instead = unfollowed(step, batch, number, error)
        if instead is None or step.session.stale:
            raise
        await step.commit([*instead, *next_call(step, instead, number=number + 1)])
        return None
    return await graphs.run(step, begun) if isinstance(begun, graphs.Begun) else begun


async def _append(
    step: Step, batch: list[Record], followed: Followed, number: int
) -> OutcomeRecord | graphs.Begun | None:
    if followed.finish is not None:
        return await finish(step, batch, followed.finish, steps=number, response=followed.response)
    if followed.waits is not None:
        return await wait(step, batch, followed.waits, number)
    if followed.graph is not None:
        return await graphs.begin(step, batch, followed.graph)
    if followed.search is not None:
        batch = [*batch, *await recall(step, number, followed.search)]
    await step.commit([*batch, *next_call(step, batch, number=number + 1)])
    return None
