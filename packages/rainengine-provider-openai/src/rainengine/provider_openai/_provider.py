"""The provider: what the engine asks, by way of the endpoint."""

from __future__ import annotations

import base64
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, TypeAlias, TypeVar

import attrs

from rainengine.core.abc import Clock, ProviderDecision, ProviderRequest, Quote, SendText
from rainengine.core.errors import ProviderError
from rainengine.core.prices import cost_micros, known_price
from rainengine.core.records import Attachment, BlobRef, ProviderConfig, TokenPrice
from rainengine.core.tool_calling import read_answer
from rainengine.provider_openai import _embeddings as embeddings
from rainengine.provider_openai._endpoint import Endpoint
from rainengine.provider_openai._failing import unreadable
from rainengine.provider_openai._failures import presentable
from rainengine.provider_openai._files import Files, data_url, references
from rainengine.provider_openai._settings import OpenAISettings
from rainengine.provider_openai._wire import WIRES, AnswerStream, Wire

_T = TypeVar("_T")

Resolve: TypeAlias = Callable[[Attachment], Awaitable[bytes | str]]
"""Finds an attachment that is not inline: its bytes, a URL of it, or its id at the endpoint."""


@attrs.frozen(eq=False)
class OpenAIProvider:
    """A model behind an OpenAI-compatible endpoint; made by `open_openai_provider`.

    Implements `LlmProvider`, `StreamingProvider`, `PricedProvider` and `EmbeddingProvider`.
    """

    settings: OpenAISettings
    _endpoint: Endpoint = attrs.field(repr=False)
    _clock: Clock = attrs.field(repr=False)
    _resolve: Resolve | None = attrs.field(repr=False)

    async def generate_action(self, request: ProviderRequest) -> ProviderDecision:
        """Return one decision. Raises `ProviderError` and nothing else."""
        return await self._presentable(self._generate(request))

    async def stream_action(self, request: ProviderRequest, send: SendText) -> ProviderDecision:
        """As `generate_action`, and `send` the text of the answer piece by piece meanwhile."""
        return await self._presentable(self._stream(request, send))

    async def _presentable(self, asking: Awaitable[_T]) -> _T:
        """Take the key out of what a call fails with, whoever said it."""
        try:
            return await asking
        except ProviderError as error:
            failure = presentable(error, self.settings.api_key)
        raise failure  # out here, so that what may hold the key does not go with it

    async def _generate(self, request: ProviderRequest) -> ProviderDecision:
        wire = WIRES[self.settings.api]
        answer = await self._endpoint.post(wire.path, await self._body(request, wire))
        return self._decision(answer, request, wire)

    async def _stream(self, request: ProviderRequest, send: SendText) -> ProviderDecision:
        wire = WIRES[self.settings.api]
        body = wire.streamed(await self._body(request, wire), self.settings)
        stream = wire.new_stream(self.settings)
        ended = await self._endpoint.stream(wire.path, body, partial(_pass_on, stream, send))
        return self._decision(stream.whole(ended=ended), request, wire)

    def quote(self, config: ProviderConfig, input_tokens: int) -> Quote | None:
        """Return the most that a call may use; None where nothing bounds the answer."""
        bound = config.max_tokens or self.settings.max_output_tokens
        if bound is None:
            return None
        price = self._price(config.model or self.settings.model, input_tokens)
        cost = 0
        if price is not None:
            cost = cost_micros(price, input_tokens=input_tokens, output_tokens=bound)
        return Quote(input_tokens=input_tokens, output_tokens=bound, cost_micros=cost, price=price)

    async def generate_embeddings(self, texts: Sequence[str]) -> Sequence[Sequence[float]]:
        """Return one vector a text, all of one length. Raises `ProviderError`."""
        return await self._presentable(self._embed(texts))

    async def _embed(self, texts: Sequence[str]) -> Sequence[Sequence[float]]:
        vectors: list[tuple[float, ...]] = []
        for start in range(0, len(texts), embeddings.AT_ONCE):
            some = texts[start : start + embeddings.AT_ONCE]
            body = embeddings.body(some, self.settings)
            vectors += embeddings.read(await self._endpoint.post(embeddings.PATH, body), len(some))
        if len({len(vector) for vector in vectors}) > 1:
            raise unreadable("the embeddings differ in length")
        return vectors

    async def _body(self, request: ProviderRequest, wire: Wire) -> dict[str, Any]:
        return wire.body(request, self.settings, await self._files(request))

    async def _files(self, request: ProviderRequest) -> Files:
        if self._resolve is None:
            return {}
        found: dict[BlobRef, str] = {}
        for reference, attachment in references(request.messages).items():
            found[reference] = await _find(self._resolve, attachment)
        return found

    def _decision(self, answer: object, request: ProviderRequest, wire: Wire) -> ProviderDecision:
        reading = wire.read(answer, request, self.settings)
        tokens = reading.tokens
        asked = request.config.model or self.settings.model
        price = None if tokens is None else self._price(asked, tokens.input)
        return ProviderDecision(
            action=read_answer(reading.answer, request),
            usage=None if tokens is None else tokens.usage(price),
            model=reading.model,
        )

    def _price(self, model: str, input_tokens: int) -> TokenPrice | None:
        if self.settings.price is not None:
            return self.settings.price
        return known_price(
            model,
            at_ms=self._clock.now_ms(),
            input_tokens=input_tokens,
            url=self.settings.base_url,
        )


def _pass_on(stream: AnswerStream, send: SendText, event: dict[str, Any]) -> bool:
    text = stream.feed(event)
    if text:
        send(text)
    return stream.complete


async def _find(resolve: Resolve, attachment: Attachment) -> str:
    try:
        found = await resolve(attachment)
        if isinstance(found, str):
            return found
        return data_url(attachment, base64.b64encode(found).decode())
    except Exception as error:
        message = f"attachment {attachment.name!r} was not found: {type(error).__name__}"
        raise ProviderError(message, kind="internal", retryable=True) from error
