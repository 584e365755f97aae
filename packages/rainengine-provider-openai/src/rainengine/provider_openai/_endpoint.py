"""The endpoint, by the official SDK: where requests leave and answers arrive as JSON."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, TypeAlias

import attrs
import trio

from rainengine.core.abc import Clock
from rainengine.core.errors import ProviderError
from rainengine.provider_openai._events import DONE, EventReader, parsed
from rainengine.provider_openai._failing import not_streamed
from rainengine.provider_openai._failures import failure_of, raise_if_told
from rainengine.provider_openai._values import as_object

if TYPE_CHECKING:
    import httpx2
    from openai import AsyncOpenAI
    from openai._types import RequestOptions

Take: TypeAlias = Callable[[dict[str, Any]], bool]
"""Takes an event, and tells whether the answer is complete with it."""

_OPTIONS: RequestOptions = {"follow_redirects": False}  # or else to wherever an endpoint says

_LINGER_S = 0.1
"""How long a complete answer waits for its body to end, so that the connection stays."""


@attrs.frozen(eq=False)
class Endpoint:
    """Sends requests. Everything that it raises is a `ProviderError`, which may hold the key."""

    _client: AsyncOpenAI = attrs.field(repr=False)
    _clock: Clock

    async def post(self, path: str, body: dict[str, Any]) -> object:
        """Return the JSON of an answer, or its text where it is none."""
        try:
            answer = await self._client.post(path, body=body, cast_to=object, options=_OPTIONS)
            raise_if_told(as_object(answer))
        except Exception as error:  # noqa: BLE001  # nothing else may come out of a provider
            failure = self._failure(error)
        else:
            return answer
        raise failure  # out here, so that no frame of the SDK, which knows the key, goes with it

    async def stream(self, path: str, body: dict[str, Any], take: Take) -> bool:
        """Have the events of an answer taken; return whether it said that it was over."""
        try:
            async with self._streaming(path, body) as response:
                return await _Reading(take).read(response)
        except Exception as error:  # noqa: BLE001  # as above
            failure = self._failure(error)
        raise failure

    @asynccontextmanager
    async def _streaming(self, path: str, body: dict[str, Any]) -> AsyncGenerator[httpx2.Response]:
        from openai import AsyncStream

        stream = await self._client.post(
            path,
            body=body,
            cast_to=object,
            options=_OPTIONS,
            stream=True,
            stream_cls=AsyncStream[object],
        )
        try:
            yield stream.response
        finally:
            await stream.close()

    def _failure(self, error: Exception) -> ProviderError:
        return failure_of(error, now_ms=self._clock.now_ms())


@attrs.define(eq=False)
class _Reading:
    """Reads one stream to its end."""

    _take: Take
    _events: EventReader = attrs.field(factory=EventReader, init=False)
    _scope: trio.CancelScope = attrs.field(factory=trio.CancelScope, init=False)
    _done: bool = attrs.field(default=False, init=False)
    _complete: bool = attrs.field(default=False, init=False)
    """From here on more is taken, such as the usage, but no fault counts."""
    _failure: ProviderError | None = attrs.field(default=None, init=False)

    async def read(self, response: httpx2.Response) -> bool:
        if "json" in response.headers.get("content-type", ""):
            raise_if_told(_object_in(await response.aread()))
            raise not_streamed()
        with self._scope:
            await self._read(response)
        self._take_all(self._events.finish())
        if self._failure is not None:
            raise self._failure
        return self._done

    async def _read(self, response: httpx2.Response) -> None:
        try:
            # Never left by `break` or an exception of our own: see `_events`.
            async for data in response.aiter_bytes():
                self._take_all(self._events.feed(data))
        except Exception:
            if not self._complete:
                raise

    def _take_all(self, events: Iterator[str]) -> None:
        try:
            for data in events:
                if self._done or self._failure is not None:
                    return
                self._take_one(data)
        except ProviderError as failure:
            self._done = self._complete
            self._failure = None if self._complete else failure
            self._scope.cancel()

    def _take_one(self, data: str) -> None:
        if not data.strip():  # which some endpoints send to keep the connection
            return
        if data.strip() == DONE:
            self._done = True
            self._linger()
            return
        event = parsed(data)
        raise_if_told(event)
        if self._take(event):
            self._linger()

    def _linger(self) -> None:
        if not self._complete:
            self._complete = True
            self._scope.deadline = trio.current_time() + _LINGER_S


def _object_in(body: bytes) -> dict[str, Any]:
    try:
        return as_object(json.loads(body))
    except (ValueError, RecursionError):
        return {}
