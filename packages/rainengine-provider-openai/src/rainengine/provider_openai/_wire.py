"""Both APIs behind one seam: requests to JSON, JSON to decisions. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import attrs

from rainengine.core.abc import ProviderRequest
from rainengine.provider_openai import _chat as chat
from rainengine.provider_openai import _responses as responses
from rainengine.provider_openai._chat_stream import ChatStream
from rainengine.provider_openai._files import Files
from rainengine.provider_openai._reading import Reading
from rainengine.provider_openai._responses_stream import ResponseStream
from rainengine.provider_openai._settings import Api, OpenAISettings


class AnswerStream(Protocol):
    """Puts a streamed answer together."""

    def feed(self, event: dict[str, Any], /) -> str:
        """Take in an event; return what it adds to the text. Raises `ProviderError`."""
        ...

    @property
    def complete(self) -> bool:
        """Whether all of the answer is there, so that nothing can spoil it any more."""
        ...

    def whole(self, *, ended: bool) -> dict[str, Any]:
        """Return the answer, as if it had come whole. Raises `ProviderError` if it broke off."""
        ...


@attrs.frozen(kw_only=True)
class Wire:
    """How an API is spoken."""

    path: str
    body: Callable[[ProviderRequest, OpenAISettings, Files], dict[str, Any]]
    """The body of a request. Raises `ProviderError` for a file that cannot be sent."""
    streamed: Callable[[dict[str, Any], OpenAISettings], dict[str, Any]]
    """The body of the same request for a stream."""
    new_stream: Callable[[OpenAISettings], AnswerStream]
    read: Callable[[object, ProviderRequest, OpenAISettings], Reading]
    """Reads a whole answer. Raises `ProviderError` where it is none."""


WIRES: Mapping[Api, Wire] = {
    "chat": Wire(
        path=chat.PATH,
        body=chat.body,
        streamed=chat.streamed,
        new_stream=lambda settings: ChatStream(usage_asked=settings.stream_usage),
        read=chat.read,
    ),
    "responses": Wire(
        path=responses.PATH,
        body=responses.body,
        streamed=responses.streamed,
        new_stream=lambda _: ResponseStream(),
        read=responses.read,
    ),
}
