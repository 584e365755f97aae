"""Budgets: what a call may use is set aside before it, and settled after it. A ceiling, no hint."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import attrs
import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from rainengine.core import (
    AgentEngine,
    Continue,
    ContinueRequest,
    EnginePolicy,
    FallbackProvider,
    Plan,
    ProviderConfig,
    Respond,
    RetryPolicy,
)
from rainengine.core.abc import ProviderDecision, Quote, Usage
from rainengine.core.errors import InadmissibleValue, ProviderError
from rainengine.core.inmemory import PricedScriptedProvider, ScriptedProvider
from rainengine.core.kernel import Budget
from rainengine.core.projection import SessionProjection, fold
from rainengine.core.records import (
    OutcomeRecord,
    ProviderUsage,
    Reflection,
    SelfImprovementPolicy,
    TokenPrice,
)
from rainengine.core.testing import CrashingLedger, SimulatedCrash

PRICE = TokenPrice(input_micros=1_000_000, output_micros=2_000_000)
"""A micro-unit an input token, and two an output token."""


def paid(action: Any, tokens: int = 10, output: int = 5) -> ProviderDecision:
    """An answer that used so many tokens, of which the provider knows no price."""
    return ProviderDecision(
        action=action, usage=Usage(input_tokens=tokens, output_tokens=output), model="m"
    )


def priced(stage: Any, script: Any, *skills: Any, **options: Any) -> AgentEngine:
    """An engine with a provider that has prices."""
    engine: AgentEngine = stage.engine(
        [], *skills, **({"provider": PricedScriptedProvider(script, PRICE)} | options)
    )
    return engine


async def usages(stage: Any) -> list[tuple[str, int]]:
    """The status of each usage record, and its cost."""
    return [(usage.status, usage.cost_micros) for usage in await stage.records(ProviderUsage)]


async def statuses(stage: Any) -> list[str]:
    """The statuses of the usage records."""
    return [status for status, _ in await usages(stage)]


async def test_a_call_is_reserved_for_and_settled(stage: Any) -> None:
    """The most that a call may cost is set aside before it; after it, what it did cost counts."""
    engine = priced(stage, [paid(Respond("hi"))])
    await engine.advance(stage.request())
    reserved, settled = await stage.records(ProviderUsage)
    assert (reserved.status, settled.status) == ("reserved", "settled")
    assert reserved.cost_micros == reserved.input_tokens + 2 * reserved.output_tokens
    assert (settled.cost_micros, settled.price) == (20, PRICE)
    totals = (await stage.replayed()).usage
    assert (totals.cost_micros, totals.tokens) == (20, 15)
    assert (totals.reserved_micros, totals.reserved_tokens) == (0, 0)


async def test_reservations_cost_no_commits(stage: Any) -> None:
    """A turn of two calls and three tools is four commits with a provider that has prices too."""
    skills = [stage.skill(name) for name in "abc"]
    script = [paid(stage.calls("a", "b", "c")), paid(Respond("done"))]
    await stage.play(priced(stage, script, *skills))
    assert stage.ledger.stats().commits == 4
    assert await statuses(stage) == ["reserved", "settled", "reserved", "settled"]


async def test_a_reservation_is_there_before_the_call(stage: Any) -> None:
    """While the model is asked, what it may cost is stored as reserved."""
    seen: list[list[str]] = []

    async def answer(_: Any) -> Any:
        seen.append(await statuses(stage))
        return paid(Respond("hi"))

    await priced(stage, answer).advance(stage.request())
    assert seen == [["reserved"]]


async def test_what_a_call_may_use_is_enough(stage: Any) -> None:
    """As many tokens are set aside as there are bytes in the prompt, at least."""
    prompt = "äöü" * 500
    engine = priced(stage, [paid(Respond("hi"))])
    await engine.advance(stage.request(text=prompt))
    (reserved, _) = await stage.records(ProviderUsage)
    assert len(prompt.encode()) < reserved.input_tokens < 2 * len(prompt.encode()) + 3_000


@pytest.mark.parametrize(
    ("field", "limit"),
    [
        ("max_cost_per_session", 0.001),
        ("max_cost_per_run", 0.001),
        ("max_tokens_per_session", 1_000),
        ("max_tokens_per_run", 1_000),
    ],
)
async def test_a_call_that_does_not_fit_is_not_made(stage: Any, field: str, limit: Any) -> None:
    """Where less is left than a call may use, the run ends by that limit and nothing is asked."""
    policy = EnginePolicy(**{field: limit})
    engine = priced(stage, [paid(Respond("hi"))], policy=policy)
    result = await engine.advance(stage.request())
    assert result.outcome.stop_reason == "policy_aborted"
    assert f"of {field}=" in result.outcome.detail
    (outcome,) = await stage.records(OutcomeRecord)
    assert (outcome.limit.name, outcome.limit.reached) == (field, 0)
    assert await usages(stage) == []


async def test_a_budget_is_not_passed_by_the_last_call(stage: Any) -> None:
    """Calls are made while they fit, and the one that might not is refused."""
    policy = EnginePolicy(max_cost_per_session=0.02)
    engine = priced(stage, lambda _: paid(Continue(), 3_000, 0), policy=policy)
    results = await stage.play(engine)
    assert results[-1].outcome.stop_reason == "policy_aborted"
    assert results[-1].outcome.steps_executed > 1
    totals = (await stage.replayed()).usage
    assert 0 < totals.cost_micros <= 20_000
    assert (totals.cost_micros % 3_000, totals.reserved_micros) == (0, 0)


async def test_a_runs_budget_is_its_own(stage: Any) -> None:
    """The next run has the whole of `max_cost_per_run` again."""
    policy = EnginePolicy(max_cost_per_run=0.005)
    for _ in range(3):
        engine = priced(stage, [paid(Respond("hi"), 4_000)], policy=policy)
        assert (await engine.advance(stage.request())).outcome.response == "hi"


# Without prices.


async def test_tokens_are_a_ceiling_without_prices(stage: Any) -> None:
    """With a budget of tokens and a bound of answers, any provider's calls are reserved for."""
    policy = EnginePolicy(max_tokens_per_run=5_000)
    config = ProviderConfig(max_tokens=1_000)
    engine = stage.engine(
        lambda _: paid(Continue(), 1_000, 100), policy=policy, provider_config=config
    )
    results = await stage.play(engine)
    assert "max_tokens_per_run" in results[-1].outcome.detail
    assert (await stage.replayed()).usage.tokens <= 5_000
    reserved = (await stage.records(ProviderUsage))[0]
    assert (reserved.status, reserved.output_tokens, reserved.cost_micros) == ("reserved", 1_000, 0)


async def test_tokens_without_a_bound_are_checked_between_calls(stage: Any) -> None:
    """Where nobody knows how long an answer may be, the call after the budget's end is not made."""
    policy = EnginePolicy(max_tokens_per_run=1_000)
    engine = stage.engine(lambda _: paid(Continue(), 600, 0), policy=policy)
    results = await stage.play(engine)
    assert (
        results[-1].outcome.detail == "max_tokens_per_run=1000 tokens is used up, with 1200 tokens"
    )
    assert await statuses(stage) == ["settled", "settled"]


async def test_a_provider_may_know_tokens_and_no_price(stage: Any) -> None:
    """A quote without a price sets tokens aside, and no cost."""
    free = TokenPrice(input_micros=0, output_micros=0)
    provider = PricedScriptedProvider([paid(Respond("hi"))], free)
    policy = EnginePolicy(max_tokens_per_session=100_000)
    await priced(stage, [], provider=provider, policy=policy).advance(stage.request())
    reserved, settled = await stage.records(ProviderUsage)
    assert (reserved.cost_micros, settled.cost_micros) == (0, 0)
    assert (reserved.input_tokens > 0, settled.input_tokens) == (True, 10)


# What is reported.


def reporting(**figures: Any) -> ProviderDecision:
    """An answer with these figures."""
    return ProviderDecision(action=Respond("hi"), usage=Usage(**figures))


@pytest.mark.parametrize(
    "usage",
    [
        None,
        Usage(),
        Usage(cost_micros=-1),
        Usage(input_tokens=5, cost_micros=float("nan")),  # type: ignore[arg-type]
        Usage(input_tokens=10**30),
        Usage(output_tokens=True),
        Usage(input_tokens=None),  # type: ignore[arg-type]
    ],
    ids=["none", "all zero", "negative", "NaN", "absurd", "a truth value", "missing"],
)
async def test_a_call_without_sound_figures_counts_as_all_that_was_reserved(
    stage: Any, usage: Any
) -> None:
    """What cannot be right, or is not there, counts as the most that the call may have cost."""
    script = [ProviderDecision(action=Respond("hi"), usage=usage), paid(Respond("ok"))]
    await stage.play(priced(stage, script))
    first = await stage.records(ProviderUsage)
    assert first[1].status == "settled"
    assert first[1].cost_micros == first[0].cost_micros > 0
    assert first[1].input_tokens == first[0].input_tokens


async def test_a_cost_that_is_not_reported_is_worked_out(stage: Any) -> None:
    """Tokens without a cost cost what they do by the price that was reserved at."""
    await priced(stage, [reporting(input_tokens=7, output_tokens=2)]).advance(stage.request())
    assert (await usages(stage))[1] == ("settled", 11)


async def test_a_cost_that_is_reported_is_taken(stage: Any) -> None:
    """A provider that knows what a call cost is believed."""
    await priced(stage, [reporting(input_tokens=7, cost_micros=3)]).advance(stage.request())
    assert (await usages(stage))[1] == ("settled", 3)


# Calls that fail, and those that are never made.


@pytest.mark.parametrize(
    ("kind", "costs"), [("timeout", True), ("transport", True), ("rate_limited", False),
                        ("configuration", False), ("internal", True)]
)  # fmt: skip
async def test_a_failed_call_counts_as_what_it_may_have_cost(
    stage: Any,
    kind: Any,
    costs: bool,  # noqa: FBT001
) -> None:
    """A call that failed may have been paid for, unless it was refused at once."""
    error = ProviderError("no", kind=kind, retryable=False)
    await priced(stage, [error]).advance(stage.request())
    (_, reserved), (status, cost) = await usages(stage)
    assert (status, cost) == ("failed", reserved if costs else 0)
    assert (await stage.replayed()).usage.cost_micros == (reserved if costs else 0)


async def test_nothing_is_reserved_while_a_retry_waits(stage: Any) -> None:
    """The next attempt is reserved for when its time has come."""
    error = ProviderError("no", kind="rate_limited", retryable=True, retry_after_ms=5_000)
    engine = priced(stage, [error, paid(Respond("hi"))])
    await engine.advance(stage.request())
    assert await statuses(stage) == ["reserved", "failed"]
    await engine.advance(stage.go_on)
    assert await statuses(stage) == ["reserved", "failed", "reserved", "settled"]


async def test_a_retry_that_no_longer_fits_is_not_made(stage: Any) -> None:
    """Failures that may have cost something use the budget up, like answers."""
    error = ProviderError("no", kind="timeout", retryable=True)
    engine = priced(
        stage,
        lambda _: error,
        policy=EnginePolicy(max_cost_per_run=0.01, provider_retry=RetryPolicy(max_attempts=9)),
    )
    results = await stage.play(engine)
    assert results[-1].outcome.stop_reason == "policy_aborted"
    assert 0 < (await stage.replayed()).usage.cost_micros <= 10_000


async def test_a_call_that_is_never_made_is_released(stage: Any) -> None:
    """A run that is stopped before its reserved call gives the reservation back."""
    engine = priced(stage, [paid(Continue())])
    await engine.advance(stage.request())
    await engine.cancel("s", "enough")
    await engine.advance(stage.go_on)
    assert await statuses(stage) == ["reserved", "settled", "reserved", "released"]
    assert (await stage.replayed()).usage.cost_micros == 20


async def test_a_session_that_is_handed_over_takes_nothing_along(stage: Any) -> None:
    """A process that releases a session gives back what it has reserved for the next call."""
    engine = priced(stage, [paid(Continue())])
    await engine.advance(stage.request())
    await engine.release("s")
    assert (await statuses(stage))[-1] == "released"
    other = priced(stage, [paid(Respond("hi"))], owner="two")
    await other.advance(stage.go_on)
    assert (await stage.replayed()).usage.cost_micros == 40


async def test_a_session_with_a_reservation_is_remembered(stage: Any) -> None:
    """Of more sessions than an engine keeps, those go first that have nothing reserved."""
    engine = priced(stage, [paid(Continue()), *[paid(Respond("x"))] * 9], cached_sessions=2)
    await engine.advance(stage.request())
    for number in range(5):
        await engine.advance(stage.request(session_id=f"other {number}"))
    await engine.advance(stage.go_on)
    assert await statuses(stage) == ["reserved", "settled"] * 2
    assert (await stage.replayed()).usage.cost_micros == 40


async def test_a_call_that_is_let_go_of_counts(stage: Any) -> None:
    """A run that is stopped while its model works counts the call as all that it may have cost."""

    async def think(_: Any) -> Any:
        await trio.sleep_forever()

    learning = SelfImprovementPolicy(reflection_interval_records=1)
    engine = priced(stage, think, policy=EnginePolicy(self_improvement=learning))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(engine.advance, stage.request())
        await trio.sleep(1)
        await engine.cancel("s", "enough")
    ((status, reserved),) = await usages(stage)
    (reflection,) = await stage.records(Reflection)
    assert (status, (await stage.replayed()).usage.cost_micros) == ("reserved", reserved)
    assert reflection.cost_micros == reserved


async def test_a_call_whose_process_died_counts(stage: Any) -> None:
    """Whoever takes over counts the unsettled call as spent, and reserves anew."""

    async def think(_: Any) -> Any:
        await trio.sleep_forever()

    await stage.interrupt(priced(stage, think))
    await stage.play(priced(stage, [paid(Respond("hi"))]), stage.go_on)
    assert await statuses(stage) == ["reserved", "reserved", "settled"]
    (_, lost), _, (_, settled) = await usages(stage)
    totals = (await stage.replayed()).usage
    assert (totals.cost_micros, totals.reserved_micros) == (lost + settled, 0)


async def test_a_call_whose_process_died_counts_without_prices_too(stage: Any) -> None:
    """A takeover by a process whose provider has no prices keeps what was set aside before."""

    async def think(_: Any) -> Any:
        await trio.sleep_forever()

    await stage.interrupt(priced(stage, think))
    await stage.engine([reporting(cost_micros=3)]).advance(stage.go_on)
    (_, lost), *_ = await usages(stage)
    assert (await stage.replayed()).usage.cost_micros == lost + 3


async def test_a_plan_reserves_for_its_end_only(stage: Any) -> None:
    """While a plan is followed nothing is set aside; nothing of it counts as spent."""
    from rainengine.core.abc import PlannerOutput, ProposedPlan

    class Planner:
        def plan(self, *_: Any) -> PlannerOutput:
            steps = (stage.calls("a"), Plan(summary="so far", confidence=1.0), stage.calls("a"))
            return PlannerOutput(proposed_plan=ProposedPlan(objective="x", steps=steps))

    engine = priced(stage, [paid(Respond("done"))], stage.skill("a"), planner=Planner())
    await engine.advance(stage.request())
    assert await usages(stage) == []
    await stage.play(engine, stage.go_on)
    assert await usages(stage) == [(("reserved"), (await usages(stage))[0][1]), ("settled", 20)]
    assert (await stage.replayed()).usage.cost_micros == 20


# Quotes that are none.


@attrs.define
class OddlyPriced(ScriptedProvider):
    """A provider whose quotes are anything."""

    answer: Any = None
    asked: int = 0

    def __init__(self, answer: Any) -> None:
        super().__init__([Respond("hi")])
        self.answer = answer

    def quote(self, *_: Any) -> Any:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@pytest.mark.parametrize(
    "quote",
    [
        ValueError("no idea"),
        "much",
        Quote(input_tokens=1, output_tokens=1, cost_micros=float("nan")),  # type: ignore[arg-type]
        Quote(input_tokens=-1, output_tokens=1, cost_micros=1),
        Quote(input_tokens=1, output_tokens=10**30, cost_micros=1),
    ],
    ids=["raises", "text", "NaN", "negative", "absurd"],
)
async def test_a_quote_that_makes_no_sense_ends_the_run(stage: Any, quote: Any) -> None:
    """A budget that cannot be kept is not spent: the model is not asked."""
    provider = OddlyPriced(quote)
    result = await priced(stage, [], provider=provider).advance(stage.request())
    assert result.outcome.stop_reason == "provider_failure"
    assert "quote" in result.outcome.detail
    assert (provider.requests, await usages(stage)) == ([], [])


async def test_without_a_quote_nothing_is_reserved(stage: Any) -> None:
    """A provider that has no quote for its model is asked as one without prices."""
    provider = OddlyPriced(None)
    result = await priced(stage, [], provider=provider).advance(stage.request())
    assert (result.outcome.response, await usages(stage)) == ("hi", [])


@pytest.mark.parametrize("amount", [float("nan"), float("inf"), float("-inf"), "5"])
async def test_a_budget_that_is_no_amount_is_refused(stage: Any, amount: Any) -> None:
    """A policy with such a ceiling is an error of the caller, and nothing is stored."""
    engine = priced(stage, [], policy=EnginePolicy(max_cost_per_session=amount))
    with pytest.raises(InadmissibleValue):
        await engine.advance(stage.request())
    assert await stage.kinds() == []


@pytest.mark.parametrize("used", [0, 5, 10, 15])
def test_what_is_left_is_never_negative(used: int) -> None:
    """What was passed leaves nothing."""
    assert Budget(name="x", limit=10, used=used, unit="tokens").left == max(10 - used, 0)


# In every history.

CEILING = 40_000

turns = st.lists(
    st.one_of(
        st.builds(lambda t, o: ("answer", t, o), st.integers(0, 500), st.integers(0, 1_000)),
        st.sampled_from(["timeout", "rate_limited", "hangs", "no usage", "odd usage"]),
    ),
    min_size=1,
    max_size=8,
)


def playing(script: list[Any]) -> Callable[[Any], Any]:
    """A model that answers each call by the next of these, and in the end replies."""
    left = iter(script)

    async def answer(request: Any) -> Any:
        turn = next(left, "end")
        if turn == "hangs":
            await trio.sleep_forever()
        if turn in ("timeout", "rate_limited"):
            raise ProviderError("no", kind=turn, retryable=True)
        if turn == "end":
            return paid(Respond("done"))
        action = Continue() if request.context.step % 3 else Plan(summary="on", confidence=0.5)
        if turn == "no usage":
            return ProviderDecision(action=action)
        if turn == "odd usage":
            return ProviderDecision(action=action, usage=Usage(cost_micros=-5))
        return paid(action, turn[1], turn[2])

    return answer


@attrs.frozen(kw_only=True)
class History:
    """What a model answers, at which append its process dies, and what its host does."""

    script: list[Any]
    crash_at: int
    when: Any
    fallback: bool
    stop: bool


histories = st.builds(
    History,
    script=turns,
    crash_at=st.integers(0, 25),
    when=st.sampled_from(["before", "after"]),
    fallback=st.booleans(),
    stop=st.booleans(),
)
POLICY = EnginePolicy(
    max_cost_per_session=CEILING / 1_000_000,
    max_cost_per_run=CEILING / 2_000_000,
    max_tokens_per_session=30_000,
    provider_timeout_ms=1_000,
    provider_retry=RetryPolicy(max_attempts=4, initial_interval_ms=1),
)


@settings(max_examples=120, deadline=None)
@given(histories)
def test_no_history_passes_its_ceiling(new_stage: Any, run_trio: Any, history: History) -> None:
    """Whatever models answer and wherever processes die, spent and reserved stay below it."""

    async def main() -> None:
        stage = new_stage()
        await live(stage, history)
        projection = SessionProjection()
        for entry in await stage.stored():
            fold(projection, entry.sequence, entry)
            check(projection)
        usage = projection.usage
        assert (usage.reserved_micros, usage.reserved_tokens) == (0, 0)

    run_trio(main)


async def live(stage: Any, history: History) -> None:
    """Let a process live until it dies, and others after it."""
    answer = playing(history.script)

    def engine(ledger: Any) -> AgentEngine:
        one, other = (PricedScriptedProvider(answer, PRICE) for _ in range(2))
        provider: Any = FallbackProvider({"a": one, "b": other}) if history.fallback else one
        return priced(stage, [], provider=provider, ledger=ledger, policy=POLICY)

    try:
        await stage.play(engine(CrashingLedger(stage.ledger, history.crash_at, history.when)))
    except SimulatedCrash:
        await run_to_its_end(stage, engine(stage.ledger))
    for _ in range(3):
        living = engine(stage.ledger)
        if history.stop:
            await living.advance(stage.request())
            await living.cancel("s", "enough")
        await run_to_its_end(stage, living)


def check(projection: SessionProjection) -> None:
    """Compare what is spent and reserved with the ceilings."""
    usage, run = projection.usage, projection.run
    assert usage.cost_micros + usage.reserved_micros <= CEILING
    assert usage.tokens + usage.reserved_tokens <= 30_000
    if run is not None:
        reserved = 0 if run.reservation is None else run.reservation.cost_micros
        assert run.cost_micros + reserved <= CEILING / 2


async def run_to_its_end(stage: Any, engine: AgentEngine) -> None:
    """Finish what is open, and send one more message."""
    if await stage.stored():
        while not (await engine.advance(stage.go_on)).idle:
            pass
    await stage.play(engine)


async def test_a_ceiling_beyond_all_amounts_is_none(stage: Any) -> None:
    """The largest number that a policy can hold, and its negative, can be counted with."""
    most = sys.float_info.max
    policy = EnginePolicy(
        max_cost_per_session=most, max_cost_per_run=most, max_cost_per_delegation=most
    )
    result = await priced(stage, [paid(Respond("hi"))], policy=policy).advance(stage.request())
    assert "hi" == result.outcome.response
    least = EnginePolicy(max_cost_per_session=-most)
    result = await priced(stage, [], policy=least).advance(stage.request())
    assert "policy_aborted" == result.outcome.stop_reason


async def test_a_cost_that_is_not_reported_and_has_no_price_is_all_that_was_reserved(
    stage: Any,
) -> None:
    """Tokens without a cost do not make a call free whose quote had one."""
    provider = OddlyPriced(Quote(input_tokens=50, output_tokens=50, cost_micros=700))
    provider._answer = lambda _: paid(Respond("hi"))
    await priced(stage, [], provider=provider).advance(stage.request())
    assert [("reserved", 700), ("settled", 700)] == await usages(stage)
    assert 15 == (await stage.replayed()).usage.tokens


async def test_what_a_quote_raises_is_cut(stage: Any) -> None:
    """The outcome tells no more of it than 500 characters, so that it can be stored."""
    provider = OddlyPriced(ValueError("x" * 5 * 2**20))
    outcome = (await priced(stage, [], provider=provider).advance(stage.request())).outcome
    assert ("provider_failure", 500) == (outcome.stop_reason, len(outcome.detail))


@pytest.mark.parametrize("trouble", ["none", "intake", "another owner"])
async def test_a_session_that_went_from_memory_keeps_its_reservation(
    stage: Any, trouble: str
) -> None:
    """Loaded again, it uses what was set aside; what somebody else may have used is spent."""
    script = [*[paid(Continue())] * 6, *[paid(Respond("x"))] * 2]
    engine = priced(stage, script, cached_sessions=1, lease_ttl_ms=3_000)
    for session_id in ("s", "t"):
        await engine.advance(stage.request(session_id=session_id))
    if trouble == "intake":
        await stage.engine([]).submit(stage.request(text="more"))
    if trouble == "another owner":
        await trio.sleep(10)  # its lease runs out
        other = PricedScriptedProvider([paid(Continue())], PRICE)
        await priced(stage, [], provider=other, owner="two", lease_ttl_ms=3_000).advance(
            stage.go_on
        )
        await trio.sleep(10)  # its lease runs out
    for session_id in ("s", "t") * 3:
        await engine.advance(ContinueRequest(session_id=session_id))
    spent = (await stage.replayed()).usage.cost_micros
    assert (80 == spent, trouble != "another owner") in [(True, True), (False, False)]
