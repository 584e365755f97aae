"""The provider that follows a script."""

from __future__ import annotations

import attrs
import pytest
import trio

from rainengine.core.abc import ProviderDecision, ProviderRequest, Usage
from rainengine.core.errors import ProviderError
from rainengine.core.inmemory import ScriptedProvider, Turn
from rainengine.core.records import (
    Continue,
    Respond,
    Yield,
)
from rainengine.core.testing import provider_request


def request_of(step: int = 1) -> ProviderRequest:
    """What an engine would ask in this step."""
    request = provider_request()
    return attrs.evolve(request, context=attrs.evolve(request.context, step=step))


async def test_actions_come_in_the_order_of_the_script() -> None:
    """Each request gets the script's next action, as a decision without usage."""
    provider = ScriptedProvider([Continue(), Respond("hello")])
    first = await provider.generate_action(request_of())
    second = await provider.generate_action(request_of())
    assert [first, second] == [
        ProviderDecision(action=Continue()),
        ProviderDecision(action=Respond("hello")),
    ]


async def test_a_decision_is_given_as_it_is() -> None:
    """A whole decision in the script keeps its usage and model."""
    decision = ProviderDecision(action=Yield(), usage=Usage(input_tokens=5), model="m")
    assert await ScriptedProvider([decision]).generate_action(request_of()) is decision


async def test_an_error_in_the_script_is_raised() -> None:
    """A `ProviderError` is raised in its turn, and the script goes on after it."""
    error = ProviderError("too many", kind="rate_limited", retryable=True, retry_after_ms=5)
    provider = ScriptedProvider([error, Respond("now")])
    with pytest.raises(ProviderError) as caught:
        await provider.generate_action(request_of())
    assert caught.value is error
    assert (await provider.generate_action(request_of())).action == Respond("now")


async def test_a_function_sees_the_request() -> None:
    """A function of the request decides, plain or async."""

    def answer(request: ProviderRequest) -> Turn:
        return Respond(f"step {request.context.step}")

    async def answer_later(request: ProviderRequest) -> Turn:
        await trio.lowlevel.checkpoint()
        return answer(request)

    for script in (answer, answer_later):
        decision = await ScriptedProvider(script).generate_action(request_of(3))
        assert decision.action == Respond("step 3")


async def test_a_function_may_raise_or_give_an_error() -> None:
    """Whether a function returns a `ProviderError` or raises it makes no difference."""
    error = ProviderError("down", kind="transport", retryable=True)

    def raising(request: ProviderRequest) -> Turn:
        raise error

    for script in (raising, lambda request: error):
        provider = ScriptedProvider(script)
        with pytest.raises(ProviderError) as caught:
            await provider.generate_action(request_of())
        assert caught.value is error
        assert len(provider.requests) == 1


async def test_it_keeps_the_requests() -> None:
    """Every request is kept, those that failed included, oldest first."""
    provider = ScriptedProvider(
        [Respond("a"), ProviderError("x", kind="internal", retryable=False)]
    )
    requests = [request_of(1), request_of(2)]
    await provider.generate_action(requests[0])
    with pytest.raises(ProviderError):
        await provider.generate_action(requests[1])
    assert provider.requests == requests


async def test_a_script_that_is_used_up_says_so() -> None:
    """Beyond its end, the script is an error of configuration that no retry helps."""
    provider = ScriptedProvider([Respond("only one")])
    await provider.generate_action(request_of())
    for _ in range(2):
        with pytest.raises(ProviderError, match="script of 1 turns is used up") as caught:
            await provider.generate_action(request_of())
        assert (caught.value.kind, caught.value.retryable) == ("configuration", False)


async def test_two_providers_do_not_share_a_script() -> None:
    """Each provider goes through its own copy of the script."""
    script = [Respond("hello")]
    providers = [ScriptedProvider(script) for _ in range(2)]
    script.clear()
    for provider in providers:
        assert (await provider.generate_action(request_of())).action == Respond("hello")


async def test_a_cancelled_call_uses_nothing_up() -> None:
    """A call that is cancelled before it begins takes no turn."""
    provider = ScriptedProvider([Respond("hello")])
    with trio.CancelScope() as scope:
        scope.cancel()
        await provider.generate_action(request_of())
    assert scope.cancelled_caught
    assert provider.requests == []
    assert (await provider.generate_action(request_of())).action == Respond("hello")
