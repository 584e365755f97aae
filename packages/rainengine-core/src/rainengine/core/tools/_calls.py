"""One call of a graph: whether it may be made, within what bounds, and what an interruption left.

Rules:

- An unsafe call that ended in any other way than with a value is in doubt,
  unless its skill said that nothing happened.
- After a crash, what had been started is settled first: rerun where that does no harm,
  reconciled or declared unknown where it might.
- Nothing is made again by a skill that might not make it for the first time: one that has been
  replaced meanwhile by a version that nobody approved, or that may not be called like this.
- What was started in a transaction and has no result was rolled back, and may run again; but only
  in a transaction, as the record of its start promises that an interruption leaves no trace.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import cast

import attrs
import trio

from rainengine.core import codec
from rainengine.core.abc import (
    AnySkill,
    Clock,
    IdSource,
    NotStarted,
    Settled,
    Skill,
    SkillContext,
    SkillInvocation,
    TransactionalSkill,
)
from rainengine.core.kernel import Ended, Progress, backoff_ceiling_ms
from rainengine.core.projection import Node
from rainengine.core.records import EnginePolicy, FailureKind, RetryPolicy, ToolFailure
from rainengine.core.tools._attempts import (
    Attempt,
    Limits,
    attempt,
    failure,
    reconcile,
    value_bytes,
)
from rainengine.core.tools._enclosing import EnclosedCall
from rainengine.core.tools._transactional import is_transactional

MAX_RESUMED_ATTEMPTS = 5
"""A call that was interrupted this often is not started again: it may be what kills the process."""


@attrs.frozen(kw_only=True, eq=False)
class Caller:
    """Makes the calls of one graph, with the skills as they are registered at that moment."""

    skills: Mapping[str, AnySkill]
    policy: EnginePolicy
    context: SkillContext
    deadline_ms: int
    payload_bytes: int
    bar: Callable[[Node], ToolFailure | None]
    cancelled: Callable[[], str | None]
    asks_people: bool
    clock: Clock
    ids: IdSource

    def halted(self) -> str | None:
        """Why nothing more is to start, if so."""
        reason = self.cancelled()
        if reason is None and self._remaining_ms() <= 0:
            return "the run's time is over"
        return reason

    def asks_about(self, call: Ended) -> bool:
        """Whether people are to be asked what became of a call that has ended like this."""
        doubt = call.failure is not None and call.failure.kind == "unknown_outcome"
        return doubt and self.asks_people

    def runs_in_transactions(self, node: Node) -> bool:
        """Whether this is how the call is to be made."""
        skill = self.skills.get(node.call.name)
        return skill is not None and is_transactional(skill)

    def hindrance(self, node: Node) -> Attempt | None:
        """What comes of a call that cannot be made after all; None where it can."""
        skill = self.skills.get(node.call.name)
        if skill is None:
            return Attempt(failure=failure("internal", "its skill is no longer registered"))
        barred = self.bar(node)
        if barred is not None:
            return Attempt(failure=barred)
        halted = self.halted()
        if halted is not None:
            return Attempt(failure=failure("cancelled", f"never called: {halted}"))
        return None

    async def attempt(self, node: Node, number: int) -> Attempt:
        """Make attempt `number` at a call, outside of transactions."""
        hindrance = self.hindrance(node)
        if hindrance is not None:
            return hindrance
        skill = self.skills[node.call.name]
        invocation = self.invocation(node, number)
        outcome = await attempt(cast("Skill", skill), invocation, self._limits(skill))
        in_doubt = (
            node.effects == "unsafe"
            and outcome.failure is not None
            and outcome.failure.kind != "invalid_response"
            and not outcome.harmless
            and not node.call.dry_run
        )
        return await self._settle_doubt(skill, invocation, outcome) if in_doubt else outcome

    async def _settle_doubt(
        self, skill: AnySkill, invocation: SkillInvocation, outcome: Attempt
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

    def enclosed(self, node: Node, follow: Callable[[Ended], Progress]) -> EnclosedCall:
        """Prepare a call that runs in a transaction; `follow` works out what it leads to."""
        skill = cast("TransactionalSkill", self.skills[node.call.name])
        invocation = self.invocation(node, node.attempt)
        return EnclosedCall(skill, invocation, self._limits(skill), follow)

    def invocation(self, node: Node, number: int) -> SkillInvocation:
        """What the skill is told of attempt `number`."""
        return SkillInvocation(
            call_id=node.call.call_id,
            name=node.call.name,
            args=codec.copy_json(node.call.args),
            idempotency_key=node.idempotency_key,
            attempt=number,
            dry_run=node.call.dry_run,
            context=self.context,
        )

    # Attempts after the first.

    def may_retry(self, node: Node, outcome: Attempt, number: int) -> bool:
        """Whether another attempt may follow attempt `number`."""
        if not outcome.retryable or (node.effects == "unsafe" and not outcome.harmless):
            return False
        if self.hindrance(node) is not None:
            return False
        limits = [policy.max_attempts for policy in self._retry_policies(node)]
        return number < min(*limits, self.policy.max_tool_retries_per_step + 1)

    async def back_off(self, node: Node, failed_attempts: int) -> None:
        """Wait before the next attempt."""
        if node.call.name not in self.skills:
            return
        ceiling_ms = backoff_ceiling_ms(self._retry_policies(node)[0], failed_attempts)
        wait_ms = ceiling_ms * self.ids.fraction()
        await trio.sleep(min(wait_ms, self._remaining_ms()) / 1000)

    def _retry_policies(self, node: Node) -> tuple[RetryPolicy, ...]:
        of_skill = self.skills[node.call.name].manifest.resource_policy.retry_policy
        of_call = node.call.retry_policy
        return (of_skill, of_skill) if of_call is None else (of_call, of_skill)

    def _remaining_ms(self) -> int:
        return max(self.deadline_ms - self.clock.now_ms(), 0)

    def _limits(self, skill: AnySkill) -> Limits:
        own = skill.manifest.resource_policy.timeout_ms
        return self._within(min(own, self.policy.max_tool_timeout_ms, self._remaining_ms()))

    def _within(self, limit_ms: int) -> Limits:
        return Limits(
            timeout_s=max(limit_ms, 1) / 1000, value_bytes=value_bytes(self.payload_bytes)
        )

    # After an interruption.

    async def settle(self, node: Node) -> Ended | None:
        """Return how an interrupted call ended, or None where it is to run again."""
        skill = self.skills.get(node.call.name)
        barred = self.bar(node)
        again = skill is not None and barred is None and _may_run_again(node)
        if skill is not None and not again and not node.traceless:
            answer = await reconcile(
                skill, self.invocation(node, node.attempt), self._limits(skill)
            )
            if isinstance(answer, Settled):
                return Ended(call_id=node.call.call_id, value=answer.value, attempts=node.attempt)
            again = isinstance(answer, NotStarted)
        if barred is not None:
            ended = _not_again(node, barred, harmless=again)
            return Ended(call_id=node.call.call_id, failure=ended, attempts=node.attempt)
        if again and node.attempt < MAX_RESUMED_ATTEMPTS:
            return None
        return Ended(
            call_id=node.call.call_id, failure=_interrupted(node, skill), attempts=node.attempt
        )

    async def find_out(self, node: Node) -> Ended | None:
        """Return what became of a call that is not to be made again; None where nobody knows.

        The run is ending, maybe as its time is over: its skill may take its own time to answer.
        """
        skill = self.skills.get(node.call.name)
        if skill is None:
            return None
        own = skill.manifest.resource_policy.timeout_ms
        limits = self._within(min(own, self.policy.max_tool_timeout_ms))
        answer = await reconcile(skill, self.invocation(node, node.attempt), limits)
        call_id, attempts = node.call.call_id, node.attempt
        if isinstance(answer, Settled):
            return Ended(call_id=call_id, value=answer.value, attempts=attempts)
        if isinstance(answer, NotStarted):
            never = failure("cancelled", "it was started, and did not happen")
            return Ended(call_id=call_id, failure=never, attempts=attempts)
        return None


def _may_run_again(node: Node) -> bool:
    return node.call.dry_run or node.effects != "unsafe"


def _not_again(node: Node, barred: ToolFailure, *, harmless: bool) -> ToolFailure:
    why = f"it was interrupted, and may not be made again: {barred.message}"
    if harmless or node.traceless:
        return failure(barred.kind, why)
    return failure("unknown_outcome", f"it may or may not have happened: {why}")


def _interrupted(node: Node, skill: AnySkill | None) -> ToolFailure:
    kind: FailureKind = "internal"
    if skill is None:
        why = "it was interrupted, and its skill is no longer registered"
    else:
        why = f"it was started {node.attempt} times without an end, and is not started again"
        kind = "trap"
    if node.traceless:
        return failure(kind, why)
    return failure("unknown_outcome", f"it may or may not have happened: {why}")
