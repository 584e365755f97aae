"""Tuning of the policy: what is proposed, applied, held under its ceiling and taken back."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import attrs
import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from rainengine.core import Continue, EnginePolicy, Respond, RetryPolicy
from rainengine.core.abc import ProviderDecision, Usage
from rainengine.core.errors import ProviderError
from rainengine.core.kernel import ceiling, effective_policy
from rainengine.core.records import (
    LimitReached,
    NewRecord,
    OutcomeRecord,
    PolicyOverlay,
    PolicyTuning,
    Record,
    SelfImprovementPolicy,
)

TUNABLE = [field.name for field in attrs.fields(PolicyOverlay)]
UNTOUCHED = [f.name for f in attrs.fields(EnginePolicy) if f.name not in TUNABLE]
NUMBERS = st.none() | st.integers(-(10**12), 10**12) | st.sampled_from([-(2**63), 2**64 - 1])
OVERLAYS = st.builds(PolicyOverlay, **dict.fromkeys(TUNABLE, NUMBERS))
ABSURD = [math.nan, math.inf, -math.inf, 1e308, 5e-324, -25.0, 0.0]
PERCENT = st.floats(0, 400) | st.sampled_from(ABSURD)
BASES = st.builds(
    EnginePolicy,
    **dict.fromkeys(TUNABLE, st.integers(-5, 10**6) | st.sampled_from([-(2**63), 2**64 - 1])),
    self_improvement=st.builds(SelfImprovementPolicy, max_policy_delta_percent=PERCENT),
)


# The ceiling.


@settings(max_examples=1_000, deadline=None)
@given(BASES, st.lists(OVERLAYS, min_size=1, max_size=4))
def test_no_overlay_passes_the_ceiling(base: EnginePolicy, overlays: list[PolicyOverlay]) -> None:
    """However many overlays there were, no value is above `ceil(max(base, 1) * (1 + delta))`."""
    percent = base.self_improvement.max_policy_delta_percent
    percent = percent if math.isfinite(percent) and percent > 0 else 0
    for overlay in overlays:
        policy = effective_policy(base, overlay)
        for name in TUNABLE:
            own, value = getattr(base, name), getattr(policy, name)
            most = math.ceil(max(own, 1) * (1 + Fraction(str(percent)) / 100))
            assert own <= value <= max(most, own)
        assert all(getattr(policy, name) is getattr(base, name) for name in UNTOUCHED)


def improving(base: int, percent: float, **options: Any) -> EnginePolicy:
    """A policy of so many steps that may be tuned by so much."""
    improvement = SelfImprovementPolicy(max_policy_delta_percent=percent, **options)
    return EnginePolicy(max_steps=base, self_improvement=improvement)


@pytest.mark.parametrize(
    ("base", "percent", "expected"),
    [(0, 50.0, 2), (16, 25.0, 20), (100, 10.0, 110), (3, 1, 4), (7, 0.0, 7), (7, math.nan, 7)],
)
def test_a_ceiling_is_one_step_above_the_operators_value(
    base: int, percent: float, expected: int
) -> None:
    """It is at least 1, times the percentage, rounded up, without errors of floating point."""
    assert ceiling(improving(base, percent), "max_steps") == expected
    policy = effective_policy(improving(base, percent), PolicyOverlay(max_steps=1_000))
    assert policy.max_steps == expected


def test_no_ceiling_is_too_large_to_be_stored() -> None:
    """An absurd percentage gives a number that a ledger takes."""
    assert ceiling(improving(16, 1e308), "max_steps") == 2**53


@pytest.mark.parametrize("learned", [15, 1, 0, -7, -(2**63)])
def test_an_overlay_never_lowers(learned: int) -> None:
    """What was learned under a smaller value does not undo what the operator has raised since."""
    assert effective_policy(EnginePolicy(), PolicyOverlay(max_steps=learned)) == EnginePolicy()


@pytest.mark.parametrize(("base", "expected"), [(16, 20), (8, 10), (18, 20), (40, 40)])
def test_the_ceiling_follows_the_operator(base: int, expected: int) -> None:
    """An overlay of 20 learned under 16 steps holds as far as today's policy lets it."""
    policy = effective_policy(improving(base, 25.0), PolicyOverlay(max_steps=20))
    assert policy.max_steps == expected


@pytest.mark.parametrize("options", [{"enabled": False}, {"mode": "advisory"}])
def test_an_operator_who_wants_none_has_none(options: Any) -> None:
    """Switched off, or with advice only, the operator's policy is in force as it is."""
    base = improving(16, 25.0, **options)
    assert effective_policy(base, PolicyOverlay(max_steps=20)) == base


# What is proposed.

LIMITS = {
    "max_steps": 4,
    "max_execution_time_ms": 10_000,
    "provider_timeout_ms": 1_000,
    "provider_retry": RetryPolicy(max_attempts=1),
}


def policy(**options: Any) -> EnginePolicy:
    """A policy of small limits under which every outcome is reflected upon."""
    defaults = SelfImprovementPolicy(reflection_interval_records=1)
    own = {name: options.pop(name) for name in list(options) if hasattr(defaults, name)}
    return EnginePolicy(**(LIMITS | options), self_improvement=attrs.evolve(defaults, **own))


@attrs.define
class Worker:
    """Plays runs that end as they are told to, each in an engine of its own."""

    stage: Any
    asked: int = 0

    async def run(self, *endings: str, **options: Any) -> list[OutcomeRecord]:
        """Play runs under a policy with these options; return their outcomes."""
        for ending in endings:
            engine = self.stage.engine(self.decide, policy=policy(**options))
            await self.stage.play(engine, self.stage.request(text=ending))
        return (await self.stage.records(OutcomeRecord))[-len(endings) :]

    async def decide(self, request: Any) -> Any:
        self.asked += 1
        return await getattr(self, request.trigger.content)(request.context.step)

    async def answer(self, _: int) -> Any:
        return Respond("x")

    async def loop(self, _: int) -> Any:
        return Continue()

    async def hang(self, _: int) -> Any:
        await trio.sleep_forever()

    async def dawdle(self, _: int) -> Any:
        self.stage.clock.jump(10_100)
        return Continue()

    async def dawdle_long(self, _: int) -> Any:
        self.stage.clock.jump(60_000)
        return Continue()

    async def fail(self, _: int) -> Any:
        raise ProviderError("down", kind="internal", retryable=False)

    async def give_up(self, _: int) -> Any:
        raise ProviderError("slow", kind="timeout", retryable=False)

    async def spend(self, _: int) -> Any:
        return ProviderDecision(action=Continue(), usage=Usage(cost_micros=10_000_000))

    async def read(self, _: int) -> Any:
        return ProviderDecision(action=Continue(), usage=Usage(input_tokens=1_000))

    async def tunings(self) -> list[PolicyTuning]:
        return await self.stage.records(PolicyTuning)

    async def statuses(self) -> list[tuple[str, str]]:
        return [(tuning.limit, tuning.status) for tuning in await self.tunings()]


@pytest.fixture
def worker(stage: Any) -> Worker:
    """Somebody whose runs end as they are told to."""
    return Worker(stage)


RAISED = [
    ("hang", "provider_timeout_ms", 1_250),
    ("give_up", "provider_timeout_ms", 1_250),
    ("loop", "max_steps", 5),
    ("dawdle", "max_execution_time_ms", 12_500),
]


@pytest.mark.parametrize(("ending", "limit", "raised"), RAISED)
async def test_a_limit_that_keeps_ending_runs_is_raised(
    stage: Any, worker: Worker, ending: str, limit: str, raised: int
) -> None:
    """The second outcome of a kind raises its limit by the delta, and says on what grounds."""
    outcomes = await worker.run(ending, "answer", ending)
    ids = tuple(outcome.trigger_id for outcome in outcomes)
    assert await worker.tunings() == [
        PolicyTuning(
            tuning_id=f"{ids[2]}:{limit}",
            status="applied",
            limit=limit,
            reason=f"{limit} ended 2 of 3 runs",
            prior=PolicyOverlay(**{limit: getattr(policy(), limit)}),
            overlay=PolicyOverlay(**{limit: raised}),
            evidence=(ids[0], ids[2]),
            confidence=0.6667,
            rollback_condition=(
                "a run under it ends with deadline_exceeded, policy_aborted, provider_failure"
            ),
        )
    ]
    projection = await stage.replayed()
    assert getattr(effective_policy(policy(), projection.overlay), limit) == raised
    assert (await stage.kinds())[-3:] == ["outcome", "reflection", "policy_tuning"]


async def test_an_outcome_names_the_limit_that_ended_it(worker: Worker) -> None:
    """It tells what the limit allowed, and how far the run had come."""
    outcomes = await worker.run("loop", "hang", "dawdle", "answer", "fail")
    assert [outcome.limit for outcome in outcomes] == [
        LimitReached(name="max_steps", allowed=4, reached=4),
        LimitReached(name="provider_timeout_ms", allowed=1_000, reached=1_000),
        LimitReached(name="max_execution_time_ms", allowed=10_000, reached=10_100),
        None,
        None,
    ]


async def test_what_was_raised_is_in_force(worker: Worker) -> None:
    """The next run may take the steps that were learned, and no more."""
    *_, last = await worker.run("loop", "loop", "loop")
    assert last.steps_executed == 5


async def test_at_the_ceiling_nothing_more_is_recorded(worker: Worker) -> None:
    """Further outcomes of the kind change nothing, so they propose nothing."""
    outcomes = await worker.run(*["loop"] * 12)
    assert await worker.statuses() == [("max_steps", "applied")]
    assert {outcome.steps_executed for outcome in outcomes[2:]} == {5}


@pytest.mark.parametrize("ending", ["answer", "fail"])
async def test_other_outcomes_propose_nothing(worker: Worker, ending: str) -> None:
    """An answer calls for no other limit, and neither does a provider that failed in time."""
    await worker.run(*[ending] * 5)
    assert await worker.tunings() == []


@pytest.mark.parametrize(
    ("ending", "budget", "allowed"),
    [
        ("spend", {"max_cost_per_session": 5.0}, 5_000_000),
        ("spend", {"max_cost_per_run": 2.0}, 2_000_000),
        ("read", {"max_tokens_per_session": 500}, 500),
        ("read", {"max_tokens_per_run": 700}, 700),
    ],
)
async def test_a_budget_is_never_raised(
    stage: Any, worker: Worker, ending: str, budget: dict[str, Any], allowed: int
) -> None:
    """That a budget ends runs is recorded as unsafe to change, once, and nothing else happens."""
    ((name, _),) = budget.items()
    generous = {"max_cost_per_session": 1e6} | budget
    outcomes = await worker.run(*[ending] * 5, **generous)
    (tuning,) = await worker.tunings()
    assert {outcome.limit.allowed for outcome in outcomes if outcome.limit} == {allowed}
    assert (tuning.status, tuning.limit, tuning.overlay) == (
        "rejected_unsafe",
        name,
        PolicyOverlay(),
    )
    assert (await stage.replayed()).overlay is None


async def test_another_budget_is_another_matter(worker: Worker) -> None:
    """Once the operator has changed a budget, that it ends runs is told again."""
    await worker.run(*["spend"] * 3, max_cost_per_session=5.0)
    await worker.run(*["spend"] * 4, max_cost_per_session=35.0)
    assert await worker.statuses() == [("max_cost_per_session", "rejected_unsafe")] * 2


# What counts.


@pytest.mark.parametrize("enough", [1, 2, 5])
async def test_nothing_is_proposed_on_too_few_outcomes(worker: Worker, enough: int) -> None:
    """It takes `min_observations_before_tuning` outcomes of a kind."""
    outcomes = ["hang", *["loop"] * (enough - 1)] if enough > 1 else ["answer"]
    await worker.run(*outcomes, min_observations_before_tuning=enough)
    assert await worker.tunings() == []
    await worker.run("loop", min_observations_before_tuning=enough)
    assert await worker.statuses() == [("max_steps", "applied")]


async def test_outcomes_without_a_reflection_count(worker: Worker) -> None:
    """What was left out of reflection for being too early is evidence for the next one."""
    outcomes = await worker.run(*["loop"] * 3, reflection_interval_records=10**6)
    assert await worker.tunings() == []
    await worker.run("answer")
    (tuning,) = await worker.tunings()
    assert tuning.evidence == tuple(outcome.trigger_id for outcome in outcomes)
    assert tuning.reason == "max_steps ended 3 of 4 runs"


async def test_outcomes_at_a_smaller_limit_are_no_evidence(worker: Worker) -> None:
    """Once the operator has raised a limit, runs have to be ended by that one."""
    await worker.run(*["loop"] * 3, min_observations_before_tuning=9)
    await worker.run("answer", "loop", max_steps=8)
    assert await worker.tunings() == []
    await worker.run("loop", max_steps=8)
    (tuning,) = await worker.tunings()
    assert (tuning.overlay, len(tuning.evidence)) == (PolicyOverlay(max_steps=10), 2)


async def test_a_crash_changes_nothing(stage: Any, worker: Worker) -> None:
    """The same records give the same tuning, whoever ends the run: ids are the trigger's."""
    await worker.run("loop", "loop")
    (tuning,) = await worker.tunings()
    twin = Worker(type(stage)())
    await twin.run("loop", "loop")
    assert await twin.tunings() == [tuning]


# Modes.


async def test_advice_is_not_taken(worker: Worker) -> None:
    """Advisory: a proposal is recorded once, and never applied."""
    outcomes = await worker.run(*["loop"] * 6, mode="advisory")
    assert await worker.statuses() == [("max_steps", "proposed")]
    assert {outcome.steps_executed for outcome in outcomes} == {4}


async def test_advice_is_taken_once_it_may_be(worker: Worker) -> None:
    """A proposal of before is applied, under its own id, when the operator says so."""
    await worker.run(*["loop"] * 2, mode="advisory")
    await worker.run("loop")
    proposed, applied = await worker.tunings()
    assert (proposed.tuning_id, "applied") == (applied.tuning_id, applied.status)


async def test_a_shadow_is_applied_once_it_would_have_helped(worker: Worker) -> None:
    """Shadow: after a proposal, two outcomes under its limit apply it; nobody is asked."""
    *_, first, second = await worker.run(*["loop"] * 3, "answer", "loop", mode="shadow")
    asked = worker.asked
    assert await worker.statuses() == [("max_steps", "proposed"), ("max_steps", "applied")]
    proposed, applied = await worker.tunings()
    assert (applied.tuning_id, applied.overlay) == (proposed.tuning_id, proposed.overlay)
    assert second.trigger_id == applied.evidence[-1]
    assert first.trigger_id not in applied.evidence
    assert asked == 4 * 4 + 1
    (last,) = await worker.run("loop", mode="shadow")
    assert last.steps_executed == 5


async def test_a_shadow_that_would_not_have_helped_stays_one(worker: Worker) -> None:
    """Runs that took longer than the proposed limit do not speak for it."""
    await worker.run("dawdle", "dawdle", *["dawdle_long"] * 4, mode="shadow")
    limit = "max_execution_time_ms"
    assert await worker.statuses() == [(limit, "proposed")]
    await worker.run("dawdle", mode="shadow")
    assert await worker.statuses() == [(limit, "proposed")]
    await worker.run("dawdle", mode="shadow")
    assert await worker.statuses() == [(limit, "proposed"), (limit, "applied")]


async def test_a_shadow_of_another_policy_is_not_applied(worker: Worker) -> None:
    """A proposal that today's policy would not make is left, and a new one made."""
    await worker.run(*["loop"] * 3, mode="shadow")
    await worker.run(*["loop"] * 3, mode="shadow", max_steps=8)
    overlays = [(tuning.status, tuning.overlay.max_steps) for tuning in await worker.tunings()]
    assert overlays == [("proposed", 5), ("proposed", 10)]


# Rollbacks.


@pytest.mark.parametrize(
    ("ending", "reason"),
    [
        ("fail", "provider_failure"),
        ("hang", "provider_failure"),
        ("dawdle_long", "deadline_exceeded"),
        ("spend", "policy_aborted"),
    ],
)
async def test_a_regression_takes_the_overlay_back(
    stage: Any, worker: Worker, ending: str, reason: str
) -> None:
    """A run that goes wrong under an overlay ends it, and the operator's policy is in force."""
    *_, wrong, after = await worker.run("loop", "loop", ending, "loop")
    applied, rollback = (await worker.tunings())[:2]
    assert rollback == PolicyTuning(
        tuning_id=applied.tuning_id,
        status="rolled_back",
        limit="max_steps",
        reason=f"the run {wrong.trigger_id} ended with {reason} under it",
        overlay=PolicyOverlay(max_steps=5),
        prior=PolicyOverlay(max_steps=5),
        evidence=(wrong.trigger_id,),
        confidence=1.0,
    )
    assert wrong.stop_reason == reason
    assert after.steps_executed <= 4
    assert (await stage.replayed()).overlay is None


@pytest.mark.parametrize(
    ("endings", "options"),
    [
        (["loop"], {}),
        (["answer"], {}),
        (["fail"], {"rollback_on_regression": False}),
        (["fail"], {"mode": "advisory"}),
        (["fail"], {"max_steps": 30}),
    ],
)
async def test_what_is_no_regression(worker: Worker, endings: list[str], options: Any) -> None:
    """Neither is a run that only ran out of steps, nor one in which no overlay had its way."""
    await worker.run("loop", "loop")
    await worker.run(*endings, **options)
    assert await worker.statuses() == [("max_steps", "applied")]


async def test_a_run_without_a_step_is_no_regression(worker: Worker) -> None:
    """What went wrong before the first step did not go wrong for the overlay."""
    await worker.run("loop", "loop")
    (outcome,) = await worker.run("loop", max_cost_per_session=0.0)
    assert (outcome.stop_reason, outcome.steps_executed) == ("policy_aborted", 0)
    assert await worker.statuses() == [("max_steps", "applied")]


async def test_the_whole_overlay_is_taken_back(stage: Any, worker: Worker) -> None:
    """Several tuned values are taken back together, each tuning by a record of its own."""
    await worker.run("loop", "loop", rollback_on_regression=False)
    await worker.run("hang", "hang", rollback_on_regression=False)
    await worker.run("fail")
    ids = [(tuning.tuning_id, tuning.status) for tuning in await worker.tunings()]
    (first, _), (second, _) = ids[:2]
    assert ids[2:] == [(first, "rolled_back"), (second, "rolled_back")]
    assert (await stage.replayed()).overlay is None


async def test_a_rollback_does_not_wait_for_a_reflection(worker: Worker) -> None:
    """It is recorded with the outcome, however new the last reflection is."""
    await worker.run("loop", "loop")
    await worker.run("fail", reflection_interval_records=10**6)
    assert (await worker.statuses())[-1] == ("max_steps", "rolled_back")


async def test_after_a_rollback_all_is_counted_anew(stage: Any, worker: Worker) -> None:
    """What was seen until then is no evidence, and neither is the run that went wrong."""
    await worker.run("dawdle", "loop", "loop", "dawdle", "dawdle")
    assert await worker.statuses() == [("max_steps", "applied"), ("max_steps", "rolled_back")]
    await worker.run("dawdle")
    assert (await worker.statuses())[-1] == ("max_execution_time_ms", "applied")


async def test_what_was_taken_back_needs_twice_as_much(worker: Worker) -> None:
    """A tuning comes back after 4 outcomes, then after 8: it cannot go to and fro for ever."""
    needed: list[int] = []
    for _ in range(4):
        before = len(await worker.tunings())
        count = 0
        while len(await worker.tunings()) == before:
            await worker.run("loop")
            count += 1
        needed.append(count)
        await worker.run("fail")
    assert needed == [2, 4, 8, 16]


# Records of others.


async def add(stage: Any, *records: Record) -> None:
    """Append records to the session as a former process would have."""
    head = await stage.ledger.head("s")
    new = [NewRecord(record, stage.clock.now_ms()) for record in records]
    await stage.ledger.append("s", new, expected=head)


async def test_an_applied_overlay_is_in_force_until_it_is_rolled_back(stage: Any) -> None:
    """Steps follow the overlay's limit while it is applied, and the operator's afterwards."""
    overlay = PolicyOverlay(max_steps=5)
    tuning = PolicyTuning(tuning_id="t", status="applied", reason="r", overlay=overlay)
    engine = stage.engine(lambda _: Continue(), policy=EnginePolicy(max_steps=4))
    taken: list[int] = []
    for records in ([], [tuning], [attrs.evolve(tuning, status="rolled_back")]):
        await add(stage, *records) if records else None
        taken.append((await stage.play(engine))[-1].outcome.steps_executed)
    assert taken == [4, 5, 4]


@pytest.mark.parametrize("status", ["proposed", "rejected_unsafe"])
async def test_a_mere_proposal_changes_nothing(stage: Any, status: Any) -> None:
    """A tuning that was only proposed, or rejected, is not in force."""
    tuning = PolicyTuning(
        tuning_id="t", status=status, reason="r", overlay=PolicyOverlay(max_steps=4)
    )
    await add(stage, tuning)
    engine = stage.engine(lambda _: Continue(), policy=EnginePolicy(max_steps=3))
    assert (await stage.play(engine))[-1].outcome.steps_executed == 3


async def test_what_is_known_is_bounded(stage: Any) -> None:
    """Limits that there are not, and evidence without end, do not make the projection grow."""
    outcomes = [
        OutcomeRecord(
            trigger_id=f"t{n}",
            stop_reason="max_steps_reached",
            steps_executed=1,
            limit=LimitReached(name=name, allowed=1, reached=1),
        )
        for n in range(50)
        for name in ("max_steps", f"max_{n}")
    ]
    strange = [
        PolicyTuning(tuning_id=f"t{n}", status="proposed", reason="", limit=f"max_{n}")
        for n in range(50)
    ]
    await add(stage, *outcomes, *strange)
    learning = (await stage.replayed()).learning
    assert (list(learning.limits), learning.proposals) == (["max_steps"], {})
    history = learning.limits["max_steps"]
    assert (history.stops, len(history.evidence), learning.runs) == (50, 8, 100)
