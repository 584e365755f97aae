"""Planning: what an agent sets out to do, and what becomes of it."""

from __future__ import annotations

from typing import Any

import attrs
import pytest

from rainengine.core import (
    AgentProfile,
    Approval,
    CallSkills,
    Continue,
    Delegate,
    DelegationResult,
    EnginePolicy,
    MemoryArchive,
    Plan,
    ProviderConfig,
    Respond,
    Suspend,
    Yield,
)
from rainengine.core.abc import PlannerOutput, PlanningQuestion, ProposedPlan, Quote
from rainengine.core.errors import ProviderError
from rainengine.core.inmemory import ScriptedProvider
from rainengine.core.records import (
    AskingRun,
    ChatMessage,
    DelegatedTask,
    DelegationRequested,
    DelegationResolved,
    DelegationTarget,
    Deliberation,
    ExecutionPlan,
    GoalCreated,
    KernelEventRecord,
    MemoryArchived,
    ModelDecision,
    ParentRun,
    PendingApproval,
    ReviewPolicy,
    TextPart,
    TriggerRecord,
    WakeCompleted,
    WakePolicy,
    WakeRequested,
    WakeScheduled,
)
from rainengine.core.testing import CrashingLedger, SimulatedCrash


class Planning:
    """A planner without a model that plans these steps and events for each run."""

    def __init__(self, *steps: Any, events: Any = ()) -> None:
        self.output: Any = PlannerOutput(
            events=events,
            proposed_plan=ProposedPlan(objective="get it done", steps=steps) if steps else None,
        )
        self.contexts: list[Any] = []

    def plan(self, state: Any, context: Any) -> Any:
        self.contexts.append(context)
        if isinstance(self.output, Exception):
            raise self.output
        return self.output(state, context) if callable(self.output) else self.output

    @classmethod
    def giving(cls, output: Any) -> Planning:
        """A planner that returns or raises this."""
        planner = cls()
        planner.output = output
        return planner


@attrs.define
class Asking:
    """A planner that asks the model, and plans what it answers."""

    steps: Any = ()
    question_: Any = PlanningQuestion(
        messages=(ChatMessage("user", (TextPart("what now?"),)),),
        response_schema={"type": "object"},
    )
    answers: list[str] = attrs.field(factory=list)
    asked: int = 0

    def question(self, *_: Any) -> Any:
        self.asked += 1
        if isinstance(self.question_, Exception):
            raise self.question_
        return self.question_

    def plan_from(self, state: Any, context: Any, answer: str) -> Any:
        self.answers.append(answer)
        if isinstance(self.steps, Exception):
            raise self.steps
        return PlannerOutput(proposed_plan=ProposedPlan(objective="asked", steps=self.steps))


async def plans(stage: Any) -> list[tuple[int, int, str]]:
    """Position, step and status of each record of a plan."""
    return [(plan.position, plan.step, plan.status) for plan in await stage.records(ExecutionPlan)]


async def events(stage: Any, kind: Any) -> list[Any]:
    """The kernel events of a kind."""
    records = await stage.records(KernelEventRecord)
    return [record.event for record in records if isinstance(record.event, kind)]


# Following.


async def test_a_plan_is_stored_with_the_trigger(stage: Any) -> None:
    """What a planner makes of a run is durable together with the run's beginning."""
    planner = Planning(Yield(), events=(GoalCreated(goal_id="g", title="tidy"),))
    engine = stage.engine([], ledger=CrashingLedger(stage.ledger, 2), planner=planner)
    with pytest.raises(SimulatedCrash):
        await engine.advance(stage.request())
    assert await plans(stage) == [(0, 0, "active")]
    assert (await stage.replayed()).world.goals["g"].title == "tidy"


async def test_a_plan_is_followed_without_the_model(stage: Any) -> None:
    """Each advance takes one action, and each is a step; the model is never asked."""
    skill = stage.skill("read")
    steps = (stage.calls("read"), MemoryArchive("it was there"), Respond("done"))
    results = await stage.play(stage.engine([], skill, planner=Planning(*steps)))
    outcome = results[-1].outcome
    assert (len(results), outcome.response, outcome.steps_executed) == (3, "done", 3)
    assert await plans(stage) == [(0, 0, "active"), (1, 1, "active"), (2, 2, "active"),
                                  (3, 3, "completed")]  # fmt: skip
    assert (stage.provider.requests, len(skill.invocations)) == ([], 1)
    assert await events(stage, MemoryArchived) != []


async def test_a_plan_moves_with_its_action(stage: Any) -> None:
    """The position and what the action led to are one append."""
    planner = Planning(stage.calls("read"), Respond("done"))
    await stage.play(stage.engine([], stage.skill("read"), planner=planner))
    assert stage.ledger.stats().commits == 4
    kinds = await stage.kinds()
    first = kinds.index("execution_plan")
    moved = kinds.index("execution_plan", first + 1)
    assert kinds[moved + 1] == "tool_execution_graph"


async def test_a_plans_answer_is_in_the_conversation(stage: Any) -> None:
    """What a plan replied is shown in the next run as any other reply."""
    await stage.play(stage.engine([], planner=Planning(Respond("by plan"))))
    await stage.play(stage.engine([Respond("x")]))
    replies = [
        m.parts[0].text for m in stage.provider.requests[0].messages if m.role == "assistant"
    ]
    assert replies == ["by plan"]


async def test_thoughts_of_a_plan_are_deliberations(stage: Any) -> None:
    """A `Plan` action in a plan is recorded, and said, as a model's own would be."""
    planner = Planning(Plan(summary="first this", confidence=0.9), Respond("done"))
    await stage.play(stage.engine([], planner=planner))
    (thought,) = await stage.records(Deliberation)
    assert (thought.summary, thought.status) == ("first this", "ready_to_act")


async def test_after_a_plan_the_model_is_asked(stage: Any) -> None:
    """A plan that ends without an answer leaves the answer to the model."""
    engine = stage.engine([Respond("x")], stage.skill("a"), planner=Planning(stage.calls("a")))
    results = await stage.play(engine)
    assert (results[-1].outcome.response, results[-1].outcome.steps_executed) == ("x", 2)


async def test_the_planner_is_told_of_the_run(stage: Any) -> None:
    """It learns the trigger, the scopes, and the skills that the run may use."""
    planner = Planning()
    skills = stage.skill("open"), stage.skill("shut", required_scopes=("key",))
    engine = stage.engine([Respond("x")], *skills, planner=planner)
    await engine.advance(stage.request(text="go", granted_scopes=("a",)))
    (context,) = planner.contexts
    assert (context.trigger.content, context.granted_scopes) == ("go", ("a",))
    assert [skill.name for skill in context.skills] == ["open"]
    assert context.now_ms == stage.clock.now_ms()


async def test_a_queued_run_is_planned_when_it_begins(stage: Any) -> None:
    """A trigger that waits for its turn is planned for as it becomes active."""
    engine = stage.engine([], planner=Planning.giving(
        lambda _, context: PlannerOutput(
            proposed_plan=ProposedPlan(
                objective="x", steps=(Respond(f"re: {context.trigger.content}"),)
            )
        )
    ))  # fmt: skip
    await engine.submit(stage.request(text="one"))
    await engine.submit(stage.request(text="two"))
    replies = [(await engine.advance(stage.go_on)).outcome.response for _ in range(2)]
    assert replies == ["re: one", "re: two"]


# Bounds.


async def test_plan_steps_pass_the_gates(stage: Any) -> None:
    """A plan for ever comes to `max_steps` as a model does."""
    planner = Planning(*[Continue()] * 20)
    engine = stage.engine([], planner=planner, policy=EnginePolicy(max_steps=5))
    outcome = (await stage.play(engine))[-1].outcome
    assert (outcome.stop_reason, outcome.steps_executed) == ("max_steps_reached", 5)


async def test_a_plan_is_stopped_by_a_cancel(stage: Any) -> None:
    """Between two steps of a plan a run can be cancelled."""
    engine = stage.engine([], planner=Planning(*[Continue()] * 20))
    await engine.advance(stage.request())
    await engine.cancel("s", "enough")
    assert (await engine.advance(stage.go_on)).outcome.stop_reason == "cancelled"


async def test_a_run_that_is_cancelled_in_the_queue_is_not_planned(stage: Any) -> None:
    """Nothing is planned for a run that will not take a step."""
    planner = Planning(Respond("x"))
    engine = stage.engine([], planner=planner)
    submitted = await engine.submit(stage.request())
    await engine.cancel("s", "enough", trigger_id=submitted.trigger_id)
    assert (await engine.advance(stage.go_on)).outcome.stop_reason == "cancelled"
    assert planner.contexts == []


# Plans that cannot be followed.


@pytest.mark.parametrize(
    ("step", "reason"),
    [
        (CallSkills([]), "the list of calls is empty"),
        (Plan(summary="", confidence=7), "confidence has to lie between 0 and 1, not at 7.0"),
    ],
)
async def test_a_plan_that_cannot_be_followed_is_given_up(
    stage: Any, step: Any, reason: str
) -> None:
    """A malformed action ends the plan, which counts as a step; the model is told and asked."""
    engine = stage.engine([Respond("x")], planner=Planning(Continue(), step, Respond("never")))
    results = await stage.play(engine)
    assert (results[-1].outcome.response, results[-1].outcome.steps_executed) == ("x", 3)
    assert await plans(stage) == [(0, 0, "active"), (1, 1, "active"), (1, 2, "abandoned")]
    told = stage.provider.requests[0].messages[-1].parts[0].value
    assert told == {"event": "plan_given_up", "plan": "get it done", "reason": reason}


async def test_a_plan_whose_calls_fail_is_given_up(stage: Any) -> None:
    """After a failed call the model decides; the plan ends in the append of its decision."""
    bad = stage.skill("bad", stage.returning(ValueError("no")))
    engine = stage.engine([Continue(), Respond("x")], bad,
                          planner=Planning(stage.calls("bad"), Respond("never")))  # fmt: skip
    results = await stage.play(engine)
    assert results[-1].outcome.response == "x"
    assert (await plans(stage))[-1] == (1, 1, "abandoned")
    given_up = {
        "event": "plan_given_up",
        "plan": "get it done",
        "reason": "a step of it failed or was rejected",
    }
    for request in stage.provider.requests:
        assert request.messages[-1].parts[0].value == given_up


async def test_one_failed_call_is_enough(stage: Any) -> None:
    """A plan counts on all of its calls: one that failed beside others breaks it."""
    bad = stage.skill("bad", stage.returning(ValueError("no")))
    planner = Planning(stage.calls("bad", "good"), Respond("never"))
    engine = stage.engine([Respond("x")], bad, stage.skill("good"), planner=planner)
    assert (await stage.play(engine))[-1].outcome.response == "x"


async def test_a_plan_that_waited_goes_on(stage: Any) -> None:
    """A run that a plan suspends goes on with its plan once it is approved."""
    planner = Planning(Suspend(reason="sure?", pending_calls=()), Respond("by plan"))
    engine = stage.engine([], planner=planner)
    waiting = (await stage.play(engine))[-1].outcome
    answer = Approval(resume_token=waiting.resume_token, decision="approved", approver="boss")
    reviewer = ("scope:human_approval",)
    results = await stage.play(engine, stage.request(trigger=answer, granted_scopes=reviewer))
    assert (waiting.stop_reason, results[-1].outcome.response) == ("suspended", "by plan")


DIG = Delegate(
    target=DelegationTarget(stream="diggers"), task=DelegatedTask(task_type="dig", payload=None)
)


@pytest.mark.parametrize("asked", [Suspend(reason="delete it all?"), DIG], ids=["pause", "work"])
async def test_a_rejection_breaks_a_plan(stage: Any, asked: Any) -> None:
    """What a plan does after it asked is not done when the answer is no: the model decides."""
    delete = stage.skill("delete", effects="unsafe")
    planner = Planning(asked, stage.calls("delete"), Respond("never"))
    profile = AgentProfile(delegates=("diggers",))
    engine = stage.engine([Respond("kept")], delete, planner=planner, profile=profile)
    waiting = (await stage.play(engine))[-1].outcome
    answer = Approval(resume_token=waiting.resume_token, decision="rejected", approver="boss")
    request = stage.request(trigger=answer, granted_scopes=("scope:human_approval",))
    results = await stage.play(engine, request)
    assert ("kept", []) == (results[-1].outcome.response, delete.invocations)
    assert "abandoned" == (await plans(stage))[-1][2]


@pytest.mark.parametrize(("failed", "told"), [(True, "kept"), (False, "by plan")])
async def test_delegated_work_that_failed_breaks_a_plan(
    stage: Any, *, failed: bool, told: str
) -> None:
    """A plan counts on what it hands over; only what the result itself says tells, no payload."""
    delete = stage.skill("delete", effects="unsafe")
    planner = Planning(DIG, stage.calls("delete"), Respond("by plan"))
    review = ReviewPolicy(require_review_for_delegation=False)
    profile = AgentProfile(delegates=("diggers",), review=review)
    engine = stage.engine([Respond("kept")], delete, planner=planner, profile=profile)
    waiting = (await stage.play(engine))[-1].outcome
    payload = {"failed": not failed, "stop_reason": "cancelled"}
    result = DelegationResult(correlation_id=waiting.resume_token, payload=payload, failed=failed)
    results = await stage.play(engine, stage.request(trigger=result))
    assert (told, not failed) == (results[-1].outcome.response, bool(delete.invocations))


# Planners that fail.

GARBAGE: dict[str, Any] = {
    "raises": ValueError("no"),
    "nothing": None,
    "text": "a plan",
    "steps that are none": PlannerOutput(
        proposed_plan=ProposedPlan(objective="x", steps=("do it",))  # type: ignore[arg-type]
    ),
    "no tuple": PlannerOutput(proposed_plan=ProposedPlan(objective="x", steps=7)),  # type: ignore[arg-type]
    "too long": PlannerOutput(proposed_plan=ProposedPlan(objective="x", steps=(Continue(),) * 257)),
    "too large": PlannerOutput(
        proposed_plan=ProposedPlan(objective="x", steps=(Respond("x" * 5_000_000),))
    ),
    "text that no ledger takes": PlannerOutput(
        proposed_plan=ProposedPlan(objective="\0", steps=(Continue(),))
    ),
    "events that are none": PlannerOutput(events=("wake up",)),  # type: ignore[arg-type]
    "too many events": PlannerOutput(events=(GoalCreated(goal_id="g", title="t"),) * 257),
    "an event of the engine": PlannerOutput(
        events=(DelegationResolved(correlation_id="c", cost_micros=0, tokens=0),)
    ),
    "a wake without an id": PlannerOutput(
        events=(WakeRequested(wake_id="", due_at_ms=1, reason=""),)
    ),
    "a wake without a time": PlannerOutput(
        events=(WakeRequested(wake_id="w", due_at_ms="soon", reason=""),)  # type: ignore[arg-type]
    ),
    "a wake before all time": PlannerOutput(
        events=(WakeRequested(wake_id="w", due_at_ms=0, reason=""),)
    ),
    "a wake that no store has room for": PlannerOutput(
        events=(WakeRequested(wake_id="w", due_at_ms=2**63, reason=""),)
    ),
    "a wake whose id is too long to fire under": PlannerOutput(
        events=(WakeRequested(wake_id="w" * 510, due_at_ms=1, reason=""),)
    ),
}


@pytest.mark.parametrize("garbage", GARBAGE)
async def test_a_planner_that_fails_leaves_the_run_without_a_plan(
    stage: Any, garbage: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever a planner raises or returns, the trigger is stored and the model is asked."""
    engine = stage.engine([Respond("x")], planner=Planning.giving(GARBAGE[garbage]))
    assert (await stage.play(engine))[-1].outcome.response == "x"
    assert await plans(stage) == []
    assert "the planner failed" in caplog.text


@pytest.mark.parametrize(
    "event",
    [
        DelegationRequested(correlation_id="c", stream="s", task_type="t"),
        WakeCompleted(wake_id="w"),
        MemoryArchived(note_id="n", content="x"),
        WakeScheduled(wake_id="w", due_at_ms=1, reason="", granted_scopes=("root",)),
    ],
)
async def test_a_planner_cannot_tell_of_what_the_engine_does(stage: Any, event: Any) -> None:
    """Events that stand for what the engine did are no planner's, and none of its are stored."""
    goal = GoalCreated(goal_id="g", title="t")
    await stage.engine([Respond("x")], planner=Planning(events=(goal, event))).advance(
        stage.request()
    )
    assert await events(stage, (GoalCreated, type(event))) == []


# Wakes.


def wake(wake_id: str) -> WakeRequested:
    """A wake that a planner asks for."""
    return WakeRequested(wake_id=wake_id, due_at_ms=10**13, reason="look again")


async def test_a_wake_that_is_asked_for_is_scheduled(stage: Any) -> None:
    """It becomes a wake of this agent, with its run's scopes and no others."""
    engine = stage.engine([Respond("x")], planner=Planning(events=(wake("w"),)))
    result = await engine.advance(stage.request(granted_scopes=("a",)))
    (scheduled,) = await events(stage, WakeScheduled)
    assert scheduled == WakeScheduled(
        wake_id="w",
        due_at_ms=10**13,
        reason="look again",
        granted_scopes=("a",),
        agent="default",
        asked_by=AskingRun(requester="user"),
    )
    assert result.wake_request.wake_id == "w"


async def test_a_wake_that_was_asked_for_fires(stage: Any) -> None:
    """When its time has come it is a run of its own, with the scopes it was asked for in."""
    engine = stage.engine([Respond("x"), Respond("awake")], planner=Planning(events=(wake("w"),)))
    await engine.advance(stage.request(granted_scopes=("a",)))
    assert len(await engine.fire_wakes("s", now_ms=10**13)) == 1
    assert (await engine.advance(stage.go_on)).outcome.response == "awake"
    assert stage.provider.requests[1].context.granted_scopes == ("a",)


def again(_: Any, context: Any) -> PlannerOutput:
    """Ask for a wake in each run."""
    return PlannerOutput(events=(wake(f"after {context.trigger_id}"),))


async def test_a_woken_run_may_do_no_more_than_the_one_that_asked(stage: Any) -> None:
    """However often it is woken again: the same scopes, the request's policy, its requester."""
    bounds = EnginePolicy(max_cost_per_run=0.01, max_steps=3)
    asking = stage.engine([Respond("x")], planner=Planning.giving(again))
    await asking.advance(stage.request(granted_scopes=("a",), policy=bounds))
    profile = AgentProfile(default_scopes=("danger",))
    engine = stage.engine(lambda _: Respond("x"), planner=Planning.giving(again), profile=profile)
    for _ in range(2):
        await engine.fire_wakes("s", now_ms=10**13)
        await engine.advance(stage.go_on)
    woken = (await stage.records(TriggerRecord))[1:]
    assert [(run.granted_scopes, run.policy, run.requester) for run in woken] == [
        (("a",), bounds, "user")
    ] * 2


async def test_a_woken_run_follows_its_engines_policy(stage: Any) -> None:
    """A run that came with no policy of its own is woken under what is its engine's by then."""
    await stage.engine([Respond("x")], planner=Planning(events=(wake("w"),))).advance(
        stage.request()
    )
    today = EnginePolicy(max_steps=3)
    await stage.engine(policy=today).fire_wakes("s", now_ms=10**13)
    assert (await stage.records(TriggerRecord))[-1].policy == today


async def test_a_wake_does_not_forget_the_requester(stage: Any) -> None:
    """Who set a run in motion is excluded from what a run that it asked for puts to people."""
    pay = stage.skill("pay", approval_required=True)
    profile = AgentProfile(review=ReviewPolicy(requester_may_approve=False))
    engine = stage.engine(
        [Respond("later"), stage.calls("pay")],
        pay,
        planner=Planning.giving(again),
        profile=profile,
    )
    await stage.play(engine)
    await engine.fire_wakes("s", now_ms=10**13)
    await stage.play(engine, stage.go_on)
    (pending,) = await stage.records(PendingApproval)
    assert pending.excluded_approver == "user"


async def test_a_delegated_run_is_not_woken_again(
    stage: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """Its wake is refused, and the rest of its plan stands.

    What it did later could not be charged to its parent, nor be called off by it.
    """
    planner = Planning(Respond("dug"), events=(GoalCreated(goal_id="g", title="t"), wake("w")))
    parent = ParentRun(agent="boss", session_id="p", correlation_id="c", depth=1)
    result = await stage.engine(planner=planner).advance(stage.request(parent=parent))
    assert result.outcome.response == "dug"
    assert await events(stage, (WakeRequested, WakeScheduled)) == []
    assert len(await events(stage, GoalCreated)) == 1
    assert "a run that was delegated is not woken" in caplog.text


@pytest.mark.parametrize(
    ("policy", "granted"),
    [
        (WakePolicy(allow_scheduled_wakes=False), []),
        (WakePolicy(max_pending_wakes=2), ["w0", "w1"]),
        (WakePolicy(), [f"w{n}" for n in range(8)]),
    ],
)
async def test_wakes_are_bounded_by_their_policy(stage: Any, policy: Any, granted: Any) -> None:
    """As many are scheduled as may be, those of one output included; the rest is left out."""
    asked = tuple(wake(f"w{number}") for number in range(10))
    goal = GoalCreated(goal_id="g", title="t")
    engine = stage.engine(
        [Respond("x")], planner=Planning(events=(*asked, goal)), profile=AgentProfile(wake=policy)
    )
    await engine.advance(stage.request())
    assert [event.wake_id for event in await events(stage, WakeScheduled)] == granted
    assert len(await events(stage, GoalCreated)) == 1


# With the model.


async def test_a_model_planner_takes_the_first_step(stage: Any) -> None:
    """The model is asked for a plan by the planner's own messages, and then not again."""
    planner = Asking(steps=(stage.calls("read"), Respond("done")))
    engine = stage.engine([Respond('{"do": "it"}')], stage.skill("read"), planner=planner)
    results = await stage.play(engine)
    (request,) = stage.provider.requests
    assert (request.purpose, request.actions) == ("plan", {"respond"})
    assert request.config.response_schema == {"type": "object"}
    assert request.messages[0].parts == (TextPart("what now?"),)
    assert planner.answers == ['{"do": "it"}']
    assert (results[-1].outcome.response, results[-1].outcome.steps_executed) == ("done", 3)


async def test_a_plan_and_its_decision_are_one_append(stage: Any) -> None:
    """The decision that a plan was made of is stored with it; the answer is no reply."""
    planner = Asking(steps=(Respond("done"),))
    await stage.play(stage.engine([Respond("plan!")], planner=planner))
    (decision,) = await stage.records(ModelDecision)
    assert (decision.purpose, decision.action, decision.invalid) == ("plan", Continue(), None)
    assert stage.ledger.stats().commits == 3
    said = [item.text for item in (await stage.replayed()).window if item.role == "reply"]
    assert said == ["done"]


@pytest.mark.parametrize(
    ("answer", "steps"),
    [
        (Respond("x"), ValueError("that is no plan")),
        (Respond("x"), 7),
        (Respond("x"), ("do it",)),
        (Respond("  "), ()),
        (Continue(), ()),
        (ProviderError("no", kind="internal", retryable=False), ()),
    ],
    ids=["raises", "garbage", "no actions", "no text", "no answer", "no model"],
)
async def test_a_plan_that_cannot_be_had_is_gone_without(
    stage: Any, answer: Any, steps: Any
) -> None:
    """Whatever goes wrong with it, that was the step, and the model acts in the next."""
    engine = stage.engine([answer, Respond("acted")], planner=Asking(steps=steps))
    outcome = (await stage.play(engine))[-1].outcome
    assert (outcome.response, outcome.steps_executed) == ("acted", 2)
    decision = (await stage.records(ModelDecision))[0]
    assert (decision.purpose, bool(decision.invalid)) == ("plan", True)


async def test_a_plan_that_no_budget_has_room_for(stage: Any) -> None:
    """A question that does not fit is not asked, nor again; the run acts in its next steps."""
    large = ChatMessage("user", (TextPart("x" * 40_000),))
    planner = Asking(question_=PlanningQuestion(messages=(large,)))
    engine = stage.engine(
        [Continue(), Respond("acted")],
        planner=planner,
        policy=EnginePolicy(max_tokens_per_run=30_000),
        provider_config=ProviderConfig(max_tokens=50),
    )
    outcome = (await stage.play(engine))[-1].outcome
    assert ("acted", 3, 1) == (outcome.response, outcome.steps_executed, planner.asked)
    assert ["act", "act"] == [request.purpose for request in stage.provider.requests]
    gone_without, *_ = await stage.records(ModelDecision)
    assert "plan" == gone_without.purpose
    assert "max_tokens_per_run" in (gone_without.invalid or "")


class Brief(ScriptedProvider):
    """A provider that fails to quote long prompts."""

    def quote(self, _: ProviderConfig, input_tokens: int) -> Quote:
        if input_tokens > 20_000:
            raise ValueError("that is too long")
        return Quote(input_tokens=input_tokens, output_tokens=1, cost_micros=0)


async def test_a_plan_that_cannot_be_quoted_is_gone_without(stage: Any) -> None:
    """A provider that fails before it is asked for a plan may still be asked to act."""
    large = ChatMessage("user", (TextPart("x" * 40_000),))
    planner = Asking(question_=PlanningQuestion(messages=(large,)))
    engine = stage.engine(planner=planner, provider=Brief([Respond("acted")]))
    outcome = (await stage.play(engine))[-1].outcome
    assert ("acted", 2) == (outcome.response, outcome.steps_executed)
    gone_without, _ = await stage.records(ModelDecision)
    assert "that is too long" in (gone_without.invalid or "")


@pytest.mark.parametrize("question", [None, ValueError("no")])
async def test_a_model_planner_without_a_question_is_asked_once(stage: Any, question: Any) -> None:
    """Where nothing is to be planned the run begins with its first action, and stays at that."""
    planner = Asking(question_=question)
    engine = stage.engine([Continue(), Continue(), Respond("x")], planner=planner)
    outcome = (await stage.play(engine))[-1].outcome
    assert (outcome.steps_executed, planner.asked) == (3, 1)


async def test_the_last_step_is_not_spent_on_a_plan(stage: Any) -> None:
    """With one step to take, the model is asked for an action."""
    engine = stage.engine([Respond("x")], planner=Asking(), policy=EnginePolicy(max_steps=1))
    assert (await stage.play(engine))[-1].outcome.response == "x"


async def test_a_call_for_a_plan_is_made_again(stage: Any) -> None:
    """A failure that may pass is retried for plans too, and then a plan is what is asked for."""
    error = ProviderError("busy", kind="rate_limited", retryable=True)
    engine = stage.engine([error, Respond("x")], planner=Asking(steps=(Respond("done"),)))
    assert (await stage.play(engine))[-1].outcome.response == "done"
    assert [request.purpose for request in stage.provider.requests] == ["plan", "plan"]


async def test_a_crash_does_not_ask_for_a_plan_again(stage: Any) -> None:
    """A plan that is stored is followed by whoever takes the run over."""
    planner = Asking(steps=(Continue(), Respond("done")))
    engine = stage.engine([Respond("x")], planner=planner, ledger=CrashingLedger(stage.ledger, 3))
    with pytest.raises(SimulatedCrash):
        await stage.play(engine)
    engine = stage.engine([], planner=planner)
    assert (await stage.play(engine, stage.go_on))[-1].outcome.response == "done"
    assert (planner.asked, stage.provider.requests) == (1, [])
