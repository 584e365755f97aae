"""A model provider that follows a script."""

from __future__ import annotations

import inspect
import re
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeAlias

import trio

from rainengine.core.abc import ProviderDecision, ProviderRequest, Quote, SendText
from rainengine.core.errors import ProviderError
from rainengine.core.prices import cost_micros
from rainengine.core.records import Action, ProviderConfig, Respond, TokenPrice

Turn: TypeAlias = Action | ProviderDecision | ProviderError
"""One answer of a scripted provider: an action, a whole decision, or an error to be raised."""

_Script: TypeAlias = Callable[[ProviderRequest], Turn | Awaitable[Turn]]


class ScriptedProvider:
    """A model provider that answers from a script, or from a function of the request.

    Where it is listened to, it tells of a reply word by word.
    `requests` holds what it was asked, oldest first.
    Asked more often than the script is long, it raises a `ProviderError` of kind `configuration`.
    """

    def __init__(self, script: Iterable[Turn] | _Script) -> None:
        self._answer = script if callable(script) else _follow(list(script))
        self.requests: list[ProviderRequest] = []

    async def generate_action(self, request: ProviderRequest) -> ProviderDecision:
        """Return the script's next decision, or raise its next error."""
        await trio.lowlevel.checkpoint()
        self.requests.append(request)
        answer = self._answer(request)
        turn = await answer if inspect.isawaitable(answer) else answer
        if isinstance(turn, ProviderError):
            raise turn
        return turn if isinstance(turn, ProviderDecision) else ProviderDecision(action=turn)

    async def stream_action(self, request: ProviderRequest, send: SendText) -> ProviderDecision:
        """As `generate_action`; the text of a `Respond` is sent before."""
        decision = await self.generate_action(request)
        if isinstance(decision.action, Respond):
            for word in re.findall(r"\s*\S+\s*$|\s*\S+", decision.action.content):
                send(word)
                await trio.lowlevel.checkpoint()
        return decision


class PricedScriptedProvider(ScriptedProvider):
    """A scripted provider whose tokens cost `price`.

    An answer has at most as many tokens as its request's `max_tokens`, or else `answer_tokens`.
    A turn without usage counts as all that it might have used.
    """

    def __init__(
        self, script: Iterable[Turn] | _Script, price: TokenPrice, *, answer_tokens: int = 1_000
    ) -> None:
        super().__init__(script)
        self._price = price
        self._answer_tokens = answer_tokens

    def quote(self, config: ProviderConfig, input_tokens: int) -> Quote:
        """Return the most that a call may use."""
        output_tokens = self._answer_tokens if config.max_tokens is None else config.max_tokens
        cost = cost_micros(self._price, input_tokens=input_tokens, output_tokens=output_tokens)
        return Quote(
            input_tokens=input_tokens,
            output_tokens=output_tokens,
            cost_micros=cost,
            price=self._price,
        )


def _follow(script: list[Turn]) -> Callable[[ProviderRequest], Turn]:
    remaining = iter(script)

    def answer(_: ProviderRequest) -> Turn:
        try:
            return next(remaining)
        except StopIteration:
            raise ProviderError(
                f"the script of {len(script)} turns is used up: give ScriptedProvider more turns,"
                " or a function of the request",
                kind="configuration",
                retryable=False,
            ) from None

    return answer
