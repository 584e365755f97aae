"""Running one tool graph: concurrency, timeouts, retries, doubt, and a checkpoint of every change.

Rules:

- A call starts only after the record of its start is stored (`Progress.starts`).
- Attempts that end while a checkpoint is being stored share the next one.
- Calls that are pure are retried on the spot; their attempts are recorded with the result.
  Calls with an effect are retried only after the next attempt is recorded.
- An unsafe call that ended in any other way than with a value is in doubt,
  unless its skill said that nothing happened.
- After a crash, what had been started is settled first: rerun where that does no harm,
  reconciled or declared unknown where it might.

Rejected: starting a dependent call before its dependency's result is stored. It would save a
commit, and a crash in between would leave an effect whose cause was never recorded.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TypeAlias

import attrs
import trio

from rainengine.core import codec
from rainengine.core.abc import (
    Clock,
    IdSource,
    NotStarted,
    Settled,
    Skill,
    SkillContext,
    SkillInvocation,
)
from rainengine.core.kernel import Ended, Progress, Retried, backoff_ceiling_ms, progress
from rainengine.core.projection import Graph, Node
from rainengine.core.records import EnginePolicy, NodeStatus, Record, RetryPolicy, ToolFailure
from rainengine.core.tools._attempts import (
    Attempt,
    Limits,
    attempt,
    failure,
    reconcile,
    value_bytes,
)
from rainengine.core.tools._inspection import Inspection

Commit: TypeAlias = Callable[[Sequence[Record]], Awaitable[None]]
"""Appends records durably and folds them into the projection that the graph is part of."""

MAX_RESUMED_ATTEMPTS = 5
"""A call that was interrupted this often is not started again: it may be what kills the process."""


@attrs.define(eq=False)
class _Board:
    """Where attempts report; whoever runs the graph waits here."""

    ended: list[Ended] = attrs.field(factory=list[Ended])
    retried: list[Retried] = attrs.field(factory=list[Retried])
    _news: trio.Event = attrs.field(factory=trio.Event)

    def post(self, report: Ended | Retried) -> None:
        if isinstance(report, Ended):
            self.ended.append(report)
        else:
            self.retried.append(report)
        self._news.set()

    async def take(self) -> tuple[list[Ended], list[Retried]]:
        await self._news.wait()
        taken = self.ended, self.retried
        self.ended, self.retried, self._news = [], [], trio.Event()
        return taken


@attrs.define(kw_only=True, eq=False)
class GraphRunner:
    """Carries one graph to its end. `graph` is the projection's own, which `commit` keeps true."""

    graph: Graph
    skills: Mapping[str, Skill]
    policy: EnginePolicy
    context: SkillContext
    deadline_ms: int
    payload_bytes: int
    cancelled: Callable[[], str | None]
    clock: Clock
    ids: IdSource
    commit: Commit
    _board: _Board = attrs.field(factory=_Board, init=False)

    async def run(
        self, nursery: trio.Nursery, inspection: Inspection, starts: Sequence[str]
    ) -> None:
        """Run calls whose start is recorded, and all that follows, until each has a result."""
        self._spawn(nursery, starts, ())
        while any(not node.settled for node in self.graph.nodes.values()):
            ended, retried = await self._board.take()
            step = self._progress(inspection, ended=ended, retried=retried)
            await self.commit(step.records)
            self._spawn(nursery, step.starts, retried)

    async def resume(self, nursery: trio.Nursery, inspection: Inspection) -> None:
        """Settle what an interruption left open, then run the graph to its end."""
        interrupted = [
            node
            for node in self.graph.nodes.values()
            if node.status != "queued" and not node.settled
        ]
        ended, restarts = await self._settle(interrupted)
        step = self._progress(inspection, ended=ended, restarts=restarts)
        await self.commit(step.records)
        await self.run(nursery, inspection, step.starts)

    def _progress(
        self,
        inspection: Inspection,
        *,
        ended: Sequence[Ended] = (),
        retried: Sequence[Retried] = (),
        restarts: Sequence[str] = (),
    ) -> Progress:
        return progress(
            self.graph,
            ended=ended,
            retried=retried,
            restarts=restarts,
            refusals=self._never_started() or inspection.refusals,
            issued=inspection.issued,
            classes=inspection.classes,
            limit=max(self.policy.max_parallel_skill_calls, 1),
        )

    def _halted(self) -> str | None:
        """Why nothing more is to start, if so."""
        reason = self.cancelled()
        if reason is None and self._remaining_ms() <= 0:
            return "the run's time is over"
        return reason

    def _never_started(self) -> dict[str, ToolFailure] | None:
        reason = self._halted()
        if reason is None:
            return None
        return {i: failure("cancelled", f"never started: {reason}") for i in self.graph.nodes}

    def _spawn(
        self, nursery: trio.Nursery, starts: Sequence[str], retried: Sequence[Retried]
    ) -> None:
        again = {call.call_id for call in retried}
        for call_id in starts:
            failed_attempts = self.graph.nodes[call_id].attempt - 1 if call_id in again else 0
            nursery.start_soon(self._work, self.graph.nodes[call_id], failed_attempts)

    # One call.

    async def _work(self, node: Node, failed_attempts: int) -> None:
        number = node.attempt
        if failed_attempts:
            await self._back_off(node, failed_attempts)
        began = trio.current_time()
        in_between: tuple[NodeStatus, ...] = ()
        while True:
            outcome = await self._attempt(node, number)
            if not self._may_retry(node, outcome, number):
                break
            status: NodeStatus = "timed_out" if _timed_out(outcome) else "failed"
            if node.effects != "pure":
                detail = outcome.failure.message if outcome.failure is not None else ""
                self._board.post(
                    Retried(
                        call_id=node.call.call_id, attempt=number + 1, status=status, detail=detail
                    )
                )
                return
            in_between = (*in_between, status, "started")
            await self._back_off(node, number)
            number += 1
        self._board.post(
            Ended(
                call_id=node.call.call_id,
                value=outcome.value,
                failure=outcome.failure,
                attempts=number,
                duration_ms=round((trio.current_time() - began) * 1000),
                in_between=in_between,
            )
        )

    async def _attempt(self, node: Node, number: int) -> Attempt:
        skill = self.skills.get(node.call.name)
        if skill is None:
            return Attempt(failure=failure("internal", "its skill is no longer registered"))
        halted = self._halted()
        if halted is not None:
            return Attempt(failure=failure("cancelled", f"never called: {halted}"))
        invocation = self._invocation(node, number)
        outcome = await attempt(skill, invocation, self._limits(skill))
        in_doubt = (
            node.effects == "unsafe"
            and outcome.failure is not None
            and outcome.failure.kind != "invalid_response"
            and not outcome.harmless
            and not node.call.dry_run
        )
        return await self._settle_doubt(skill, invocation, outcome) if in_doubt else outcome

    async def _settle_doubt(
        self, skill: Skill, invocation: SkillInvocation, outcome: Attempt
    ) -> Attempt:
        answer = await reconcile(skill, invocation, self._limits(skill))
        if isinstance(answer, Settled):
            return Attempt(value=answer.value)
        if isinstance(answer, NotStarted):
            return attrs.evolve(outcome, harmless=True)
        reason = outcome.failure.message if outcome.failure is not None else "interrupted"
        return Attempt(
            failure=failure("unknown_outcome", f"it may or may not have happened: {reason}")
        )

    def _may_retry(self, node: Node, outcome: Attempt, number: int) -> bool:
        if not outcome.retryable or (node.effects == "unsafe" and not outcome.harmless):
            return False
        if self._halted() is not None or node.call.name not in self.skills:
            return False
        limits = [policy.max_attempts for policy in self._retry_policies(node)]
        return number < min(*limits, self.policy.max_tool_retries_per_step + 1)

    def _retry_policies(self, node: Node) -> tuple[RetryPolicy, ...]:
        of_skill = self.skills[node.call.name].manifest.resource_policy.retry_policy
        of_call = node.call.retry_policy
        return (of_skill, of_skill) if of_call is None else (of_call, of_skill)

    async def _back_off(self, node: Node, failed_attempts: int) -> None:
        if node.call.name not in self.skills:
            return
        ceiling_ms = backoff_ceiling_ms(self._retry_policies(node)[0], failed_attempts)
        wait_ms = ceiling_ms * self.ids.fraction()
        await trio.sleep(min(wait_ms, self._remaining_ms()) / 1000)

    def _remaining_ms(self) -> int:
        return max(self.deadline_ms - self.clock.now_ms(), 0)

    def _limits(self, skill: Skill) -> Limits:
        own = skill.manifest.resource_policy.timeout_ms
        limit_ms = max(min(own, self.policy.max_tool_timeout_ms, self._remaining_ms()), 1)
        return Limits(timeout_s=limit_ms / 1000, value_bytes=value_bytes(self.payload_bytes))

    def _invocation(self, node: Node, number: int) -> SkillInvocation:
        return SkillInvocation(
            call_id=node.call.call_id,
            name=node.call.name,
            args=codec.copy_json(node.call.args),
            idempotency_key=node.idempotency_key,
            attempt=number,
            dry_run=node.call.dry_run,
            context=self.context,
        )

    # After an interruption.

    async def _settle(self, interrupted: Sequence[Node]) -> tuple[list[Ended], list[str]]:
        ended: list[Ended] = []
        restarts: list[str] = []

        async def settle(node: Node) -> None:
            end = await self._settle_one(node)
            if end is None:
                restarts.append(node.call.call_id)
            else:
                ended.append(end)

        async with trio.open_nursery() as nursery:
            for node in interrupted:
                nursery.start_soon(settle, node)
        return ended, restarts

    async def _settle_one(self, node: Node) -> Ended | None:
        """Return how an interrupted call ended, or None where it is to run again."""
        skill = self.skills.get(node.call.name)
        safe = node.effects != "unsafe" or node.call.dry_run
        if skill is not None and not safe:
            answer = await reconcile(
                skill, self._invocation(node, node.attempt), self._limits(skill)
            )
            if isinstance(answer, Settled):
                return Ended(call_id=node.call.call_id, value=answer.value, attempts=node.attempt)
            safe = isinstance(answer, NotStarted)
        if safe and skill is not None and node.attempt < MAX_RESUMED_ATTEMPTS:
            return None
        return Ended(
            call_id=node.call.call_id,
            failure=_interrupted(node, registered=skill is not None),
            attempts=node.attempt,
        )


def _interrupted(node: Node, *, registered: bool) -> ToolFailure:
    why = f"it was started {node.attempt} times without an end, and is not started again"
    if not registered:
        why = "it was interrupted, and its skill is no longer registered"
    if node.effects == "pure" or node.call.dry_run:
        return failure("trap" if registered else "internal", why)
    return failure("unknown_outcome", f"it may or may not have happened: {why}")


def _timed_out(outcome: Attempt) -> bool:
    return outcome.failure is not None and outcome.failure.kind == "timeout"
