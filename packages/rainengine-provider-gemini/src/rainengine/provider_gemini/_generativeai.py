"""The seam over google-generativeai, the SDK that ended in November 2025.

Its asynchronous clients need asyncio and gRPC. Here its REST clients do their work in threads, as
many as there may be connections. A call that is cancelled is left at once, and its connection is
shut down (see `_lines`), so that its thread ends too.

The clients are used as they are, and not through `GenerativeModel`: that takes its client from
settings of the whole process, so that two providers would share one key. Their session is given
connections that can be ended, and the key; the SDK itself holds none.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import AsyncGenerator, Callable, Generator, Sequence
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from importlib import import_module
from itertools import islice
from typing import Any, TypeVar

import attrs
import trio

from rainengine.core.abc import Clock
from rainengine.core.errors import ProviderError
from rainengine.core.records import JsonObject
from rainengine.provider_gemini import _failures as failures
from rainengine.provider_gemini._lines import Line, LineAdapter, current_line
from rainengine.provider_gemini._old_bodies import old_body, with_integers
from rainengine.provider_gemini._settings import GeminiSettings
from rainengine.provider_gemini._transport import auth_headers

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # it says that it has ended
    # Untyped, and so is what they return.
    _protos: Any = import_module("google.generativeai.protos")
    _services: Any = import_module("google.ai.generativelanguage")
    _client_options: Any = import_module("google.api_core.client_options")
    _errors: Any = import_module("google.api_core.exceptions")
    _credentials: Any = import_module("google.auth.credentials")
    _json_format: Any = import_module("google.protobuf.json_format")

_T = TypeVar("_T")

_CACHES = 1000


@asynccontextmanager
async def open_generativeai(
    settings: GeminiSettings, clock: Clock
) -> AsyncGenerator[GenerativeAiTransport]:
    """Build the SDK's REST clients."""
    client = _client(_services.GenerativeServiceClient, settings)
    caches = _client(_services.CacheServiceClient, settings)
    limiter = trio.CapacityLimiter(settings.max_connections)
    try:
        yield GenerativeAiTransport(client, caches, limiter, clock)
    finally:
        for one in (client, caches):
            one.transport.close()


def _client(service: Any, settings: GeminiSettings) -> Any:  # noqa: ANN401  # untyped
    client = service(
        transport="rest",
        client_options=_client_options.ClientOptions(
            api_endpoint=settings.base_url.removesuffix("/")
        ),
        credentials=_credentials.AnonymousCredentials(),
    )
    session = client.transport._session  # noqa: SLF001  # there is no other way to it
    session._max_refresh_attempts = 0  # noqa: SLF001  # else it asks again after a 401
    session.max_redirects = 0  # the key goes to nobody else
    session.auth = partial(_authenticated, settings)
    for scheme in ("http://", "https://"):
        session.mount(scheme, LineAdapter(settings.max_connections))
    return client


def _authenticated(settings: GeminiSettings, request: Any) -> Any:  # noqa: ANN401  # untyped
    request.headers.update(auth_headers(settings))
    return request


@attrs.frozen
class GenerativeAiTransport:
    """The API by google-generativeai; a `Transport`."""

    _client: Any
    _caches: Any
    _limiter: trio.CapacityLimiter
    _clock: Clock

    async def generate(self, model: str, body: JsonObject, timeout_s: float) -> object:
        """Return the answer, whole."""
        request = _request(model, body)
        with _translated(self._clock), _on_a_line():
            call = self._client.generate_content
            return _json(await self._in_thread(call, request, retry=None, timeout=timeout_s))

    async def stream(
        self, model: str, body: JsonObject, timeout_s: float, take: Callable[[object], None]
    ) -> None:
        """Hand over the answer piece by piece."""
        request = _request(model, body)

        def streamed(line: Line) -> None:
            call = self._client.stream_generate_content
            pieces = call(request, retry=None, timeout=timeout_s)
            try:
                for piece in pieces:
                    trio.from_thread.run_sync(_hand_over, take, _json(piece), line)
            finally:
                pieces.cancel()  # gives the connection back, or closes what was not read

        with _translated(self._clock), _on_a_line() as line:
            await self._in_thread(streamed, line)

    async def embed(
        self, model: str, texts: Sequence[str], dimensions: int | None, timeout_s: float
    ) -> list[list[float]]:
        """Return a vector for each text."""
        named = _path(model)
        requests = [
            {"model": named, "content": {"parts": [{"text": text}]}}
            | ({} if dimensions is None else {"outputDimensionality": dimensions})
            for text in texts
        ]
        request = _message(
            _protos.BatchEmbedContentsRequest, {"model": named, "requests": requests}
        )
        with _translated(self._clock), _on_a_line():
            call = self._client.batch_embed_contents
            response = await self._in_thread(call, request, retry=None, timeout=timeout_s)
            return [list(vector.values) for vector in response.embeddings]

    async def create_cache(self, body: JsonObject, timeout_s: float) -> JsonObject:
        """Create a cache and return how the API shows it."""
        request = _protos.CreateCachedContentRequest(
            cached_content=_message(_protos.CachedContent, old_body(body))
        )
        with _translated(self._clock), _on_a_line():
            call = self._caches.create_cached_content
            return _json(await self._in_thread(call, request, retry=None, timeout=timeout_s))

    async def list_caches(self, timeout_s: float) -> list[JsonObject]:
        """Return the first thousand caches."""
        request = _protos.ListCachedContentsRequest(page_size=_CACHES)

        def listed() -> list[JsonObject]:
            pages = self._caches.list_cached_contents(request, retry=None, timeout=timeout_s)
            return [_json(cache) for cache in islice(pages, _CACHES)]

        with _translated(self._clock), _on_a_line():
            return await self._in_thread(listed)

    async def _in_thread(self, call: Callable[..., _T], *args: Any, **options: Any) -> _T:  # noqa: ANN401
        return await trio.to_thread.run_sync(
            partial(call, *args, **options), abandon_on_cancel=True, limiter=self._limiter
        )


@contextmanager
def _translated(clock: Clock) -> Generator[None]:
    try:
        yield
    except ProviderError:
        raise
    except _errors.GoogleAPICallError as error:
        raise _of_api_error(error, clock.now_ms()) from error
    except Exception as error:  # the SDK may raise anything
        raise failures.of_client_error(error) from error


@contextmanager
def _on_a_line() -> Generator[Line]:
    """Have the calls within on a line of their own, and hang it up when they are cancelled."""
    line = Line()
    token = current_line.set(line)
    try:
        yield line
    except trio.Cancelled:
        line.hang_up()
        raise
    finally:
        current_line.reset(token)


def _hand_over(take: Callable[[object], None], piece: JsonObject, line: Line) -> None:
    if not line.over:  # a thread that was left may still have something
        take(piece)


def _path(model: str) -> str:
    return model if "/" in model else f"models/{model}"


def _request(model: str, body: JsonObject) -> Any:  # noqa: ANN401  # untyped
    return _message(_protos.GenerateContentRequest, {**old_body(body), "model": _path(model)})


def _message(kind: Any, value: Any) -> Any:  # noqa: ANN401  # untyped
    with failures.while_asking():
        return kind.from_json(json.dumps(value))


def _json(message: Any) -> JsonObject:  # noqa: ANN401  # untyped
    value: JsonObject = with_integers(_json_format.MessageToDict(message.__class__.pb(message)))
    return value


def _of_api_error(error: Any, now_ms: int) -> ProviderError:  # noqa: ANN401
    response = error.response
    if response is None:
        body = {"message": error.message}
        return failures.of_response(error.code or 0, body, {}, now_ms)
    try:
        body = response.json()
    except ValueError:
        body = {"message": response.text}
    return failures.of_response(response.status_code, body, response.headers, now_ms)
