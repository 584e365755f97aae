"""What holds in every history: random models, hosts, people and crashes, and the rules they meet.

A play is drawn at random: what the model decides, what the host and people do, and at which appends
the process dies. After every advance, and at the end, the rules of this module have to hold.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import attrs
import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rainengine.core import (
    Agent,
    AgentEngine,
    AgentProfile,
    Approval,
    CallSkills,
    Continue,
    ContinueRequest,
    Delegate,
    DelegationResult,
    DoubtResolution,
    DoubtVerdict,
    EnginePolicy,
    InMemoryLedger,
    MemoryArchive,
    MemorySearch,
    Message,
    Plan,
    PlannedSkillCall,
    ProcessRequest,
    ProviderError,
    Respond,
    RetryPolicy,
    ScriptedProvider,
    SkillInvocation,
    Suspend,
    Yield,
    verify_session,
)
from rainengine.core.abc import MemoryHit, ProviderRequest
from rainengine.core.codec import encode_value
from rainengine.core.errors import RainEngineError, SessionNotFound
from rainengine.core.kernel import effective_policy
from rainengine.core.projection import SessionProjection, answered_token, fold
from rainengine.core.records import (
    ApprovalResolution,
    ChatMessage,
    DelegatedTask,
    Delegation,
    DelegationTarget,
    MemoryPolicy,
    OutcomeRecord,
    PendingApproval,
    ResourcePolicy,
    ReviewPolicy,
    SkillManifest,
    StoredRecord,
    ToolCallPart,
    ToolExecutionGraph,
    ToolResultPart,
    TriggerRecord,
)
from rainengine.core.testing import CrashingLedger, ScriptedClock, ScriptedIds, SimulatedCrash

SESSION = "play"
REVIEWER = "scope:human_approval"
TTL_MS = 40_000
PROFILE = AgentProfile(
    default_scopes=("tool:run", REVIEWER),
    delegates=("helpers",),
    memory=MemoryPolicy(max_recent_items=6),
    review=ReviewPolicy(require_review_for_delegation=False, approval_ttl_ms=TTL_MS),
)


def _call(call_id: str, name: str, *depends_on: str) -> PlannedSkillCall:
    return PlannedSkillCall(call_id=call_id, name=name, args={"n": 1}, depends_on=depends_on)


def _delegate(stream: str) -> Delegate:
    task = DelegatedTask(task_type="dig", payload={"deep": True})
    return Delegate(target=DelegationTarget(stream=stream), task=task)


DECISIONS: tuple[Any, ...] = (
    Respond("done"),
    Yield("nothing to do"),
    Continue(),
    Plan(summary="first this, then that", confidence=0.8),
    CallSkills([_call("a", "read"), _call("b", "send", "a")]),
    CallSkills([_call("a", "send"), _call("b", "send"), _call("c", "flaky")]),
    CallSkills([_call("a", "pay"), _call("b", "read")]),
    CallSkills([_call("a", "admin"), _call("b", "unheard_of")]),
    CallSkills([_call("a", "send", "a")]),
    CallSkills([]),
    Suspend(reason="may I?", pending_calls=(_call("a", "pay"),)),
    Suspend(reason="what now?"),
    _delegate("helpers"),
    _delegate("elsewhere"),
    MemorySearch(query="anything"),
    MemoryArchive("worth keeping"),
    ProviderError("busy", kind="rate_limited", retryable=True, retry_after_ms=500),
    ProviderError("down", kind="transport", retryable=True),
    ProviderError("wrong key", kind="configuration", retryable=False),
)

MOVES = (
    "message",
    "message",
    "continue",
    "continue",
    "continue",
    "submit",
    "approve",
    "approve",
    "reject",
    "approve without the right",
    "forge",
    "replay a token",
    "settle doubts",
    "return",
    "return to nobody",
    "cancel",
    "wait",
)


class NothingFound:
    async def search(self, session_id: str, query: str, limit: int) -> list[MemoryHit]:
        return [MemoryHit(sequence=1, text=query, score=1.0)]


@attrs.define(eq=False)
class TheSkill:
    """A skill that remembers its invocations; `manifest` is that of a decorated function."""

    name: str
    play: Play
    options: dict[str, Any]
    native: bool = True

    @property
    def manifest(self) -> Any:
        return SkillManifest(
            name=self.name,
            description=self.name,
            input_schema={"type": "object"},
            resource_policy=ResourcePolicy(retry_policy=RetryPolicy(max_attempts=2)),
            **self.options,
        )

    async def invoke(self, invocation: SkillInvocation) -> object:
        self.play.invocations.append(invocation)
        await trio.sleep(0.1)
        if self.name == "flaky" and len(self.play.invocations) % 2:
            raise ValueError("flaky")
        return {"by": self.name}


SKILLS: dict[str, dict[str, Any]] = {
    "read": {"effects": "pure"},
    "send": {"effects": "unsafe", "required_scopes": ("tool:run",)},
    "flaky": {"effects": "idempotent", "circuit_breaker_threshold": 1.1},
    "pay": {"effects": "unsafe", "approval_required": True},
    "admin": {"effects": "unsafe", "required_scopes": ("tool:admin",)},
}


@attrs.define(eq=False)
class Play:
    """One random history, and what was seen of it."""

    turns: list[int]
    moves: list[tuple[str, int]]
    crashes: list[tuple[int, str]]
    on_doubt: Any
    clock: ScriptedClock = attrs.field(factory=ScriptedClock)
    invocations: list[SkillInvocation] = attrs.field(factory=list)
    requests: list[ProviderRequest] = attrs.field(factory=list)
    decided: int = 0
    lives: int = 0
    truth: InMemoryLedger = attrs.field(init=False)
    ledger: CrashingLedger = attrs.field(init=False)
    engine: AgentEngine = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.truth = InMemoryLedger(self.clock)
        self.engine = self.reopen()

    def reopen(self) -> AgentEngine:
        """Begin another life of the process."""
        at, when = self.crashes[self.lives] if self.lives < len(self.crashes) else (None, "before")
        self.lives += 1
        self.ledger = CrashingLedger(
            InMemoryLedger(self.clock, backing=self.truth),
            at,
            when=when,  # type: ignore[arg-type]
        )
        return AgentEngine(
            ledger=self.ledger,
            provider=ScriptedProvider(self.decide),
            skills=[TheSkill(name, self, options) for name, options in SKILLS.items()],
            agent=Agent(profile=PROFILE),
            policy=EnginePolicy(
                max_steps=7, max_consecutive_tool_failures=3, on_doubt=self.on_doubt
            ),
            retrieval=NothingFound(),
            owner="theatre",
            clock=self.clock,
            ids=ScriptedIds(self.lives),
        )

    def decide(self, request: ProviderRequest) -> Any:
        self.requests.append(request)
        self.decided += 1
        if request.purpose != "act":
            return Respond("what was said before, in short")
        return DECISIONS[self.turns[self.decided % len(self.turns)] % len(DECISIONS)]

    # The host and the people.

    async def perform(self) -> None:
        for move, number in self.moves:
            await self.living(lambda m=move, n=number: self.make(m, n))
        await self.end()

    async def living(self, deed: Callable[[], Awaitable[Any]]) -> Any:
        """Do something, in a new life of the process wherever it dies of that."""
        try:
            asked, graphs = len(self.requests), len(self.invocations)
            result = await deed()
        except SimulatedCrash:
            self.engine = self.reopen()
            return None
        except BaseExceptionGroup as group:
            if group.split(SimulatedCrash)[1] is not None:
                raise
            self.engine = self.reopen()
            return None
        else:
            self.check_advance(asked, graphs)
            return result

    async def make(self, move: str, number: int) -> None:
        if move == "continue":
            with suppress(RainEngineError):
                await self.engine.advance(ContinueRequest(session_id=SESSION))
        elif move == "wait":
            await trio.sleep(number * 7)
        elif move == "cancel":
            with suppress(RainEngineError):
                await self.engine.cancel(SESSION, "enough")
        elif move == "submit":
            await self.engine.submit(self.request(self.message(number)))
        else:
            trigger, scopes = await self.trigger(move, number)
            if trigger is not None:
                with suppress(SessionNotFound):  # an answer, and nothing was ever asked
                    await self.engine.advance(self.request(trigger, scopes))

    def message(self, number: int) -> Message:
        return Message(user_id=f"user{number % 2}", content=f"message {number}")

    def request(self, trigger: Any, scopes: tuple[str, ...] = ()) -> ProcessRequest:
        return ProcessRequest(session_id=SESSION, trigger=trigger, granted_scopes=scopes)

    async def trigger(  # noqa: PLR0911
        self, move: str, number: int
    ) -> tuple[Any, tuple[str, ...]]:
        if move == "message":
            return self.message(number), ((), ("tool:admin",), (REVIEWER,))[number % 3]
        records = await self.stored()
        pending = [r.record for r in records if isinstance(r.record, PendingApproval)]
        work = [r.record for r in records if isinstance(r.record, Delegation)]
        last = pending[-1] if pending else None
        if move == "forge":
            return Approval(resume_token=f"{number:032x}", decision="approved"), (REVIEWER,)
        if move == "return to nobody":
            return DelegationResult(correlation_id=f"{number:032x}", payload=None), ()
        if move == "return" and work:
            back = work[number % len(work)]
            return DelegationResult(correlation_id=back.correlation_id, payload={"dug": 1}), ()
        if last is None:
            return None, ()
        if move == "settle doubts":
            verdicts = ("happened", "did_not_happen", "give_up")
            told = tuple(
                DoubtVerdict(call_id=c, verdict=verdicts[number % 3])  # type: ignore[arg-type]
                for c in last.doubts
            )
            return DoubtResolution(resume_token=last.resume_token, verdicts=told), (REVIEWER,)
        if move == "replay a token":
            last = pending[number % len(pending)]
        decision: Any = "rejected" if move == "reject" else "approved"
        entitled = move != "approve without the right"
        who, scopes = ("boss", (REVIEWER, "tool:admin")) if entitled else ("clerk", ("tool:admin",))
        answer = Approval(resume_token=last.resume_token, decision=decision, approver=who)
        return answer, scopes

    async def end(self) -> None:
        """Go on until nothing is left to do. Every run ends: there is a bound."""
        self.crashes = []
        self.engine = self.reopen()
        result: Any = None
        for _ in range(12 * (len(self.moves) + 2)):
            with suppress(RainEngineError):
                result = await self.living(
                    lambda: self.engine.advance(ContinueRequest(session_id=SESSION))
                )
            if not await self.stored() or (result is not None and result.idle):
                return
        raise AssertionError("a run goes on for ever")

    async def stored(self) -> list[StoredRecord]:
        return list(await self.truth.read(SESSION, limit=100_000))

    # The rules.

    def check_advance(self, asked: int, invoked: int) -> None:
        """An advance asks the model at most once and runs calls of at most one graph."""
        assert len(self.requests) - asked <= 1
        graphs = {invocation.context.graph_id for invocation in self.invocations[invoked:]}
        assert len(graphs) <= 1

    async def check(self) -> None:
        records = await self.stored()
        if not records:
            return
        self.check_pairing()
        self.check_authority(records)
        self.check_approvals(records)
        self.check_answers(records)
        self.check_effects(records)
        self.check_policies(records)
        await self.check_replay(records)
        self.check_secrets(records)

    def check_pairing(self) -> None:
        """Every call in what a model is shown is followed by exactly one result."""
        for request in self.requests:
            assert [] == unpaired(request.messages)

    def check_authority(self, records: list[StoredRecord]) -> None:
        """Whatever is invoked or asked has the scopes that its run's trigger came with."""
        granted = {
            r.record.trigger_id: r.record.granted_scopes
            for r in records
            if isinstance(r.record, TriggerRecord)
        }
        for context in (
            *(invocation.context for invocation in self.invocations),
            *(request.context for request in self.requests),
        ):
            assert granted[context.trigger_id] == context.granted_scopes
        for invocation in self.invocations:
            needed = SKILLS[invocation.name].get("required_scopes", ())
            assert set(needed) <= set(invocation.context.granted_scopes)

    def check_approvals(self, records: list[StoredRecord]) -> None:
        """What needs an approval runs in an approved graph only; a token is spent once."""
        approved = {
            r.record.graph_id
            for r in records
            if isinstance(r.record, ToolExecutionGraph) and r.record.approved
        }
        tokens = {r.record.resume_token for r in records if isinstance(r.record, PendingApproval)}
        resolved = [r.record for r in records if isinstance(r.record, ApprovalResolution)]
        spent = Counter(resolution.resume_token for resolution in resolved)
        assert set(spent) <= tokens
        assert all(times == 1 for times in spent.values())
        assert len(approved) <= sum(r.decision == "approved" for r in resolved)
        for invocation in self.invocations:
            assert invocation.name != "pay" or invocation.context.graph_id in approved

    def check_answers(self, records: list[StoredRecord]) -> None:
        """Only who is entitled to answers, what was asked, and before it has expired."""
        asked = {r.record.resume_token: r for r in records if isinstance(r.record, PendingApproval)}
        for answer in records:
            if isinstance(answer.record, ApprovalResolution):
                pending = asked[answer.record.resume_token]
                assert answer.record.approver != "clerk"
                came_ms = min(
                    r.occurred_at_ms
                    for r in records
                    if isinstance(r.record, TriggerRecord)
                    and answered_token(r.record.trigger) == answer.record.resume_token
                )
                assert came_ms - pending.occurred_at_ms < TTL_MS
                doubts = getattr(pending.record, "doubts", ())
                assert (answer.record.decision == "answered") == bool(doubts)

    def check_effects(self, records: list[StoredRecord]) -> None:
        """An unsafe call is made once, unless a person said that it had not happened."""
        people = sum(
            verdict.verdict == "did_not_happen"
            for r in records
            if isinstance(r.record, ApprovalResolution)
            for verdict in r.record.verdicts
        )
        keys = Counter(i.idempotency_key for i in self.invocations if i.name in {"send", "pay"})
        assert sum(keys.values()) - len(keys) <= people

    def check_policies(self, records: list[StoredRecord]) -> None:
        """No run had more than its operator's policy, raised by at most a quarter."""
        policies = {
            r.record.trigger_id: r.record.policy
            for r in records
            if isinstance(r.record, TriggerRecord)
        }
        for request in self.requests:
            base = policies[request.context.trigger_id]
            assert request.policy.max_steps <= 9  # the ceiling over 7
            assert effective_policy(base, None) == attrs.evolve(
                request.policy,
                max_steps=base.max_steps,
                max_execution_time_ms=base.max_execution_time_ms,
                provider_timeout_ms=base.provider_timeout_ms,
                max_tool_timeout_ms=base.max_tool_timeout_ms,
                max_parallel_skill_calls=base.max_parallel_skill_calls,
            )
        for r in records:
            if isinstance(r.record, OutcomeRecord):
                assert r.record.steps_executed <= 9

    async def check_replay(self, records: list[StoredRecord]) -> None:
        """A replay from the start equals what the engine has in memory; the chain holds."""
        replayed = SessionProjection()
        for record in records:
            fold(replayed, record.sequence, record)
        live = self.engine._turns.sessions._sessions.get(SESSION)
        if live is not None and live.projection.sequence == replayed.sequence:
            assert encode_value(replayed) == encode_value(live.projection)
        assert (await verify_session(self.truth, SESSION)).ok

    def check_secrets(self, records: list[StoredRecord]) -> None:
        """No token or correlation id is ever shown to the model."""
        tokens = {r.record.resume_token for r in records if isinstance(r.record, PendingApproval)}
        tokens |= {r.record.correlation_id for r in records if isinstance(r.record, Delegation)}
        shown = "".join(encode_value(request.messages).decode() for request in self.requests)
        assert not any(token in shown for token in tokens)


def unpaired(messages: tuple[ChatMessage, ...]) -> list[str]:
    """The ids of calls and results that do not stand in pairs, right after each other."""
    wrong: list[str] = []
    waiting: list[str] = []
    for message in messages:
        results = [part.call_id for part in message.parts if isinstance(part, ToolResultPart)]
        if results or waiting:
            wrong += sorted((Counter(waiting) - Counter(results)).elements())
            wrong += sorted((Counter(results) - Counter(waiting)).elements())
        waiting = [part.call_id for part in message.parts if isinstance(part, ToolCallPart)]
    return wrong + waiting


TURNS = st.lists(st.integers(0, len(DECISIONS) - 1), min_size=1, max_size=14)
DEEDS = st.lists(st.tuples(st.sampled_from(MOVES), st.integers(0, 11)), min_size=1, max_size=24)
CRASHES = st.lists(st.tuples(st.integers(1, 9), st.sampled_from(["before", "after"])), max_size=4)
DOUBT = st.sampled_from(["report", "suspend"])
EXAMPLES = 2_000 if os.environ.get("RAINENGINE_SWEEP") == "full" else 150


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
@given(turns=TURNS, moves=DEEDS, crashes=CRASHES, on_doubt=DOUBT)
def test_what_holds_in_every_history(
    run_trio: Any, turns: Any, moves: Any, crashes: Any, on_doubt: Any
) -> None:
    """Pairing, one call and one graph an advance, ceilings, scopes, approvals, effects, replay."""

    async def main() -> None:
        play = Play(turns=turns, moves=moves, crashes=crashes, on_doubt=on_doubt)
        await play.perform()
        await play.check()

    run_trio(main)


@pytest.mark.parametrize("patience", [0, 11], ids=["at once", "too late"])
@pytest.mark.parametrize("move", sorted(set(MOVES)))
def test_every_move_can_be_made(move: str, patience: int, run_trio: Any) -> None:
    """Each move, made while a run waits or once it has waited too long, keeps the rules."""
    moves = [("message", 1), ("wait", patience), (move, 2)]

    async def main() -> None:
        play = Play(turns=[10, 10, 12, 0], moves=moves, crashes=[], on_doubt="suspend")
        await play.perform()
        await play.check()

    run_trio(main)
