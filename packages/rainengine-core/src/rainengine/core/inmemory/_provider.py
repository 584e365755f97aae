"""A model provider that follows a script."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeAlias

import trio

from rainengine.core.abc import ProviderDecision, ProviderRequest
from rainengine.core.errors import ProviderError
from rainengine.core.records import Action

Turn: TypeAlias = Action | ProviderDecision | ProviderError
"""One answer of a scripted provider: an action, a whole decision, or an error to be raised."""

_Script: TypeAlias = Callable[[ProviderRequest], Turn | Awaitable[Turn]]


class ScriptedProvider:
    """A model provider that answers from a script, or from a function of the request.

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
