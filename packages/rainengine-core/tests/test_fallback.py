"""Several providers as one: who is asked next, what is told of it, and what it costs."""

from __future__ import annotations

import logging
from math import nan
from typing import Any

import pytest
import trio

from rainengine.core import EnginePolicy, FallbackProvider, ProviderConfig, Respond, RetryPolicy
from rainengine.core.abc import PricedProvider, ProviderDecision, Quote, StreamingProvider, Usage
from rainengine.core.errors import InvalidConfiguration, ProviderError
from rainengine.core.inmemory import PricedScriptedProvider, ScriptedProvider
from rainengine.core.records import ModelDecision, ProviderUsage, TokenPrice
from rainengine.core.testing import provider_request

CHEAP = TokenPrice(input_micros=1_000_000, output_micros=1_000_000)
DEAR = TokenPrice(input_micros=5_000_000, output_micros=5_000_000)
ONCE = EnginePolicy(provider_retry=RetryPolicy(max_attempts=1))


def failing(kind: Any = "transport", **details: Any) -> ScriptedProvider:
    """A provider that fails each time."""
    return ScriptedProvider(lambda _: error(kind, **details))


def error(kind: Any = "transport", **details: Any) -> ProviderError:
    """A failure that may pass."""
    return ProviderError(f"no {kind}", kind=kind, **({"retryable": True} | details))


def answering(text: str = "hi") -> ScriptedProvider:
    """A provider that replies."""
    return ScriptedProvider(lambda _: Respond(text))


def fallback(*members: Any, **options: Any) -> FallbackProvider:
    """Providers a, b, c in this order."""
    return FallbackProvider(dict(zip("abc", members, strict=False)), **options)


async def advance(stage: Any, provider: Any, **options: Any) -> Any:
    """Take one step with this provider."""
    engine = stage.engine([], provider=provider, **({"policy": ONCE} | options))
    return await engine.advance(stage.request())


async def test_the_first_that_answers_is_recorded(stage: Any) -> None:
    """The decision says which member it is from; those after it are not asked."""
    last = answering("three")
    result = await advance(stage, fallback(failing(), answering("two"), last))
    (decision,) = await stage.records(ModelDecision)
    assert (result.outcome.response, decision.provider, last.requests) == ("two", "b", [])


async def test_all_members_get_the_same_request(stage: Any) -> None:
    """The next member is asked what the first one was."""
    first, second = failing(), answering()
    await advance(stage, fallback(first, second))
    assert first.requests == second.requests


async def test_members_may_be_fallbacks_themselves(stage: Any) -> None:
    """A member within a member is named by its path."""
    await advance(stage, fallback(failing(), fallback(failing(), answering())))
    (decision,) = await stage.records(ModelDecision)
    assert decision.provider == "b/b"


async def test_a_failure_that_cannot_pass_is_not_fallen_back_from(stage: Any) -> None:
    """What no retry would help is told at once."""
    second = answering()
    result = await advance(stage, fallback(failing("configuration", retryable=False), second))
    assert result.outcome.detail == "configuration: a: configuration: no configuration"
    assert second.requests == []


async def test_where_all_fail_all_are_told_of() -> None:
    """The error names every member's failure and is of the first kind that may cost something."""
    provider = fallback(failing("rate_limited"), failing("timeout"), failing("rate_limited"))
    with pytest.raises(ProviderError) as caught:
        await provider.generate_action(provider_request())
    assert str(caught.value) == (
        "a: rate_limited: no rate_limited; b: timeout: no timeout; c: rate_limited: no rate_limited"
    )
    assert (caught.value.kind, caught.value.retryable) == ("timeout", True)


@pytest.mark.parametrize(
    ("advice", "told"),
    [((9_000, 4_000), 4_000), ((9_000, None), None), ((None, None), None)],
)
async def test_the_soonest_advice_counts(advice: Any, told: int | None) -> None:
    """All failed, it is to be tried again when the first member is free, or at once."""
    members = [failing("rate_limited", retry_after_ms=wait) for wait in advice]
    with pytest.raises(ProviderError) as caught:
        await fallback(*members).generate_action(provider_request())
    assert caught.value.retry_after_ms == told


async def test_an_end_that_cannot_pass_leaves_hope_for_the_first() -> None:
    """A last member that cannot be used does not make the failure of the first one final."""
    provider = fallback(failing("rate_limited"), failing("configuration", retryable=False))
    with pytest.raises(ProviderError) as caught:
        await provider.generate_action(provider_request())
    assert caught.value.retryable


async def test_the_engine_tries_all_again(stage: Any) -> None:
    """Where all failed and may succeed later, the engine's next attempt begins with the first."""
    turns: list[Any] = [error(), Respond("hi")]
    first, second = ScriptedProvider(turns), failing()
    engine = stage.engine([], provider=fallback(first, second))
    results = await stage.play(engine)
    assert (results[-1].outcome.response, len(second.requests)) == ("hi", 1)


async def test_what_is_no_decision_is_fallen_back_from(stage: Any) -> None:
    """A member that returns garbage is one that failed."""

    class Garbage:
        async def generate_action(self, _: Any) -> Any:
            await trio.lowlevel.checkpoint()
            return "hello"

    assert (await advance(stage, fallback(Garbage(), answering()))).outcome.response == "hi"


async def test_a_fault_of_a_member_is_no_failure_of_the_world(stage: Any) -> None:
    """An exception that is no `ProviderError` is not hidden by the next member's answer."""
    broken = ScriptedProvider(lambda _: 1 / 0)  # type: ignore[arg-type, return-value]
    result = await advance(stage, fallback(broken, answering()))
    assert result.outcome.detail == "internal: ZeroDivisionError: division by zero"


async def test_a_failure_is_logged_without_its_text(
    stage: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """The log names the member and the kind of failure, and nothing that it said."""
    with caplog.at_level(logging.WARNING, "rainengine.core"):
        await advance(stage, fallback(failing("timeout"), answering()))
    (record,) = caplog.records
    assert record.getMessage() == "model provider 'a' failed: timeout"


# Silence.


async def hang(_: Any) -> Any:
    """A model that never answers."""
    await trio.sleep_forever()


async def test_a_member_that_hangs_is_given_up(stage: Any) -> None:
    """Each member but the last has an even share of the provider's time."""
    policy = EnginePolicy(provider_timeout_ms=30_000, provider_retry=RetryPolicy(max_attempts=1))
    began = stage.clock.now_ms()
    hanging = ScriptedProvider(hang)
    result = await advance(stage, fallback(hanging, hanging, answering()), policy=policy)
    assert (result.outcome.response, stage.clock.now_ms() - began) == ("hi", 20_000)


async def test_the_last_member_has_the_time_that_is_left(stage: Any) -> None:
    """The engine's own timeout ends the last member's call, as it would any provider's."""
    began = stage.clock.now_ms()
    provider = fallback(failing(), ScriptedProvider(hang), timeout_ms=1)
    result = await advance(stage, provider)
    assert result.outcome.detail == "timeout: no answer within 45000 ms"
    assert stage.clock.now_ms() - began == 45_000


async def test_the_time_of_a_member_can_be_set(stage: Any) -> None:
    """With `timeout_ms` a silent member is given up after that."""
    began = stage.clock.now_ms()
    await advance(stage, fallback(ScriptedProvider(hang), answering(), timeout_ms=2_000))
    assert stage.clock.now_ms() - began == 2_000


class Slow:
    """A provider that sends a word a second, and fails in the end if it is told to."""

    def __init__(self, words: int, end: ProviderError | None = None) -> None:
        self.words = words
        self.end = end

    async def generate_action(self, _: Any) -> Any:
        raise AssertionError

    async def stream_action(self, _: Any, send: Any) -> ProviderDecision:
        for number in range(self.words):
            await trio.sleep(1)
            send(f"{number} ")
        if self.end is not None:
            raise self.end
        return ProviderDecision(action=Respond("slow"))


async def test_a_member_that_goes_on_talking_is_not_given_up(stage: Any) -> None:
    """The time counts from the last piece of text."""
    told: list[str] = []
    provider = fallback(Slow(20), answering(), timeout_ms=2_000)
    result = await advance(stage, provider, on_delta=lambda delta: told.append(delta.text))
    assert (result.outcome.response, len(told)) == ("slow", 20)


# Streams.


async def test_half_an_answer_is_said_to_be_void(stage: Any) -> None:
    """A host that has heard a part of a member's answer learns that another one begins."""
    told: list[tuple[int, str]] = []
    provider = fallback(Slow(2, error()), answering("better now"))
    result = await advance(
        stage, provider, on_delta=lambda delta: told.append((delta.attempt, delta.text))
    )
    assert result.outcome.response == "better now"
    assert told == [(1, "0 "), (1, "1 "), (2, "better"), (2, " now")]


async def test_who_cannot_be_told_gets_no_second_answer() -> None:
    """Where what was sent cannot be taken back, the failure is raised instead."""
    told: list[str] = []
    second = answering()
    with pytest.raises(ProviderError, match="a: transport"):
        await fallback(Slow(2, error()), second).stream_action(provider_request(), told.append)
    assert (told, second.requests) == (["0 ", "1 "], [])


async def test_without_a_word_there_is_nothing_to_take_back() -> None:
    """A member that fails before it has sent anything is fallen back from in any case."""
    told: list[str] = []
    provider = fallback(Slow(0, error()), answering("hi"))
    decision = await provider.stream_action(provider_request(), told.append)
    assert (decision.action, told) == (Respond("hi"), ["hi"])


async def test_a_member_that_was_given_up_is_not_heard_any_more() -> None:
    """What a member sends as it is being cancelled reaches nobody."""
    told: list[str] = []

    class Chatty:
        async def generate_action(self, _: Any) -> Any:
            raise AssertionError

        async def stream_action(self, _: Any, send: Any) -> Any:
            try:
                await trio.sleep_forever()
            finally:
                send("too late")

    provider = fallback(Chatty(), answering("hi"), timeout_ms=5)
    await provider.stream_action(provider_request(), told.append)
    assert told == ["hi"]


async def test_members_that_do_not_stream_are_asked_plainly(stage: Any) -> None:
    """A member without a stream answers without one."""

    class Plain:
        async def generate_action(self, _: Any) -> ProviderDecision:
            await trio.lowlevel.checkpoint()
            return ProviderDecision(action=Respond("plain"))

    result = await advance(stage, fallback(Plain()), on_delta=lambda _: None)
    assert result.outcome.response == "plain"


def test_it_can_whatever_a_provider_can() -> None:
    """It streams and it quotes."""
    assert isinstance(fallback(answering()), StreamingProvider)
    assert isinstance(fallback(answering()), PricedProvider)


# Cost.


def priced(script: Any, price: TokenPrice = CHEAP) -> PricedScriptedProvider:
    """A provider with prices."""
    return PricedScriptedProvider(script, price, answer_tokens=100)


def test_a_quote_is_for_all_members() -> None:
    """As all may be asked and paid for, the quote is what they may use together."""
    quote = fallback(priced([]), priced([], DEAR)).quote(ProviderConfig(), 1_000)
    assert quote is not None
    assert (quote.input_tokens, quote.output_tokens) == (2_000, 200)
    assert (quote.cost_micros, quote.price) == (1_100 + 5_500, None)


def test_one_price_is_kept() -> None:
    """Where all members have the same price, that is the quote's."""
    quote = fallback(priced([]), priced([])).quote(ProviderConfig(), 1_000)
    assert quote is not None
    assert quote.price == CHEAP


def test_a_member_without_prices_counts_with_its_tokens() -> None:
    """It costs nothing, as alone; what the others may cost is reserved all the same."""
    provider = fallback(priced([]), answering())
    quote = provider.quote(ProviderConfig(), 1_000)
    assert quote is not None
    assert (quote.input_tokens, quote.output_tokens, quote.cost_micros) == (2_000, 100, 1_100)
    bounded = provider.quote(ProviderConfig(max_tokens=50), 1_000)
    assert bounded is not None
    assert bounded.output_tokens - 50 == 50


def test_nothing_is_quoted_where_nothing_is_known() -> None:
    """Members without prices, with no bound on what they answer, leave nothing to reserve."""
    provider = fallback(answering(), answering())
    assert provider.quote(ProviderConfig(), 1_000) is None
    quote = provider.quote(ProviderConfig(max_tokens=50), 1_000)
    assert quote is not None
    assert (quote.input_tokens, quote.output_tokens, quote.cost_micros) == (2_000, 100, 0)


async def test_what_does_not_fit_is_not_asked_behind_a_free_member(stage: Any) -> None:
    """A member without prices does not take the others' costs out of the budget's sight."""
    dear = priced([])
    policy = EnginePolicy(max_cost_per_run=0.0001)
    result = await advance(stage, fallback(dear, answering()), policy=policy)
    assert (result.outcome.stop_reason, dear.requests) == ("policy_aborted", [])


@pytest.mark.parametrize("usage", [{"input_tokens": 10}, {"input_tokens": 10, "output_tokens": 3}])
async def test_what_a_free_member_answers_is_free(stage: Any, usage: dict[str, int]) -> None:
    """Of what was reserved for all, the answer of a member without prices costs nothing."""
    free = ScriptedProvider(lambda _: answer(**usage))
    await advance(stage, fallback(priced([error("rate_limited")]), free))
    _, settled = await stage.records(ProviderUsage)
    assert (settled.cost_micros, settled.input_tokens) == (0, 10)


async def test_failures_count_beside_a_free_answer_without_usage(stage: Any) -> None:
    """What a member may have cost counts, also where the one that answered reports nothing."""
    await advance(stage, fallback(priced([error("internal")]), answering()))
    reserved, settled = await stage.records(ProviderUsage)
    assert settled.output_tokens == 100
    assert reserved.cost_micros > settled.cost_micros > 100


async def test_failed_members_count_against_budgets_of_tokens(stage: Any) -> None:
    """Without prices, what a member that failed may have used is counted in tokens."""
    first, last = failing("internal"), ScriptedProvider(lambda _: answer(input_tokens=10))
    policy = EnginePolicy(max_tokens_per_run=10_000)
    engine = stage.engine([], provider=fallback(first, last), policy=policy)
    await engine.advance(stage.request(provider=ProviderConfig(max_tokens=50)))
    reserved, settled = await stage.records(ProviderUsage)
    assert settled.output_tokens == 50
    assert 10 + reserved.input_tokens / 2 >= settled.input_tokens > 500


@pytest.mark.parametrize(
    "usage",
    [{"cost_micros": -99_999}, {"input_tokens": -5}, {"input_tokens": "5"}, {"cached_tokens": nan}],
)
async def test_odd_figures_take_nothing_from_what_others_cost(stage: Any, usage: Any) -> None:
    """A call with figures that cannot be counts as all that was reserved, members together."""
    provider = fallback(priced([error("timeout")]), priced([answer(**usage)], DEAR))
    await advance(stage, provider)
    reserved, settled, *_ = await stage.records(ProviderUsage)
    assert (settled.status, settled.cost_micros) == ("settled", reserved.cost_micros)


@pytest.mark.parametrize("told", ["free", TokenPrice(input_micros=-1, output_micros=0, source="x")])
async def test_a_price_that_cannot_be_does_not_make_an_answer_free(stage: Any, told: Any) -> None:
    """An answer beside a failure is priced by its member where its own price is none."""
    last = priced([answer(input_tokens=10, price=told)], DEAR)
    await advance(stage, fallback(priced([error("timeout")]), last))
    _, settled = await stage.records(ProviderUsage)
    by_the_answer, by_the_failure = 50, settled.input_tokens - 10 + 100
    assert by_the_answer + by_the_failure == settled.cost_micros


@pytest.mark.parametrize("kind", ["timeout", "rate_limited"])
async def test_an_answer_that_nothing_prices_counts_as_its_own_quote(stage: Any, kind: str) -> None:
    """Tokens without a price cost what their member was reserved for, whatever others may."""

    class Vague(ScriptedProvider):
        def quote(self, config: ProviderConfig, input_tokens: int) -> Quote:
            return Quote(input_tokens=input_tokens, output_tokens=100, cost_micros=7_000)

    await advance(stage, fallback(Vague([error(kind)]), Vague([answer(input_tokens=10)])))
    _, settled = await stage.records(ProviderUsage)
    assert {"timeout": 14_000, "rate_limited": 7_000}[kind] == settled.cost_micros


def test_a_quote_that_is_no_amount() -> None:
    """It is not added to what the others quote."""

    class Lying:
        generate_action = answering().generate_action

        def quote(self, config: ProviderConfig, input_tokens: int) -> Quote:
            return Quote(input_tokens=-5, output_tokens=0, cost_micros=0)

    with pytest.raises(ValueError, match="Lying quotes what is no amount"):
        fallback(priced([]), Lying()).quote(ProviderConfig(), 1_000)


def answer(**usage: Any) -> ProviderDecision:
    """A reply that used this."""
    return ProviderDecision(action=Respond("hi"), usage=Usage(**usage))


async def test_what_failed_members_may_have_cost_is_counted(stage: Any) -> None:
    """A member that failed in a way that may cost something counts with its quote."""
    provider = fallback(priced([error("timeout")]), priced([answer(input_tokens=10)], DEAR))
    await advance(stage, provider)
    reserved, settled = await stage.records(ProviderUsage)
    by_the_answer, by_the_failure = 50, settled.input_tokens - 10 + 100
    assert settled.output_tokens == 100
    assert settled.cost_micros == by_the_answer + by_the_failure < reserved.cost_micros


async def test_what_was_refused_at_once_costs_nothing(stage: Any) -> None:
    """A member that limits its rate costs nothing; the answer is priced by its own member."""
    provider = fallback(priced([error("rate_limited")]), priced([answer(input_tokens=10)], DEAR))
    await advance(stage, provider)
    _, settled = await stage.records(ProviderUsage)
    assert (settled.cost_micros, settled.input_tokens, settled.price) == (50, 10, DEAR)


async def test_an_answer_without_usage_counts_as_its_own_quote(stage: Any) -> None:
    """What the member that answered may have used counts, not what all might have."""
    provider = fallback(priced([Respond("hi")]), priced([], DEAR))
    await advance(stage, provider)
    reserved, settled = await stage.records(ProviderUsage)
    assert settled.cost_micros == settled.input_tokens + 100
    assert (settled.price, settled.input_tokens < reserved.input_tokens / 2) == (CHEAP, True)


async def test_where_all_failed_all_count(stage: Any) -> None:
    """A round in which some member may have cost something counts as all that was reserved."""
    provider = fallback(priced([error("timeout")]), priced([error("rate_limited")]))
    await advance(stage, provider)
    reserved, failed = await stage.records(ProviderUsage)
    assert (failed.status, failed.cost_micros) == ("failed", reserved.cost_micros)


# Mistakes.


@pytest.mark.parametrize(
    ("members", "timeout_ms", "field"),
    [({}, None, "members"), ({"a": answering()}, 0, "timeout_ms")],
)
def test_a_fallback_that_cannot_work_is_refused(members: Any, timeout_ms: Any, field: str) -> None:
    """No members, or no time: that is told where it is made."""
    with pytest.raises(InvalidConfiguration) as caught:
        FallbackProvider(members, timeout_ms=timeout_ms)
    assert caught.value.field == field
