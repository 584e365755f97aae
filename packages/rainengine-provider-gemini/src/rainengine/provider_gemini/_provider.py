"""The provider: asks, and tells the engine what came of it."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from typing import TypeVar

import attrs

from rainengine.core.abc import (
    Clock,
    InvalidAnswer,
    ProviderDecision,
    ProviderRequest,
    Quote,
    SendText,
    Usage,
)
from rainengine.core.errors import ProviderError
from rainengine.core.prices import cost_micros, known_price
from rainengine.core.records import Action, ProviderCache, ProviderConfig, TokenPrice
from rainengine.provider_gemini import _failures as failures
from rainengine.provider_gemini._answers import Answer
from rainengine.provider_gemini._caches import SMALLEST_TOKENS, Caches, Prepared, SessionKey
from rainengine.provider_gemini._decisions import action_of
from rainengine.provider_gemini._files import Resolve, resolved
from rainengine.provider_gemini._requests import body_of
from rainengine.provider_gemini._settings import GeminiSettings
from rainengine.provider_gemini._transport import Transport, concealing

_T = TypeVar("_T")

_SHORTEST_S = 0.001
_A_BATCH = 100
"""The API takes so many texts at a time."""


@attrs.frozen(eq=False)
class GeminiProvider:
    """Gemini models as a provider of decisions and of embeddings; made by `open_gemini_provider`.

    An `LlmProvider`, a `StreamingProvider`, a `PricedProvider` and an `EmbeddingProvider`.
    Nothing is tried twice: the engine does that, and records it.

    A cache that was created is recorded with `through_sequence` 0: a request does not tell which
    records its messages come from.
    """

    settings: GeminiSettings
    _transport: Transport = attrs.field(repr=False)
    _caches: Caches = attrs.field(repr=False)
    _clock: Clock = attrs.field(repr=False)
    _resolve: Resolve | None = attrs.field(repr=False)

    async def generate_action(self, request: ProviderRequest) -> ProviderDecision:
        """Ask once. Raises `ProviderError`."""
        return await self._presentable(self._decide(request, None))

    async def stream_action(self, request: ProviderRequest, send: SendText) -> ProviderDecision:
        """Ask once, and `send` the text piece by piece meanwhile. Raises `ProviderError`."""
        return await self._presentable(self._decide(request, send))

    async def _presentable(self, asking: Awaitable[_T]) -> _T:
        """Take the key out of what a call fails with, whoever said it."""
        try:
            return await asking
        except ProviderError as error:
            failure = failures.presentable(error, concealing(self.settings))
        raise failure  # out here, so that what may hold the key does not go with it

    async def _decide(self, request: ProviderRequest, send: SendText | None) -> ProviderDecision:
        model = request.config.model or self.settings.model
        prepared = await self._prepare(request, model)
        answer = await self._answer(prepared, model, self._timeout_s(request), send)
        action = self._shown(action_of(answer, request, model))
        created = self._caches.unreported(_session(request))
        return ProviderDecision(
            action=action,
            usage=self._usage(answer, model, created),
            cache=created,
            model=answer.model or model,
        )

    def _shown(self, action: Action) -> Action:
        if isinstance(action, InvalidAnswer):  # its reason may be the server's words
            return attrs.evolve(action, reason=concealing(self.settings)(action.reason))
        return action

    async def _prepare(self, request: ProviderRequest, model: str) -> Prepared:
        files = await resolved(request.messages, self._resolve)
        body = body_of(request, self.settings, model=model, files=files)
        return await self._caches.prepare(
            body,
            model=model,
            session=_session(request),
            threshold_tokens=request.policy.cache_threshold_tokens,
            timeout_s=self._timeout_s(request),
        )

    async def _answer(
        self, prepared: Prepared, model: str, timeout_s: float, send: SendText | None
    ) -> Answer:
        answer = Answer()

        def take(piece: object) -> None:
            text = answer.add(piece)
            if text and send is not None:
                send(text)

        try:
            if send is None:
                take(await self._transport.generate(model, prepared.body, timeout_s))
            else:
                await self._transport.stream(model, prepared.body, timeout_s, take)
        except ProviderError as error:
            if answer.complete:
                return answer
            if prepared.used is None or error.kind != "configuration":
                raise
            self._caches.forget(prepared.used)  # it may have vanished, which looks like this
            raise failures.of_lost_cache(error) from error
        return answer

    def _timeout_s(self, request: ProviderRequest) -> float:
        """How long the server may be silent: no longer than anybody waits for it."""
        left_ms = request.context.deadline_ms - self._clock.now_ms()
        allowed_ms = min(request.policy.provider_timeout_ms, left_ms)
        return max(min(self.settings.timeout_s, allowed_ms / 1000), _SHORTEST_S)

    # Tokens and prices.

    def quote(self, config: ProviderConfig, input_tokens: int) -> Quote | None:
        """Return the most that a call may use; None where nothing bounds the answer.

        A call that may create a cache pays for its input twice.
        """
        bound = config.max_tokens or self.settings.max_output_tokens
        if bound is None:
            return None
        may_create = self.settings.cache_ttl_s > 0 and input_tokens >= SMALLEST_TOKENS
        price = self._price(config.model or self.settings.model, input_tokens)
        cost = 0
        if price is not None:
            paid_for = input_tokens * 2 if may_create else input_tokens
            cost = cost_micros(price, input_tokens=paid_for, output_tokens=bound)
        return Quote(input_tokens=input_tokens, output_tokens=bound, cost_micros=cost, price=price)

    def _usage(self, answer: Answer, model: str, created: ProviderCache | None) -> Usage | None:
        counted = answer.counted
        if counted is None:
            return None
        price = self._price(answer.model or model, counted.prompt)
        price = price or self._price(model, counted.prompt)
        cost = 0
        if price is not None:
            cost = cost_micros(
                price,
                input_tokens=counted.prompt + (created.tokens if created else 0),
                output_tokens=counted.output,
                cached_tokens=counted.cached,
            )
        return Usage(
            input_tokens=counted.prompt,
            output_tokens=counted.output,
            cached_tokens=counted.cached,
            cost_micros=cost,
            price=price,
        )

    def _price(self, model: str, input_tokens: int) -> TokenPrice | None:
        if self.settings.price is not None:
            return self.settings.price
        at_ms = self._clock.now_ms()
        return known_price(model, at_ms=at_ms, input_tokens=input_tokens, provider="google")

    # Embeddings.

    async def generate_embeddings(self, texts: Sequence[str]) -> Sequence[Sequence[float]]:
        """Return one vector a text, all of one length. Raises `ProviderError`."""
        return await self._presentable(self._embed(texts))

    async def _embed(self, texts: Sequence[str]) -> Sequence[Sequence[float]]:
        settings = self.settings
        vectors: list[list[float]] = []
        for start in range(0, len(texts), _A_BATCH):
            batch = texts[start : start + _A_BATCH]
            vectors += await self._transport.embed(
                settings.embedding_model, batch, settings.dimensions, settings.timeout_s
            )
        if len(vectors) != len(texts) or len({len(vector) for vector in vectors}) > 1:
            raise failures.of_garbled(
                f"{len(texts)} texts brought {len(vectors)} vectors, or vectors of several lengths"
            )
        return vectors


def _session(request: ProviderRequest) -> SessionKey:
    return request.context.tenant, request.context.session_id
