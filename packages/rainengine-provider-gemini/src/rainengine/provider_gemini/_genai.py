"""The seam over google-genai.

The SDK runs on trio only with a client of ours, which also carries the key: the SDK holds none.
Whatever it would do by itself beyond the one request is switched off: calling functions, going
on where an answer is cut, trying again.

Its streams are read to their ends: what is cancelled or fails (see `_events`) does so below it.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Generator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import attrs
import httpx2
from google import genai
from google.genai import errors, types

from rainengine.core.abc import Clock
from rainengine.core.errors import ProviderError
from rainengine.core.records import JsonObject
from rainengine.provider_gemini import _failures as failures
from rainengine.provider_gemini._events import BadEvent, arrived, check_events
from rainengine.provider_gemini._settings import GeminiSettings
from rainengine.provider_gemini._transport import auth_headers
from rainengine.provider_gemini._values import as_object

_NO_KEY = "the HTTP client has the key"
_CACHES_A_PAGE = 1000
_ALONE: JsonObject = {
    "automaticFunctionCalling": {"disable": True},
    "automaticContinuation": False,
}


@asynccontextmanager
async def open_genai(settings: GeminiSettings, clock: Clock) -> AsyncGenerator[GenaiTransport]:
    """Open the SDK's client and the connections below it."""
    limits = httpx2.Limits(
        max_connections=settings.max_connections,
        max_keepalive_connections=settings.max_connections,
    )
    hooks = {"response": [check_events]}
    auth = _Auth(settings)
    async with httpx2.AsyncClient(auth=auth, limits=limits, event_hooks=hooks) as http:
        options = types.HttpOptions(
            base_url=settings.base_url,
            api_version=settings.api_version,
            httpx_async_client=http,
        )
        client = genai.Client(api_key=_NO_KEY, vertexai=False, http_options=options)
        try:
            yield GenaiTransport(client.aio, clock)
        finally:
            client.close()


class _Auth(httpx2.Auth):
    """Puts the key into each request, in the place of the SDK's."""

    def __init__(self, settings: GeminiSettings) -> None:
        self._settings = settings

    def auth_flow(
        self, request: httpx2.Request
    ) -> Generator[httpx2.Request, httpx2.Response, None]:
        request.headers.pop("x-goog-api-key", None)
        request.headers.update(auth_headers(self._settings))
        yield request


@attrs.frozen
class GenaiTransport:
    """The API by google-genai; a `Transport`."""

    _client: Any
    _clock: Clock

    async def generate(self, model: str, body: JsonObject, timeout_s: float) -> object:
        """Return the answer, whole and as it came: the SDK's models would drop what is new."""
        contents, config = _arguments(body, timeout_s)
        config.should_return_http_response = True
        with _translated(self._clock):
            response = await self._client.models.generate_content(
                model=model, contents=contents, config=config
            )
            return failures.parsed(response.sdk_http_response.body)

    async def stream(
        self, model: str, body: JsonObject, timeout_s: float, take: Callable[[object], None]
    ) -> None:
        """Hand over the answer piece by piece."""
        contents, config = _arguments(body, timeout_s)
        with _translated(self._clock), _arriving() as events:
            stream = await self._client.models.generate_content_stream(
                model=model, contents=contents, config=config
            )
            try:
                async for _ in stream:
                    _hand_over(events, take)
            finally:
                _hand_over(events, take)

    async def embed(
        self, model: str, texts: Sequence[str], dimensions: int | None, timeout_s: float
    ) -> list[list[float]]:
        """Return a vector for each text."""
        # Bare texts may be taken as the parts of one.
        contents = [types.Content(parts=[types.Part(text=text)]) for text in texts]
        config = types.EmbedContentConfig(
            output_dimensionality=dimensions, http_options=_options(timeout_s)
        )
        with _translated(self._clock):
            response = await self._client.models.embed_content(
                model=model, contents=contents, config=config
            )
        return [list(vector.values or ()) for vector in response.embeddings or ()]

    async def create_cache(self, body: JsonObject, timeout_s: float) -> JsonObject:
        """Create a cache and return how the API shows it."""
        given = {name: value for name, value in body.items() if name != "model"}
        with failures.while_asking():
            config = types.CreateCachedContentConfig.model_validate(given)
        config.http_options = _options(timeout_s)
        with _translated(self._clock):
            cache = await self._client.caches.create(model=body["model"], config=config)
        return _json(cache)

    async def list_caches(self, timeout_s: float) -> list[JsonObject]:
        """Return the caches of the first page."""
        config = types.ListCachedContentsConfig(
            page_size=_CACHES_A_PAGE, http_options=_options(timeout_s)
        )
        with _translated(self._clock):
            page = await self._client.caches.list(config=config)
        return [_json(cache) for cache in page.page]


@contextmanager
def _translated(clock: Clock) -> Generator[None]:
    try:
        yield
    except ProviderError:
        raise
    except BadEvent as error:
        raise _of_event(error, clock.now_ms()) from error
    except errors.APIError as error:
        raise _of_api_error(error, clock.now_ms()) from error
    except Exception as error:  # the SDK may raise anything
        raise failures.of_client_error(error) from error


def _options(timeout_s: float) -> types.HttpOptions:
    return types.HttpOptions(timeout=max(round(timeout_s * 1000), 1))


def _arguments(
    body: JsonObject, timeout_s: float
) -> tuple[list[types.Content], types.GenerateContentConfig]:
    """Return a body as the SDK wants it: contents, and everything else as their configuration."""
    rest: dict[str, Any] = {**body, **_ALONE}
    turns, generation = rest.pop("contents"), rest.pop("generationConfig", {})
    with failures.while_asking():
        config = types.GenerateContentConfig.model_validate({**rest, **generation})
        contents = [types.Content.model_validate(turn) for turn in turns]
    config.http_options = _options(timeout_s)
    return contents, config


def _json(cache: types.CachedContent) -> JsonObject:
    return cache.model_dump(mode="json", by_alias=True, exclude_none=True)


@contextmanager
def _arriving() -> Generator[list[dict[str, Any]]]:
    """Have the events of a call put into a list."""
    events: list[dict[str, Any]] = []
    token = arrived.set(events)
    try:
        yield events
    finally:
        arrived.reset(token)


def _hand_over(events: list[dict[str, Any]], take: Callable[[object], None]) -> None:
    for event in events:
        take(event)
    events.clear()


def _of_event(error: BadEvent, now_ms: int) -> ProviderError:
    if error.body is None:
        return failures.of_garbled(str(error))
    told = as_object(error.body["error"]) or {}
    return failures.of_response(told.get("code"), error.body, {}, now_ms)


def _of_api_error(error: Any, now_ms: int) -> ProviderError:  # noqa: ANN401
    headers: Any = getattr(error.response, "headers", None) or {}
    return failures.of_response(error.code, error.details, headers, now_ms)
