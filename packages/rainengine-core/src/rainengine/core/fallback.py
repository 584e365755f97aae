"""Several model providers as one.

The next provider is asked where one fails in a way that may pass: it is away, limits its rate,
does not answer. Other failures, such as a request that makes no sense, would be the same with all.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from typing import TypeGuard

import attrs
import trio

from rainengine.core.abc import (
    LlmProvider,
    PricedProvider,
    ProviderDecision,
    ProviderRequest,
    Quote,
    Restartable,
    SendText,
    StreamingProvider,
    Usage,
)
from rainengine.core.errors import InvalidConfiguration, ProviderError
from rainengine.core.prices import COSTS_NOTHING, cost_micros, is_amount, most_input_tokens
from rainengine.core.records import ProviderConfig, TokenPrice

_log = logging.getLogger("rainengine.core")


class FallbackProvider:
    """Asks providers in the order of `members`, until one answers.

    The decision says by its member's name which one it was. A member that is silent for
    `timeout_ms` milliseconds is given up for the next one; without it each has an even share of
    the policy's `provider_timeout_ms`. The last one has all the time that is left.

    Where a member fails after it has sent a part of its answer, whoever listens is told that this
    part is void; who cannot be told (`Restartable`) gets the failure instead of another's answer.

    What members that failed may have cost is counted, by their quotes, with what the answer cost.
    One without prices costs nothing; it counts with its tokens.
    """

    def __init__(
        self, members: Mapping[str, LlmProvider], *, timeout_ms: int | None = None
    ) -> None:
        if not members:
            raise InvalidConfiguration("members", "there has to be at least one provider")
        if timeout_ms is not None and timeout_ms < 1:
            raise InvalidConfiguration("timeout_ms", f"{timeout_ms} is no time to answer in")
        self._members = dict(members)
        self._timeout_ms = timeout_ms

    async def generate_action(self, request: ProviderRequest) -> ProviderDecision:
        """Return the first decision. Raises `ProviderError` that tells of every member's failure.

        It is retryable where one of them was, and of a kind that may have cost something where one
        was; it advises to wait as long as the first one to be free again does.
        """
        return await self._ask(request, None)

    async def stream_action(self, request: ProviderRequest, send: SendText) -> ProviderDecision:
        """As `generate_action`, and `send` the text of members that can tell of it."""
        return await self._ask(request, send)

    def quote(self, config: ProviderConfig, input_tokens: int) -> Quote | None:
        """Return what all may use together, as each may be asked; None where nothing is known.

        Of a member whose answer nothing bounds, only the prompt is known.
        """
        members = self._members.values()
        if config.max_tokens is None and not any(
            _quote(member, config, input_tokens) for member in members
        ):
            return None
        return _sum([_bound(member, config, input_tokens) for member in members])

    async def _ask(self, request: ProviderRequest, send: SendText | None) -> ProviderDecision:
        failures: dict[str, ProviderError] = {}
        for name in self._members:
            attempt = _Attempt(request, send, self._patience_s(request, name))
            try:
                decision = await attempt.make(self._members[name])
            except ProviderError as error:
                failures[name] = error
                if not _is_retryable(error) or not attempt.void():
                    break
                _log.warning("model provider %r failed: %s", name, error.kind)
            else:
                return self._decided(request, name, decision, failures)
        raise _all_failed(failures) from [*failures.values()][-1]

    def _patience_s(self, request: ProviderRequest, name: str) -> float:
        if name == [*self._members][-1]:
            return math.inf
        share = request.policy.provider_timeout_ms / len(self._members)
        return (share if self._timeout_ms is None else self._timeout_ms) / 1000

    def _decided(
        self,
        request: ProviderRequest,
        name: str,
        decision: ProviderDecision,
        failures: Mapping[str, ProviderError],
    ) -> ProviderDecision:
        inner = decision.provider
        return attrs.evolve(
            decision,
            provider=name if inner is None else f"{name}/{inner}",
            usage=self._used(request, name, decision.usage, failures),
        )

    def _used(
        self,
        request: ProviderRequest,
        name: str,
        usage: Usage | None,
        failures: Mapping[str, ProviderError],
    ) -> Usage | None:
        """Return what all together used; what cannot be is left for the engine to judge."""
        tokens = most_input_tokens(request)
        unsound = usage is not None and not _is_sound(usage)
        if unsound or self.quote(request.config, tokens) is None:
            return usage
        costly = [failed for failed, error in failures.items() if error.kind not in COSTS_NOTHING]
        own, *paid = (
            _bound(self._members[member], request.config, tokens) for member in (name, *costly)
        )
        return _total(usage, own, paid)


@attrs.define(eq=False)
class _Attempt:
    """One member's attempt, in which it may be silent for so many seconds."""

    _request: ProviderRequest
    _send: SendText | None
    _patience_s: float
    _sent: bool = attrs.field(default=False, init=False)
    _scope: trio.CancelScope = attrs.field(factory=trio.CancelScope, init=False)

    async def make(self, member: LlmProvider) -> ProviderDecision:
        self._be_patient()
        with self._scope:
            return _checked(await self._answer(member))
        message = f"silent for {self._patience_s:g} s"
        raise ProviderError(message, kind="timeout", retryable=True)

    async def _answer(self, member: LlmProvider) -> object:
        if self._send is None or not isinstance(member, StreamingProvider):
            return await member.generate_action(self._request)
        return await member.stream_action(self._request, self._pass_on)

    def _pass_on(self, text: str) -> None:
        self._be_patient()
        if self._send is not None and not self._scope.cancel_called:
            self._sent = True
            self._send(text)

    def _be_patient(self) -> None:
        self._scope.deadline = trio.current_time() + self._patience_s

    def void(self) -> bool:
        """Have what was sent forgotten; False where nobody can be told that."""
        send: object = self._send
        if self._sent and isinstance(send, Restartable):
            send.restart()
            return True
        return not self._sent


def _checked(answer: object) -> ProviderDecision:
    if isinstance(answer, ProviderDecision):
        return answer
    message = f"returned a {type(answer).__name__}, not a ProviderDecision"
    raise ProviderError(message, kind="invalid_response", retryable=True)


def _is_retryable(error: ProviderError) -> bool:
    return getattr(error, "retryable", False) is True


def _all_failed(failures: Mapping[str, ProviderError]) -> ProviderError:
    errors = [*failures.values()]
    costly = [error for error in errors if error.kind not in COSTS_NOTHING]
    waits = [error.retry_after_ms or 0 for error in errors if _is_retryable(error)]
    told = (f"{name}: {error.kind}: {error}" for name, error in failures.items())
    return ProviderError(
        "; ".join(told),
        kind=(costly or errors[-1:])[0].kind,
        retryable=bool(waits),
        retry_after_ms=min(waits, default=0) or None,
    )


# What it costs.


_AMOUNTS = ("input_tokens", "output_tokens", "cached_tokens", "cost_micros")
_UNPRICED = TokenPrice(input_micros=0, output_micros=0, source="no price is known")


def _is_sound(usage: object) -> bool:
    return isinstance(usage, Usage) and all(is_amount(getattr(usage, name)) for name in _AMOUNTS)


def _is_price(price: object) -> TypeGuard[TokenPrice]:
    if not isinstance(price, TokenPrice):
        return False
    return all(map(is_amount, (price.input_micros, price.output_micros, price.cached_micros or 0)))


def _quote(member: LlmProvider, config: ProviderConfig, input_tokens: int) -> Quote | None:
    quote = member.quote(config, input_tokens) if isinstance(member, PricedProvider) else None
    figures = () if quote is None else (quote.input_tokens, quote.output_tokens, quote.cost_micros)
    if not all(map(is_amount, figures)):  # in a sum it would take from what others may cost
        raise ValueError(f"{type(member).__name__} quotes what is no amount of tokens and cost")
    return quote


def _bound(member: LlmProvider, config: ProviderConfig, input_tokens: int) -> Quote:
    """Return what a member may use, as far as that is known."""
    return _quote(member, config, input_tokens) or Quote(
        input_tokens=input_tokens,
        output_tokens=config.max_tokens or 0,
        cost_micros=0,
        price=_UNPRICED,
    )


def _sum(quotes: Sequence[Quote]) -> Quote:
    prices = {quote.price for quote in quotes}
    return Quote(
        input_tokens=sum(quote.input_tokens for quote in quotes),
        output_tokens=sum(quote.output_tokens for quote in quotes),
        cost_micros=sum(quote.cost_micros for quote in quotes),
        price=prices.pop() if len(prices) == 1 else None,
    )


def _total(usage: Usage | None, own: Quote, paid: Sequence[Quote]) -> Usage:
    """Return what was used altogether: by the answer, or else all of its quote, and by failures."""
    used = _priced(usage, own)
    if not paid:
        return used
    more = _sum(paid)
    return attrs.evolve(
        used,
        input_tokens=used.input_tokens + more.input_tokens,
        output_tokens=used.output_tokens + more.output_tokens,
        cost_micros=used.cost_micros + more.cost_micros,
        price=None,
    )


def _priced(usage: Usage | None, own: Quote) -> Usage:
    """Return what an answer used, priced as reported, by its member's price, or as its quote."""
    if usage is not None and (_is_price(usage.price) or usage.cost_micros):
        return usage
    if usage is None or not (usage.input_tokens or usage.output_tokens):
        return Usage(
            input_tokens=own.input_tokens,
            output_tokens=own.output_tokens,
            cost_micros=own.cost_micros,
            price=own.price,
        )
    if not _is_price(own.price):
        return attrs.evolve(usage, cost_micros=own.cost_micros, price=None)
    cost = cost_micros(
        own.price,
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        cached_tokens=usage.cached_tokens,
    )
    return attrs.evolve(usage, cost_micros=cost, price=own.price)
