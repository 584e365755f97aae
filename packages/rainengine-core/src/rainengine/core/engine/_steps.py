"""One step of one session: ask the kernel what is next, do that one thing, record it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial

import attrs

from rainengine.core import telemetry
from rainengine.core.abc import (
    AnySkill,
    Clock,
    IdSource,
    LlmProvider,
    ProviderDecision,
    ProviderRequest,
    SkillContext,
    StepContext,
)
from rainengine.core.engine import _asking as asking
from rainengine.core.engine._heartbeats import Heartbeats
from rainengine.core.engine._intake import Intake
from rainengine.core.engine._nurseries import in_nursery
from rainengine.core.engine._requests import Agent
from rainengine.core.engine._session import OpenSession
from rainengine.core.engine._transactions import transact
from rainengine.core.errors import ProviderError
from rainengine.core.kernel import (
    Activate,
    AskProvider,
    ContextBuilder,
    Finish,
    Followed,
    Idle,
    RunGraph,
    closing_records,
    complaint,
    deadline_ms,
    effective_policy,
    follow,
    newest,
    next_effect,
    offered_skills,
    progress,
)
from rainengine.core.projection import Graph, Run, new_graph
from rainengine.core.records import (
    ContextManifest,
    EnginePolicy,
    ModelDecision,
    OutcomeRecord,
    ProviderUsage,
    Record,
    SkillInputValidation,
    ToolExecutionGraph,
)
from rainengine.core.tools import Caller, GraphRunner, Inspection, Inspector


@attrs.frozen(kw_only=True, eq=False)
class Stepper:
    """Takes steps with the services of one engine."""

    agent: Agent
    provider: LlmProvider
    skills: Mapping[str, AnySkill]
    intake: Intake
    build_context: ContextBuilder
    clock: Clock
    ids: IdSource
    heartbeats: Heartbeats = attrs.field(factory=Heartbeats, init=False)

    async def step(self, session: OpenSession) -> OutcomeRecord | None:
        """Move the session one step; return the outcome if its run ended."""
        while True:
            run = session.projection.run
            policy = EnginePolicy() if run is None else self._policy(session, run)
            effect = next_effect(session.projection, policy, self.clock.now_ms())
            if run is not None and not isinstance(effect, Idle | Activate):
                return await _Step(self, session, run, policy).perform(effect)
            if not isinstance(effect, Activate):
                return None
            self.intake.check_agent(effect.run)
            batch = self.intake.activation(effect.run)
            await session.commit(batch, trigger_id=effect.run.trigger_id)

    def _policy(self, session: OpenSession, run: Run) -> EnginePolicy:
        self.intake.check_agent(run)
        return effective_policy(run.policy, session.projection.overlay)


@attrs.frozen
class _Begun:
    """A graph whose first calls are recorded as started, but not yet made."""

    inspection: Inspection
    starts: Sequence[str]


@attrs.define(eq=False)
class _Step:
    """A step of an active run."""

    services: Stepper
    session: OpenSession
    run: Run
    policy: EnginePolicy

    async def perform(self, effect: Finish | RunGraph | AskProvider) -> OutcomeRecord | None:
        telemetry.link(self.run.traceparent)
        await self.session.claim()
        if isinstance(effect, Finish):
            return await self._finish([], effect, steps=self.run.steps)
        if isinstance(effect, RunGraph):
            return await self._held(self._resume_graph)
        return await self._held(lambda: self._ask(effect.step))

    async def _held(
        self, work: Callable[[], Awaitable[OutcomeRecord | None]]
    ) -> OutcomeRecord | None:
        return await self.services.heartbeats.during(self.session, work)

    # The model.

    async def _ask(self, step: int) -> OutcomeRecord | None:
        recorded = await self._record(step)
        if not isinstance(recorded, _Begun):
            return recorded
        await self._run_graph(recorded)
        return None

    async def _record(self, step: int) -> OutcomeRecord | _Begun | None:
        """Record what the model decides, and with it what follows from that."""
        batch, followed = await self._decide(step)
        if followed.finish is not None:
            return await self._finish(
                batch, followed.finish, steps=step, response=followed.response
            )
        if followed.graph is not None:
            return await self._begin_graph(batch, followed.graph)
        await self.session.commit(batch)
        return None

    async def _decide(self, step: int) -> tuple[list[Record], Followed]:
        """Ask the model; return the records of its answer, and what follows from it."""
        request, seen = self._request(step), self._window_range()
        remaining_ms = request.context.deadline_ms - self.services.clock.now_ms()
        timeout_ms = max(min(self.policy.provider_timeout_ms, remaining_ms), 1)
        answer = await asking.ask(self.services.provider, request, timeout_ms)
        if isinstance(answer, ProviderError):
            return self._failed(step, answer, timeout_ms)
        return self._follow(step, asking.sound(answer), asking.manifest_of(request, seen))

    def _follow(
        self, step: int, answer: ProviderDecision, context: ContextManifest
    ) -> tuple[list[Record], Followed]:
        usage = asking.usage_records(step, answer)
        cap = self.session.backing.ledger.max_payload_bytes
        stored = asking.storable(step, answer.action, context, answer.model, cap=cap)
        reason = asking.usage_complaint(usage) or self._complaint(stored)
        if isinstance(stored, str) or stored.action is None or reason is not None:
            refused = asking.invalid_decision(
                step, answer.action, reason or "", context, answer.model
            )
            return [*usage, refused], Followed()
        followed = follow(stored.action, self.run.trigger_id, step)
        return [*usage, stored, *followed.records], followed

    def _failed(
        self, step: int, error: ProviderError, timeout_ms: int
    ) -> tuple[list[Record], Followed]:
        record = asking.failure_record(step, self.run.provider.model, error)
        finish = Finish("provider_failure", f"{record.error_kind}: {record.error}")
        if isinstance(error, asking.NoAnswer) and timeout_ms < self.policy.provider_timeout_ms:
            limit = self.policy.max_execution_time_ms
            finish = Finish("deadline_exceeded", f"max_execution_time_ms={limit} is over")
        return [record], Followed(finish=finish)

    def _complaint(self, stored: ModelDecision | str) -> str | None:
        return stored if isinstance(stored, str) else complaint(stored.action, self.policy)

    def _request(self, step: int) -> ProviderRequest:
        services, run, projection = self.services, self.run, self.session.projection
        profile = services.agent.profile
        manifests = tuple(skill.manifest for skill in services.skills.values())
        return ProviderRequest(
            trigger=run.trigger,
            context=StepContext(
                tenant=self.session.backing.ledger.tenant,
                session_id=self.session.session_id,
                trigger_id=run.trigger_id,
                agent=run.agent,
                step=step,
                granted_scopes=run.granted_scopes,
                deadline_ms=deadline_ms(run, self.policy),
            ),
            messages=services.build_context(projection, run, profile),
            available_skills=offered_skills(
                manifests, run.granted_scopes, profile.allowed_skills, projection.skills
            ),
            config=run.provider,
            policy=self.policy,
        )

    def _window_range(self) -> tuple[int, int]:
        limit = self.services.agent.profile.memory.max_recent_items
        recent = newest(self.session.projection.window, limit)
        return (recent[0].sequence if recent else 0, self.session.projection.sequence)

    async def _finish(
        self, batch: list[Record], finish: Finish, *, steps: int, response: str | None = None
    ) -> OutcomeRecord:
        cost = sum(record.cost_micros for record in batch if isinstance(record, ProviderUsage))
        closing = closing_records(
            self.session.projection,
            self.run,
            finish,
            steps=steps,
            now_ms=self.services.clock.now_ms(),
            response=response,
            cost_micros=cost,
        )
        await self.session.commit([*batch, *closing])
        return next(record for record in closing if isinstance(record, OutcomeRecord))

    # Tools.

    async def _begin_graph(self, batch: list[Record], record: ToolExecutionGraph) -> _Begun:
        graph = new_graph(record)
        inspection = self._inspect(graph)
        begun = progress(
            graph,
            refusals=inspection.refusals,
            issued=inspection.issued,
            classes=inspection.classes,
            limit=max(self.policy.max_parallel_skill_calls, 1),
        )
        checks = SkillInputValidation(graph_id=graph.graph_id, checks=inspection.checks)
        await self.session.commit([*batch, checks, *begun.records])
        return _Begun(inspection, begun.starts)

    async def _run_graph(self, begun: _Begun) -> None:
        graph = self.run.graph
        if graph is not None:
            run = self._runner(graph).run
            await in_nursery(lambda nursery: run(nursery, begun.inspection, begun.starts))

    async def _resume_graph(self) -> None:
        graph = self.run.graph
        if graph is not None:
            resume, inspection = self._runner(graph).resume, self._inspect(graph)
            await in_nursery(lambda nursery: resume(nursery, inspection))

    def _inspect(self, graph: Graph) -> Inspection:
        return Inspector(
            tenant=self.session.backing.ledger.tenant,
            session_id=self.session.session_id,
            projection=self.session.projection,
            run=self.run,
            policy=self.policy,
            skills=self.services.skills,
            allowed=self.services.agent.profile.allowed_skills,
            now_ms=self.services.clock.now_ms(),
        ).inspect(graph)

    def _runner(self, graph: Graph) -> GraphRunner:
        run = self.run
        caller = Caller(
            skills=self.services.skills,
            policy=self.policy,
            context=SkillContext(
                tenant=self.session.backing.ledger.tenant,
                session_id=self.session.session_id,
                trigger_id=run.trigger_id,
                graph_id=graph.graph_id,
                step=graph.step,
                granted_scopes=run.granted_scopes,
                fence=self.session.tenure.fence or 0,
            ),
            deadline_ms=deadline_ms(run, self.policy),
            payload_bytes=self.session.backing.ledger.max_payload_bytes,
            cancelled=lambda: run.cancel_reason,
            clock=self.services.clock,
            ids=self.services.ids,
        )
        return GraphRunner(
            graph=graph,
            caller=caller,
            commit=self.session.commit,
            transact=partial(transact, self.session),
        )
