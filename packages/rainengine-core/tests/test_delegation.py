"""Work that is handed over: what leaves with it, what it may use, and how its result comes back."""

from __future__ import annotations

from typing import Any

import attrs
import pytest

from rainengine.core import (
    AgentProfile,
    Approval,
    Delegate,
    DelegationResult,
    EnginePolicy,
    Message,
    ProviderDecision,
    Respond,
)
from rainengine.core.abc import DelegationCancelled, DelegationOrder, SessionQuery, Usage
from rainengine.core.codec import encode_value, read_order, read_result
from rainengine.core.errors import InadmissibleValue
from rainengine.core.inmemory import InMemoryLedger
from rainengine.core.records import (
    DelegatedTask,
    Delegation,
    DelegationRequested,
    DelegationResolved,
    DelegationTarget,
    EscalationPolicy,
    KernelEventRecord,
    ModelDecision,
    OutcomeRecord,
    ParentRun,
    PendingApproval,
    ReviewPolicy,
)

REVIEWER = ("scope:human_approval",)
TASK = DelegatedTask(task_type="dig", payload={"deep": True})
DIG = Delegate(target=DelegationTarget(stream="diggers", worker="bob"), task=TASK)
UNASKED = ReviewPolicy(require_review_for_delegation=False)
FREE = AgentProfile(delegates=("diggers",), review=UNASKED)


def back(stage: Any, correlation_id: str, key: str | None = None, **options: Any) -> Any:
    """A request that brings a result."""
    options = {"payload": {"dug": 1}} | options
    return stage.request(key, trigger=DelegationResult(correlation_id=correlation_id, **options))


async def delegated(stage: Any, engine: Any, request: Any = None) -> str:
    """Run until work is handed over; return its correlation id."""
    outcome = (await stage.play(engine, request))[-1].outcome
    assert "delegated" == outcome.stop_reason
    return str(outcome.resume_token)


async def rows(stage: Any, session_id: str = "s") -> list[Any]:
    """What the session has to be delivered."""
    return list(await stage.ledger.claim("default", session_id, claim_ms=1))


async def state(stage: Any) -> str:
    """How the session is listed."""
    (info,) = (await stage.ledger.list_sessions(SessionQuery())).sessions
    return info.state


def paid(action: Any, micros: int, tokens: int = 0) -> ProviderDecision:
    """A decision that costs something."""
    usage = Usage(input_tokens=tokens, output_tokens=0, cost_micros=micros)
    return ProviderDecision(action=action, usage=usage)


# Handing over.


async def test_work_leaves_with_the_decision(stage: Any) -> None:
    """Record, event, outcome and the row that carries it out are one append with the decision."""
    policy = EnginePolicy(max_tokens_per_run=1_000)
    engine = stage.engine([DIG], profile=FREE, policy=policy)
    token = await delegated(stage, engine, stage.request(granted_scopes=("a",)))
    kinds = await stage.kinds()
    assert ["model_decision", "delegation", "kernel_event", "outcome"] == kinds[-4:]
    (made,) = await stage.records(Delegation)
    assert (DIG.target, TASK, 1, 1, True) == (
        made.target,
        made.task,
        made.step,
        made.depth,
        made.automatic,
    )
    *_, event = [record.event for record in await stage.records(KernelEventRecord)]
    requested = DelegationRequested(correlation_id=token, stream="diggers", task_type="dig")
    assert (requested, 2) == (event, stage.ledger.stats().appends)
    (row,) = await rows(stage)
    assert "delegation:diggers" == row.topic
    assert DelegationOrder(
        session_id="s",
        agent="default",
        correlation_id=token,
        worker="bob",
        task=TASK,
        granted_scopes=("a",),
        budget_micros=1_000_000,
        budget_tokens=1_000,
        depth=1,
        max_depth=3,
        requester="user",
    ) == read_order(row.payload)
    assert ("delegated", None) == (await state(stage), (await stage.ledger.lease_of("s")).owner)


@pytest.mark.parametrize("delegates", [(), ("others",)])
async def test_only_named_streams(stage: Any, delegates: tuple[str, ...]) -> None:
    """A delegation to a stream that the profile does not name cannot be followed."""
    profile = AgentProfile(delegates=delegates, review=UNASKED)
    engine = stage.engine([DIG, Respond("x")], profile=profile)
    *_, last = await stage.play(engine)
    assert ("x", []) == (last.outcome.response, await rows(stage))
    assert (await stage.records(ModelDecision))[0].invalid is not None
    assert bool(delegates) == ("delegate" in stage.provider.requests[0].actions)


async def test_a_person_is_asked_by_default(stage: Any) -> None:
    """Without a policy that says otherwise work leaves only after an approval."""
    engine = stage.engine([DIG], profile=AgentProfile(delegates=("diggers",)))
    (result,) = await stage.play(engine)
    (pending,) = await stage.records(PendingApproval)
    assert ("suspended", DIG, []) == (
        result.outcome.stop_reason,
        pending.delegation,
        await rows(stage),
    )
    approval = Approval(resume_token=pending.resume_token, decision="approved")
    token = await delegated(stage, engine, stage.request(trigger=approval, granted_scopes=REVIEWER))
    (made,) = await stage.records(Delegation)
    assert (token, False) == (made.correlation_id, made.automatic)
    assert (1, "delegated") == (len(await rows(stage)), await state(stage))


@pytest.mark.parametrize("review", [ReviewPolicy(), UNASKED], ids=["asked", "unasked"])
async def test_work_that_cannot_go_out(stage: Any, review: ReviewPolicy) -> None:
    """Nobody is asked of an order that does not fit into the outbox; its decision is invalid."""
    text = "x" * (stage.ledger.max_payload_bytes - 15_000)
    large = attrs.evolve(DIG, task=DelegatedTask(task_type="dig", payload=text))
    profile = AgentProfile(delegates=("diggers",), review=review)
    engine = stage.engine([large, Respond("too much")], profile=profile)
    asked = Message(user_id="u" * 20_000, content="dig")  # who is named by the order
    results = await stage.play(engine, stage.request(trigger=asked))
    assert "too much" == results[-1].outcome.response
    assert "bytes of JSON" in (await stage.records(ModelDecision))[0].invalid


async def test_an_approved_order_that_no_longer_fits(stage: Any) -> None:
    """Its approval is refused, as often as it is given; a rejection ends the wait."""
    text = "x" * (stage.ledger.max_payload_bytes // 2)
    large = attrs.evolve(DIG, task=DelegatedTask(task_type="dig", payload=text))
    profile = AgentProfile(delegates=("diggers",))
    await stage.play(stage.engine([large], profile=profile))
    (pending,) = await stage.records(PendingApproval)
    small = InMemoryLedger(backing=stage.ledger, max_payload_bytes=len(text))
    engine = stage.engine([Respond("x")], profile=profile, ledger=small)

    async def decide(decision: Any) -> OutcomeRecord:
        trigger = Approval(resume_token=pending.resume_token, decision=decision)
        request = stage.request(trigger=trigger, granted_scopes=REVIEWER)
        return (await stage.play(engine, request))[-1].outcome

    for _ in range(2):
        refused = await decide("approved")
        assert "policy_aborted" == refused.stop_reason
        assert "bytes of JSON" in refused.detail
    assert ([], "suspended") == (await rows(stage), await state(stage))
    assert "x" == (await decide("rejected")).response


async def test_a_rejected_delegation(stage: Any) -> None:
    """The run goes on, and the model sees that it was rejected, and why."""
    profile = AgentProfile(delegates=("diggers",))
    engine = stage.engine([DIG, Respond("x")], profile=profile)
    await stage.play(engine)
    (pending,) = await stage.records(PendingApproval)
    rejected = Approval(
        resume_token=pending.resume_token, decision="rejected", comment="dig yourself"
    )
    (result,) = await stage.play(engine, stage.request(trigger=rejected, granted_scopes=REVIEWER))
    assert ("x", []) == (result.outcome.response, await rows(stage))
    assert "dig yourself" in encode_value(stage.provider.requests[-1].messages).decode()


async def test_so_many_go_out_unasked(stage: Any) -> None:
    """After `max_auto_delegations` in a session people are asked; what they allow counts not."""
    profile = attrs.evolve(FREE, escalation=EscalationPolicy(max_auto_delegations=2))
    engine = stage.engine([DIG] * 4, profile=profile)
    for _ in range(2):
        await delegated(stage, engine)
    for number in range(2):
        (result,) = await stage.play(engine)
        assert "2 delegations went out unasked, which is the limit" == result.outcome.detail
        token = (await stage.records(PendingApproval))[number].resume_token
        approval = Approval(resume_token=token, decision="approved")
        await delegated(stage, engine, stage.request(trigger=approval, granted_scopes=REVIEWER))
    automatic = [made.automatic for made in await stage.records(Delegation)]
    assert [True, True, False, False] == automatic


@pytest.mark.parametrize(
    ("own", "inherited", "may"), [(2, None, False), (3, 2, False), (3, None, True), (5, 3, True)]
)
async def test_delegations_follow_each_other_so_deep(
    stage: Any, own: int, inherited: int | None, may: Any
) -> None:
    """At the depth that the profile or the parent allows, the model cannot delegate."""
    profile = attrs.evolve(FREE, escalation=EscalationPolicy(max_delegation_depth=own))
    parent = ParentRun(agent="a", session_id="p", correlation_id="c", depth=2, max_depth=inherited)
    engine = stage.engine([DIG, Respond("x")], profile=profile)
    await stage.play(engine, stage.request(parent=parent))
    assert may == ("delegate" in stage.provider.requests[0].actions)
    orders = [read_order(row.payload) for row in await rows(stage) if "digg" in row.topic]
    assert [(3, 3)] * may == [(order.depth, order.max_depth) for order in orders]


# Its result.


async def test_a_result_resumes_the_run(stage: Any) -> None:
    """The run goes on with the result in its conversation; the correlation id stays out of it."""
    engine = stage.engine([DIG, Respond("x")], profile=FREE)
    token = await delegated(stage, engine)
    (result,) = await stage.play(engine, back(stage, token, metadata={"by": "bob"}))
    assert ("x", 2) == (result.outcome.response, result.outcome.steps_executed)
    events = [record.event for record in await stage.records(KernelEventRecord)]
    resolved = DelegationResolved(correlation_id=token, cost_micros=1_000_000, tokens=0)
    assert [resolved] == [event for event in events if isinstance(event, DelegationResolved)]
    told = encode_value(stage.provider.requests[-1].messages).decode()
    assert ('{"dug":1}' in told, token in told, "bob" in told) == (True, False, False)


async def test_duplicates_and_strangers(stage: Any) -> None:
    """A second result, one that nobody waits for, and one for an approval resume nothing."""
    engine = stage.engine([DIG, DIG, Respond("x")], profile=FREE)
    first = await delegated(stage, engine)
    second = await delegated(stage, engine)
    await stage.play(engine, back(stage, first, "r"))
    for stranger in (back(stage, first), back(stage, "0" * 32), back(stage, "")):
        (result,) = await stage.play(engine, stranger)
        assert "policy_aborted" == result.outcome.stop_reason
    again = await engine.advance(back(stage, first, "r"))
    assert (True, "x") == (again.outcome.idempotent_replay, again.outcome.response)
    approval = Approval(resume_token=second, decision="approved")
    (result,) = await stage.play(engine, stage.request(trigger=approval, granted_scopes=REVIEWER))
    assert "nothing in this session waits for this answer" == result.outcome.detail
    assert 3 == len(stage.provider.requests)


# Budgets.


@pytest.mark.parametrize(
    ("reported", "counted"),
    [
        ({}, (400_000, 700)),
        ({"cost_micros": 3, "tokens": 5}, (3, 5)),
        ({"cost_micros": 0, "tokens": 0}, (0, 0)),
        ({"cost_micros": -1, "tokens": -5}, (400_000, 700)),
        ({"cost_micros": 2**60, "tokens": 2**60}, (400_000, 700)),
        ({"cost_micros": 500_000, "tokens": 800}, (500_000, 800)),
    ],
    ids=["missing", "sound", "nothing", "negative", "absurd", "too much"],
)
async def test_a_budget_is_set_aside_and_settled(
    stage: Any, reported: dict[str, Any], counted: tuple[int, int]
) -> None:
    """What is set aside counts as used until the result says what was; if it does not, all was."""
    policy = EnginePolicy(max_cost_per_delegation=0.4, max_tokens_per_run=800)
    engine = stage.engine([paid(DIG, 1_000, 100), Respond("x")], profile=FREE, policy=policy)
    token = await delegated(stage, engine)
    usage = (await stage.replayed()).usage
    assert (1_000, 400_000, 700) == (
        usage.cost_micros,
        usage.reserved_micros,
        usage.reserved_tokens,
    )
    await stage.play(engine, back(stage, token, **reported))
    usage = (await stage.replayed()).usage
    assert (1_000 + counted[0], 100 + counted[1], 0, 0) == (
        usage.cost_micros,
        usage.tokens,
        usage.reserved_micros,
        usage.reserved_tokens,
    )


@pytest.mark.parametrize("amount", [float("nan"), 1.5, "1", True, 2**64])
async def test_costs_that_are_none(stage: Any, amount: Any) -> None:
    """A cost that is no whole number is an error of whoever reports it; nothing is stored."""
    engine = stage.engine([DIG, Respond("x")], profile=FREE)
    token = await delegated(stage, engine)
    before = await stage.stored()
    for field in ("cost_micros", "tokens"):
        with pytest.raises(InadmissibleValue):
            await engine.advance(back(stage, token, **{field: amount}))
    assert before == await stage.stored()


@pytest.mark.parametrize(
    ("limits", "budget"),
    [
        ({}, (1_000_000, None)),
        ({"max_cost_per_session": 0.5}, (400_000, None)),
        ({"max_cost_per_run": 0.3}, (200_000, None)),
        ({"max_cost_per_run": 0.05}, (0, None)),
        ({"max_cost_per_delegation": 0.2}, (200_000, None)),
        ({"max_tokens_per_run": 100}, (1_000_000, 70)),
        ({"max_tokens_per_run": 100, "max_tokens_per_session": 50}, (1_000_000, 20)),
        ({"max_tokens_per_session": 10}, (1_000_000, 0)),
    ],
    ids=str,
)
async def test_a_delegation_gets_of_what_is_left(
    stage: Any, limits: dict[str, Any], budget: tuple[int, int | None]
) -> None:
    """It is bounded by every ceiling, and what the deciding call used counts already."""
    policy = EnginePolicy(**limits)
    engine = stage.engine([paid(DIG, 100_000, 30)], profile=FREE, policy=policy)
    await delegated(stage, engine)
    (made,) = await stage.records(Delegation)
    assert budget == (made.budget_micros, made.budget_tokens)


@pytest.mark.parametrize("limits", [{"max_cost_per_run": 0.5}, {"max_tokens_per_run": 500}])
async def test_what_handed_over_work_used_counts_for_its_run(
    stage: Any, limits: dict[str, Any]
) -> None:
    """The ceilings of a run are for itself and all that works for it, once that is back."""
    policy = EnginePolicy(**limits)
    engine = stage.engine([DIG, Respond("never")], profile=FREE, policy=policy)
    token = await delegated(stage, engine)
    (result,) = await stage.play(engine, back(stage, token, cost_micros=500_000, tokens=500))
    (ceiling,) = limits
    outcome = (await stage.records(OutcomeRecord))[-1]
    assert ("policy_aborted", 1) == (result.outcome.stop_reason, len(stage.provider.requests))
    assert outcome.limit is not None
    assert ceiling == outcome.limit.name


@pytest.mark.parametrize("wrong", [{"depth": -1}, {"depth": 0, "max_depth": -1}])
async def test_depths_that_cannot_be(stage: Any, wrong: dict[str, int]) -> None:
    """Who claims to be delegated from less than nothing is refused; nothing is stored."""
    parent = ParentRun(agent="boss", session_id="p", correlation_id="c", **wrong)
    engine = stage.engine([DIG], profile=FREE)
    for bring in (engine.submit, engine.advance):
        with pytest.raises(InadmissibleValue, match="depth"):
            await bring(stage.request(parent=parent))
    assert [] == await stage.stored()


async def test_what_is_set_aside_is_not_there_for_others(stage: Any) -> None:
    """While work is out, other runs of the session have only the rest of its budget."""
    policy = EnginePolicy(max_cost_per_session=1.5, max_cost_per_delegation=1.0)
    engine = stage.engine([DIG, DIG, DIG, DIG], profile=FREE, policy=policy)
    tokens = [await delegated(stage, engine) for _ in range(2)]
    budgets = [made.budget_micros for made in await stage.records(Delegation)]
    assert [1_000_000, 500_000] == budgets
    (result,) = await stage.play(engine)
    assert "policy_aborted" == result.outcome.stop_reason
    await delegated(stage, engine, back(stage, tokens[0], cost_micros=0, tokens=0))
    assert 1_000_000 == (await stage.records(Delegation))[-1].budget_micros


# A parent that is stopped.


async def test_a_cancelled_parent_calls_its_work_off(stage: Any) -> None:
    """Whoever works for it is told; what was set aside counts as used; a result is too late."""
    engine = stage.engine([DIG], profile=FREE)
    token = await delegated(stage, engine)
    await engine.cancel("s", "never mind")
    result = await engine.advance(stage.go_on)
    assert ("cancelled", "stopped") == (result.outcome.stop_reason, await state(stage))
    stage.clock.jump(10)
    order, cancelled = await rows(stage)
    assert order.topic == cancelled.topic
    assert DelegationCancelled(correlation_id=token, reason="never mind") == read_order(
        cancelled.payload
    )
    usage = (await stage.replayed()).usage
    assert (1_000_000, 0) == (usage.cost_micros, usage.reserved_micros)
    (result,) = await stage.play(engine, back(stage, token, cost_micros=1))
    assert "it is resolved already: answered before, or called off" == result.outcome.detail


async def test_work_that_never_comes_back(stage: Any) -> None:
    """After its time a delegation is called off as if it were cancelled; a result is too late."""
    profile = attrs.evolve(FREE, escalation=EscalationPolicy(delegation_ttl_ms=1_000))
    engine = stage.engine([DIG], profile=profile)
    token = await delegated(stage, engine)
    (made,) = await stage.records(Delegation)
    assert stage.clock.now_ms() + 1_000 == made.expires_at_ms
    stage.clock.jump(999)
    assert [] == [s.session_id for s in await stage.ledger.due("wake", now_ms=stage.clock.now_ms())]
    stage.clock.jump(1)
    (due,) = await stage.ledger.due("wake", now_ms=stage.clock.now_ms())
    assert ("s", ()) == (due.session_id, await engine.fire_wakes("s"))
    outcome = (await engine.advance(stage.go_on)).outcome
    assert ("cancelled", "no result came in time") == (outcome.stop_reason, outcome.detail)
    cancelled = [read_order(row.payload) for row in await rows(stage)][-1]
    assert DelegationCancelled(correlation_id=token, reason=outcome.detail) == cancelled
    (late,) = await stage.play(engine, back(stage, token))
    assert "it is resolved already: answered before, or called off" == late.outcome.detail


@pytest.mark.parametrize("late", [False, True])
async def test_a_result_counts_by_when_it_was_stored(stage: Any, *, late: bool) -> None:
    """One that came in time resumes the run however late it is taken in; without a worker too."""
    profile = attrs.evolve(FREE, escalation=EscalationPolicy(delegation_ttl_ms=1_000))
    engine = stage.engine([DIG, Respond("x")], profile=profile)
    token = await delegated(stage, engine)
    stage.clock.jump(1_000 if late else 999)
    await engine.submit(back(stage, token))
    stage.clock.jump(9_000)
    assert () == await engine.fire_wakes("s")
    outcome = (await stage.play(engine, stage.go_on))[-1].outcome
    assert ("it has expired" if late else "x") == (outcome.detail or outcome.response)


@pytest.mark.parametrize("end", ["resolved", "failed", "called_off"])
async def test_settled_work_is_only_counted(stage: Any, end: str) -> None:
    """Work that is out stands among the world's resources until it is back, or called off."""
    engine = stage.engine([DIG, Respond("x")], profile=FREE)
    token = await delegated(stage, engine)
    assert [token] == list((await stage.replayed()).world.resources)
    if end == "called_off":
        await engine.cancel("s", "enough")
        await engine.advance(stage.go_on)
    else:
        await stage.play(engine, back(stage, token, failed=end == "failed"))
    world = (await stage.replayed()).world
    assert ({}, {end: 1}) == (world.resources, world.settled_delegations)


async def test_a_delegated_run_tells_what_it_still_has_out(stage: Any) -> None:
    """A run that was delegated itself and is stopped tells its parent the cost of all of it."""
    parent = ParentRun(agent="boss", session_id="p", correlation_id="c", depth=1)
    engine = stage.engine([paid(DIG, 7)], profile=FREE)
    await delegated(stage, engine, stage.request(parent=parent))
    await engine.cancel("s", "enough")
    await engine.advance(stage.go_on)
    stage.clock.jump(10)
    result = read_result(next(r.payload for r in await rows(stage) if "result" in r.topic))
    assert ("boss", "p", "c", 1_000_007, "cancelled") == (
        result.agent,
        result.session_id,
        result.correlation_id,
        result.cost_micros,
        result.payload["stop_reason"],
    )


@pytest.mark.parametrize("payload", [None, {}, [], {"kind": "order"}, {"kind": "cancelled"}])
def test_rows_that_cannot_be_read(payload: Any) -> None:
    """What is no order and no result is told to be none."""
    for read in (read_order, read_result):
        with pytest.raises(InadmissibleValue):
            read(payload)
