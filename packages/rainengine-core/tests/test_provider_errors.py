"""Providers that fail, hang, or answer with what is no answer."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from rainengine.core import EnginePolicy, Respond, RetryPolicy
from rainengine.core.abc import ProviderDecision
from rainengine.core.errors import ProviderError
from rainengine.core.records import ModelDecision, OutcomeRecord, ProviderCache, ProviderUsage

ONCE = RetryPolicy(max_attempts=1)


@pytest.mark.parametrize(
    "kind",
    ["timeout", "transport", "rate_limited", "invalid_response", "configuration", "internal"],
)
async def test_a_provider_error_ends_the_run(stage: Any, kind: Any) -> None:
    """An error of any kind that a retry would not help is recorded, and ends the run."""
    error = ProviderError("went wrong", kind=kind, retryable=False)
    result = await stage.engine([error]).advance(stage.request())
    assert result.outcome.stop_reason == "provider_failure"
    assert result.outcome.detail == f"{kind}: went wrong"
    assert await stage.records(ProviderUsage) == [
        ProviderUsage(step=1, status="failed", error_kind=kind, error="went wrong")
    ]
    assert await stage.records(ModelDecision) == []


async def test_the_failure_and_the_outcome_are_one_append(stage: Any) -> None:
    """A failed run is two commits: the trigger, and the failure with the outcome."""
    error = ProviderError("no", kind="transport", retryable=False)
    await stage.engine([error]).advance(stage.request())
    assert stage.ledger.stats().commits == 2


async def test_a_provider_that_hangs_is_given_up(stage: Any) -> None:
    """After `provider_timeout_ms` the call is cancelled and the run ends."""
    cancelled: list[bool] = []

    async def hang(_: Any) -> Respond:
        try:
            await trio.sleep_forever()
        except trio.Cancelled:
            cancelled.append(True)
            raise
        raise AssertionError

    policy = EnginePolicy(provider_timeout_ms=7_000, provider_retry=ONCE)
    engine = stage.engine(hang, policy=policy)
    began = stage.clock.now_ms()
    result = await engine.advance(stage.request())
    assert result.outcome.stop_reason == "provider_failure"
    assert result.outcome.detail == "timeout: no answer within 7000 ms"
    assert (stage.clock.now_ms() - began, cancelled) == (7_000, [True])


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise RuntimeError


async def _group_with_cancellation(_: Any) -> Any:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.sleep_forever)
        try:
            await trio.sleep_forever()
        finally:
            raise ValueError("on the way out")


def _raising(error: BaseException) -> Any:
    def answer(_: Any) -> Any:
        raise error

    return answer


def _odd_kind() -> ProviderError:
    kind: Any = "melted"
    return ProviderError("no", kind=kind, retryable=False)


def _garbage(value: Any) -> Any:
    """A provider object that returns what no provider may."""

    class Garbage:
        async def generate_action(self, request: Any) -> Any:
            await trio.lowlevel.checkpoint()
            return value

    return Garbage()


FAILING = {
    "any exception": _raising(ValueError("oops \ud800\0")),
    "a group": _raising(ExceptionGroup("both", [ValueError(), KeyError()])),
    "an exception without text": _raising(Unspeakable()),
    "a group with cancellations": _group_with_cancellation,
    "a kind of its own": _raising(_odd_kind()),
    "a long message": _raising(ProviderError("x" * 10**6, kind="internal", retryable=False)),
}


@pytest.mark.parametrize("failure", FAILING)
async def test_whatever_a_provider_raises_ends_the_run(stage: Any, failure: str) -> None:
    """Any exception of a provider is an outcome, not an exception of the engine."""
    engine = stage.engine(FAILING[failure])
    result = await engine.advance(stage.request())
    (outcome,) = await stage.records(OutcomeRecord)
    assert (result.outcome.stop_reason, outcome.stop_reason) == ("provider_failure",) * 2


@pytest.mark.parametrize(
    "value", [None, "hello", Respond("bare"), {}, float("nan"), ProviderDecision]
)
async def test_what_is_no_decision_is_an_invalid_response(stage: Any, value: Any) -> None:
    """A provider that returns no `ProviderDecision` has failed with `invalid_response`."""
    policy = EnginePolicy(provider_retry=ONCE)
    engine = stage.engine(provider=_garbage(value), policy=policy)
    result = await engine.advance(stage.request())
    (usage,) = await stage.records(ProviderUsage)
    assert (result.outcome.stop_reason, usage.error_kind) == (
        "provider_failure",
        "invalid_response",
    )


@pytest.mark.parametrize("model", ["a\0\ud800b", 5, "x" * 10_000, object()])
async def test_an_odd_model_name_loses_nothing(stage: Any, model: Any) -> None:
    """A decision under a name that cannot be stored is stored under one that can."""
    engine = stage.engine([ProviderDecision(action=Respond("hi"), model=model)])
    assert (await engine.advance(stage.request())).outcome.response == "hi"


async def test_a_cache_is_recorded(stage: Any) -> None:
    """What the provider says of its cache is stored with the decision, usage or not."""
    cache = ProviderCache(cache_id="c", model="m", tokens=5, through_sequence=3, expires_at_ms=9)
    await stage.engine([ProviderDecision(action=Respond("hi"), cache=cache)]).advance(
        stage.request()
    )
    assert await stage.records(ProviderCache) == [cache]


@pytest.mark.parametrize("cache", ["text", ProviderCache])
async def test_an_odd_cache_loses_nothing(stage: Any, cache: Any) -> None:
    """A cache note that cannot be stored is left out; the decision is followed."""
    if cache is ProviderCache:
        cache = ProviderCache(
            cache_id="\0", model=None, tokens=0, through_sequence=0, expires_at_ms=0
        )
    engine = stage.engine([ProviderDecision(action=Respond("hi"), cache=cache)])
    assert (await engine.advance(stage.request())).outcome.response == "hi"


async def test_a_failed_run_leaves_the_session_usable(stage: Any) -> None:
    """After a provider failure the next trigger is answered."""
    error = ProviderError("no", kind="transport", retryable=True)
    engine = stage.engine([error, Respond("hi")])
    await engine.advance(stage.request("a"))
    assert (await engine.advance(stage.request("b"))).outcome.response == "hi"


async def test_an_exit_of_the_interpreter_passes_through(stage: Any) -> None:
    """`KeyboardInterrupt` is no provider failure: it goes up, and nothing is recorded of it."""
    engine = stage.engine(_raising(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        await engine.advance(stage.request())
    assert await stage.kinds() == ["trigger", "trigger_intent", "kernel_event"]
