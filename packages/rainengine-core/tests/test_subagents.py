"""Sub-agents: delegated work done by sessions of the same store, each step of it once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs
import pytest
import trio

from rainengine.core import (
    Agent,
    AgentEngine,
    AgentProfile,
    Approval,
    CallSkills,
    ContinueRequest,
    Delegate,
    DelegationResult,
    EnginePolicy,
    InMemoryLedger,
    Message,
    PlannedSkillCall,
    ProcessRequest,
    ProviderDecision,
    ProviderError,
    Respond,
    ScriptedProvider,
    Suspend,
    skill,
    verify_session,
)
from rainengine.core.abc import OutboxEntry, OutboxReport, Usage
from rainengine.core.errors import NoSuchAgent, Undeliverable
from rainengine.core.records import (
    DelegatedTask,
    DelegationTarget,
    EscalationPolicy,
    OutcomeRecord,
    PendingApproval,
    ReviewPolicy,
    ToolResult,
    TriggerRecord,
)
from rainengine.core.subagents import SubAgents, child_of
from rainengine.core.testing import CrashingLedger, ScriptedClock, ScriptedIds, SimulatedCrash

REVIEWER = ("scope:human_approval",)
UNASKED = ReviewPolicy(require_review_for_delegation=False)


def to(stream: str, task_type: str = "dig", payload: Any = None) -> Delegate:
    """Decide to hand work over."""
    task = DelegatedTask(task_type=task_type, payload=payload)
    return Delegate(target=DelegationTarget(stream=stream), task=task)


def boss(request: Any) -> Any:
    """A model that delegates, and tells what came back."""
    if request.context.step == 1:
        return to("digger", payload={"depth": 3})
    return Respond(f"boss: {result_in(request)['response']}")


def result_in(request: Any) -> Any:
    """What the newest message says of a delegation's result."""
    (part,) = request.messages[-1].parts
    return part.value["payload"]


def profile_of(name: str, **options: Any) -> AgentProfile:
    """A profile by which a boss delegates to diggers, and they to moles, unasked."""
    delegates = {"boss": ("digger", "nobody"), "digger": ("mole",)}.get(name, ())
    return AgentProfile(**{"delegates": delegates, "review": UNASKED} | options)


@attrs.define(eq=False)
class Office:
    """Agents on one store: each a model, with a policy and a profile, and what delivers rows."""

    models: dict[str, Callable[[Any], Any]]
    policies: dict[str, EnginePolicy] = attrs.field(factory=dict)
    profiles: dict[str, AgentProfile] = attrs.field(factory=dict)
    skills: list[Any] = attrs.field(factory=list)
    clock: ScriptedClock = attrs.field(factory=ScriptedClock)
    requests: dict[str, list[Any]] = attrs.field(factory=dict)
    lives: int = 0
    store: Any = attrs.field(init=False)
    truth: InMemoryLedger = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.store = self.truth = InMemoryLedger(self.clock)

    def engine(self, ledger: Any, name: str) -> AgentEngine | None:
        """The engine of an agent."""
        if name not in self.models:
            return None
        self.lives += 1
        provider = ScriptedProvider(self.models[name])
        self.requests.setdefault(name, []).append(provider.requests)
        return AgentEngine(
            ledger=ledger,
            provider=provider,
            skills=self.skills,
            agent=Agent(name=name, profile=self.profiles.get(name) or profile_of(name)),
            policy=self.policies.get(name) or EnginePolicy(),
            owner="office",
            clock=self.clock,
            ids=ScriptedIds(self.lives),
        )

    @property
    def sub_agents(self) -> SubAgents:
        """What publishes their rows."""
        return SubAgents(self.store, self.engine)

    async def ask(self, text: str = "dig", **options: Any) -> None:
        """Send the boss a message."""
        engine = self.engine(self.store, "boss")
        assert engine is not None
        trigger = options.pop("trigger", Message(user_id="ann", content=text))
        session_id = options.pop("session_id", "s")
        key = options.pop("key", None)
        await engine.submit(
            ProcessRequest(session_id=session_id, trigger=trigger, idempotency_key=key, **options)
        )

    async def work(self, publisher: Any = None, *, twice: bool = False) -> None:
        """Advance sessions and deliver rows until nothing is due; rows twice if need be."""
        while True:
            runs = await self.store.due("run")
            for session in runs:
                engine = self.engine(self.store, session.agent)
                assert engine is not None
                result = await engine.advance(ContinueRequest(session_id=session.session_id))
                if result.outcome is None:
                    await engine.release(session.session_id)
            if not await self.deliver(publisher, twice=twice) and not runs:
                return

    async def deliver(self, publisher: Any = None, *, twice: bool = False) -> bool:
        """Deliver the rows that are due; return whether there are any."""
        rows = [row for due in await self.store.due("outbox") for row in await self.rows(due)]
        for row in rows:
            for _ in range(1 + twice):
                await (publisher or self.sub_agents).publish(row)
            await self.store.settle([OutboxReport(entry=row, outcome="delivered")])
        return bool(rows)

    async def rows(self, due: Any) -> Any:
        return await self.store.claim(due.tenant, due.session_id, claim_ms=1)

    async def records(self, kind: type, session_id: str = "s") -> list[Any]:
        """The records of a kind in a session."""
        stored = await self.truth.read(session_id, limit=10_000)
        return [entry.record for entry in stored if isinstance(entry.record, kind)]

    async def outcome(self, session_id: str = "s") -> Any:
        """The newest outcome of a session."""
        return (await self.records(OutcomeRecord, session_id))[-1]

    async def end(self, session_id: str = "s") -> Any:
        """The newest outcome of the session's first run."""
        outcomes = await self.records(OutcomeRecord, session_id)
        return [o for o in outcomes if o.trigger_id == outcomes[0].trigger_id][-1]

    async def child(self, session_id: str = "s") -> str:
        """The id of the session that works for a session."""
        paused = [o for o in await self.records(OutcomeRecord, session_id) if o.resume_token]
        return child_of(paused[-1].resume_token)


@pytest.fixture
def office(stage: Any) -> Office:
    """An office with a boss and a digger, in a test whose waiting takes no time."""
    return Office({"boss": boss, "digger": lambda _: Respond("dug")})


async def test_a_child_does_the_work(office: Office) -> None:
    """The task becomes a run of the named agent in a session of its own; its answer comes back."""
    await office.ask(granted_scopes=("a",))
    await office.work()
    assert "boss: dug" == (await office.outcome()).response
    child = await office.child()
    (trigger,) = await office.records(TriggerRecord, child)
    assert ("agent:boss", {"task_type": "dig", "payload": {"depth": 3}}) == (
        trigger.trigger.source,
        trigger.trigger.payload,
    )
    paused = next(o for o in await office.records(OutcomeRecord) if o.resume_token)
    assert (paused.resume_token, "s", "boss", 1, "ann") == (
        trigger.parent.correlation_id,
        trigger.parent.session_id,
        trigger.parent.agent,
        trigger.parent.depth,
        trigger.parent.requester,
    )
    assert paused.resume_token not in child
    result = (await office.records(TriggerRecord))[-1].trigger
    assert (paused.resume_token, False) == (result.correlation_id, result.failed)


async def test_a_child_has_no_more_than_its_parent(office: Office) -> None:
    """Its scopes are its parent's alone, its budgets the smaller ones, and depth counts."""
    office.profiles["digger"] = profile_of("digger", default_scopes=("tool:admin",))
    office.profiles["boss"] = profile_of(
        "boss", default_scopes=("b",), escalation=EscalationPolicy(max_delegation_depth=2)
    )
    office.policies["boss"] = EnginePolicy(max_cost_per_delegation=0.5, max_tokens_per_run=1_000)
    office.policies["digger"] = EnginePolicy(max_steps=3, max_tokens_per_run=400)
    await office.ask(granted_scopes=("a",))
    await office.work()
    (trigger,) = await office.records(TriggerRecord, await office.child())
    assert ("b", "a") == trigger.granted_scopes
    policy = trigger.policy
    assert (3, 0.5, 400) == (policy.max_steps, policy.max_cost_per_run, policy.max_tokens_per_run)
    assert (1, 2) == (trigger.parent.depth, trigger.parent.max_depth)


@pytest.mark.parametrize("own", [0.1, None])
async def test_a_childs_own_budget_may_be_smaller(office: Office, own: float | None) -> None:
    """What the child's engine allows is not raised by what its parent set aside."""
    office.policies["digger"] = EnginePolicy(max_cost_per_run=own)
    await office.ask()
    await office.work()
    (trigger,) = await office.records(TriggerRecord, await office.child())
    assert (own or 1.0, None) == (
        trigger.policy.max_cost_per_run,
        trigger.policy.max_tokens_per_run,
    )


async def test_what_a_child_used_is_settled(office: Office) -> None:
    """The parent's session counts what its child used, and gives the rest of its budget back."""
    usage = Usage(input_tokens=30, output_tokens=12, cost_micros=777)
    office.models["digger"] = lambda _: ProviderDecision(action=Respond("dug"), usage=usage)
    await office.ask()
    await office.work()
    engine = office.engine(office.store, "boss")
    assert engine is not None
    state = (await engine._turns.sessions.look_at("s")).projection.usage
    assert (777, 42, 0, 0) == (
        state.cost_micros,
        state.tokens,
        state.reserved_micros,
        state.reserved_tokens,
    )


async def test_children_have_children(office: Office) -> None:
    """A child may delegate in its turn; results come back through each session."""

    def digger(request: Any) -> Any:
        if request.context.step == 1:
            return to("mole")
        return Respond(f"digger: {result_in(request)['response']}")

    office.models |= {"digger": digger, "mole": lambda _: Respond("mole")}
    await office.ask()
    await office.work()
    assert "boss: digger: mole" == (await office.outcome()).response
    grandchild = await office.child(await office.child())
    (trigger,) = await office.records(TriggerRecord, grandchild)
    assert (2, "ann") == (trigger.parent.depth, trigger.parent.requester)


async def test_rows_that_are_delivered_twice(office: Office) -> None:
    """However often a row is published, there is one child, one result and one answer."""
    await office.ask()
    await office.work(twice=True)
    assert "boss: dug" == (await office.outcome()).response
    counts = [
        len(await office.records(TriggerRecord, session_id))
        for session_id in ("s", await office.child())
    ]
    assert [2, 1] == counts


async def test_a_child_that_waits_keeps_its_parent_waiting(office: Office) -> None:
    """Suspended, a child says nothing to its parent until a person has let it go on.

    Who set the parent in motion cannot be the one who approves, where that is excluded.
    """
    office.models["digger"] = lambda request: (
        Suspend(reason="how deep?") if request.context.step == 1 else Respond("dug")
    )
    review = ReviewPolicy(requester_may_approve=False)
    office.profiles["digger"] = profile_of("digger", review=review)
    await office.ask()
    await office.work()
    child = await office.child()
    assert ("delegated", "suspended") == (
        (await office.outcome()).stop_reason,
        (await office.outcome(child)).stop_reason,
    )
    (pending,) = await office.records(PendingApproval, child)
    for approver, response in (("ann", None), ("eve", "boss: dug")):
        engine = office.engine(office.store, "digger")
        assert engine is not None
        approval = Approval(
            resume_token=pending.resume_token, decision="approved", approver=approver
        )
        await engine.submit(
            ProcessRequest(session_id=child, trigger=approval, granted_scopes=REVIEWER)
        )
        await office.work()
        assert response == (await office.outcome()).response


@pytest.mark.parametrize(
    ("digger", "stop_reason"),
    [
        (
            lambda _: ProviderError("down", kind="configuration", retryable=False),
            "provider_failure",
        ),
        (lambda _: to("elsewhere"), "max_steps_reached"),
    ],
    ids=["provider", "steps"],
)
async def test_a_child_that_fails_tells_its_parent(
    office: Office, digger: Any, stop_reason: str
) -> None:
    """The parent's model sees how its child ended, and goes on."""
    office.models["digger"] = digger
    await office.ask()
    await office.work()
    assert "boss: None" == (await office.outcome()).response
    told = result_in(office.requests["boss"][-1][-1])
    assert (stop_reason, True) == (told["stop_reason"], bool(told["detail"]))
    (result,) = [
        record.trigger
        for record in await office.records(TriggerRecord)
        if isinstance(record.trigger, DelegationResult)
    ]
    assert result.failed


async def test_a_cancelled_child_tells_its_parent(office: Office) -> None:
    """A child that somebody stops has ended, and its parent goes on."""
    office.models["digger"] = lambda _: Suspend(reason="how deep?")
    await office.ask()
    await office.work()
    engine = office.engine(office.store, "digger")
    assert engine is not None
    await engine.cancel(await office.child(), "enough")
    await office.work()
    told = result_in(office.requests["boss"][-1][-1])
    assert ("cancelled", "enough") == (told["stop_reason"], told["detail"])


@pytest.mark.parametrize("began", [False, True])
async def test_a_parents_cancellation_reaches_its_child(office: Office, began: bool) -> None:  # noqa: FBT001
    """A parent that is stopped stops its child, and its grandchild; nobody works for nothing."""
    office.models["digger"] = lambda request: to("mole")
    office.models["mole"] = lambda request: Suspend(reason="how deep?")
    await office.ask()
    engine = office.engine(office.store, "boss")
    assert engine is not None
    if began:
        await office.work()
    else:
        await engine.advance(ContinueRequest(session_id="s"))
    await engine.cancel("s", "enough")
    await office.work()
    child = await office.child()
    ends = [await office.end(), await office.end(child)]
    if began:
        ends.append(await office.end(await office.child(child)))
    assert [("cancelled", "enough")] * len(ends) == [(e.stop_reason, e.detail) for e in ends]


async def test_what_is_called_off_is_the_delegated_run(office: Office) -> None:
    """Whatever else was asked of the child is done, and the delegated run is stopped."""

    def digger(request: Any) -> Any:
        if isinstance(request.trigger, Message):
            return Respond("I am waiting")
        return Suspend(reason="how deep?")

    office.models["digger"] = digger
    await office.ask()
    await office.work()
    child = await office.child()
    asked = Message(user_id="bob", content="What are you doing?")
    engine, parent = (office.engine(office.store, name) for name in ("digger", "boss"))
    assert engine is not None
    assert parent is not None
    await engine.submit(ProcessRequest(session_id=child, trigger=asked))
    await parent.cancel("s", "enough")
    await parent.advance(ContinueRequest(session_id="s"))
    await office.deliver()
    for _ in range(2):
        await engine.advance(ContinueRequest(session_id=child))
    ends = {e.stop_reason: e.response for e in await office.records(OutcomeRecord, child)}
    assert {"suspended": None, "responded": "I am waiting", "cancelled": None} == ends


async def test_a_child_that_has_ended_cannot_be_called_off(office: Office) -> None:
    """A cancellation that comes too late is no error."""
    await office.ask()
    await office.work()
    child = await office.child()
    row = _row("delegation:digger", {"kind": "cancelled", "correlation_id": "x", "reason": "r"})
    await office.sub_agents.publish(row)  # one that never began
    before = await office.outcome(child)
    correlation_id = next(
        o.resume_token for o in await office.records(OutcomeRecord) if o.resume_token
    )
    row = attrs.evolve(row, payload=row.payload | {"correlation_id": correlation_id})
    await office.sub_agents.publish(row)
    await office.work()
    assert before == await office.outcome(child)


def _row(topic: str, payload: Any, **options: Any) -> OutboxEntry:
    place = {"tenant": "default", "session_id": "s", "sequence": 1, "ordinal": 0}
    return OutboxEntry(topic=topic, payload=payload, attempts=1, **(place | options))


async def test_an_agent_that_is_not_there(office: Office) -> None:
    """An order for an agent without an engine is tried again until there is one."""
    digger = office.models.pop("digger")
    await office.ask()
    with pytest.raises(NoSuchAgent) as caught:
        await office.work()
    assert ("digger", "delegated") == (caught.value.agent, (await office.outcome()).stop_reason)
    office.models["digger"] = digger
    await trio.sleep(1)
    await office.work()
    assert "boss: dug" == (await office.outcome()).response


async def test_an_engine_of_another_agent(office: Office) -> None:
    """A host that gives another agent's engine is told that it has none."""
    sub_agents = SubAgents(office.store, lambda ledger, _: office.engine(ledger, "boss"))
    await office.ask()
    with pytest.raises(NoSuchAgent):
        await office.work(sub_agents)


async def test_a_task_that_cannot_begin(office: Office) -> None:
    """A parent whose order the child's ledger does not take is told so, and goes on."""
    office.models["boss"] = lambda request: (
        to("digger", payload="x" * 10_000)
        if request.context.step == 1
        else Respond(result_in(request)["detail"])
    )
    narrow = InMemoryLedger(office.clock, backing=office.truth, max_payload_bytes=8_192)

    def engine_for(ledger: Any, name: str) -> Any:
        return office.engine(narrow if name == "digger" else ledger, name)

    await office.ask()
    await office.work(SubAgents(office.store, engine_for))
    assert (await office.outcome()).response.startswith("it could not begin: $: ")


async def test_an_answer_that_is_too_large(office: Office) -> None:
    """Where a child answers more than its parent's ledger takes, the parent is told that."""
    office.store = office.truth = InMemoryLedger(office.clock, max_payload_bytes=65_536)
    office.models["digger"] = lambda _: Respond("x" * 60_000)
    await office.ask()
    await office.work()
    told = result_in(office.requests["boss"][-1][-1])
    assert ("responded", None) == (told["stop_reason"], told["response"])
    assert "too large to be handed back" in told["detail"]


@pytest.mark.parametrize("topic", ["delegation:digger", "delegation-result"])
@pytest.mark.parametrize("payload", [None, 7, {}, {"kind": "cancelled"}, {"session_id": "s"}])
async def test_poison(office: Office, topic: str, payload: Any) -> None:
    """A row that cannot be read will never be accepted."""
    with pytest.raises(Undeliverable):
        await office.sub_agents.publish(_row(topic, payload))


async def test_a_result_for_nobody(office: Office) -> None:
    """A result for a session that is not there any more is undeliverable."""
    payload = {"agent": "boss", "session_id": "gone", "correlation_id": "c", "payload": None}
    row = _row("delegation-result", payload | {"cost_micros": 0, "tokens": 0})
    with pytest.raises(Undeliverable, match="nobody waits"):
        await office.sub_agents.publish(row)


async def test_other_rows_go_elsewhere(office: Office) -> None:
    """What is no delegation goes to the other publisher as it is, whose errors are its own."""
    published: list[OutboxEntry] = []

    class Elsewhere:
        async def publish(self, entry: OutboxEntry) -> None:
            published.append(entry)
            if entry.payload == "bad":
                raise ValueError("bad")

    row = _row("mail", {"to": "ann"})
    with pytest.raises(Undeliverable, match="no publisher"):
        await office.sub_agents.publish(row)
    both = attrs.evolve(office.sub_agents, publisher=Elsewhere())
    await both.publish(row)
    with pytest.raises(ValueError, match="bad"):
        await both.publish(attrs.evolve(row, payload="bad"))
    assert row is published[0]


async def test_tenants_stay_apart(office: Office) -> None:
    """A child is a session of its parent's tenant."""
    ledger = office.truth.for_tenant("acme")
    engine = office.engine(ledger, "boss")
    assert engine is not None
    await engine.advance(ProcessRequest(session_id="s", trigger=Message(user_id="u", content="x")))
    (due,) = await office.store.due("outbox")
    (row,) = await office.rows(due)
    await office.sub_agents.publish(row)
    assert [("acme", "digger")] == [(d.tenant, d.agent) for d in await office.store.due("run")]


@pytest.mark.parametrize("when", ["before", "after"])
async def test_crashes_at_every_append(stage: Any, when: Any) -> None:
    """Wherever the process dies, parent, child and grandchild end once, with one effect."""
    for at in range(1, 100):
        done: list[str] = []

        @skill(effects="idempotent")
        async def dig(key: str) -> str:
            """Dig."""
            done.append(key)  # noqa: B023 - made and used in one round
            return "dug"

        def digger(request: Any) -> Any:
            if request.context.step == 1:
                return to("mole")
            return Respond(f"digger: {result_in(request)['response']}")

        def mole(request: Any) -> Any:
            call = PlannedSkillCall(call_id="c", name="dig", args={"key": "k"})
            return CallSkills([call]) if request.context.step == 1 else Respond("mole")

        office = Office({"boss": boss, "digger": digger, "mole": mole}, skills=[dig])
        office.store = dying = CrashingLedger(office.truth, at, when)
        try:
            await office.ask(key="k")
            await office.work()
        except SimulatedCrash:
            office.store = InMemoryLedger(office.clock, backing=office.truth)
            await trio.sleep(60)  # until the dead process's leases are over
            await office.ask(key="k")
            await office.work()
        assert "boss: digger: mole" == (await office.outcome()).response
        sessions = ["s", child := await office.child(), await office.child(child)]
        triggers = [len(await office.records(TriggerRecord, name)) for name in sessions]
        assert ([2, 2, 1], 1) == (
            triggers,
            len(await office.records(ToolResult, sessions[-1])),
        )
        assert all([(await verify_session(office.truth, name)).ok for name in sessions])
        if not dying.crashed:
            assert 1 == len(done)
            return
    raise AssertionError("it never came to its end")
