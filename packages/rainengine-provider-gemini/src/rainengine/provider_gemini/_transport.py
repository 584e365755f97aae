"""The seam between the mapping and the SDKs: JSON in, JSON out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from rainengine.core.records import JsonObject
from rainengine.provider_gemini._settings import GeminiSettings


class Transport(Protocol):
    """One SDK, as calls of the API with bodies in its REST form.

    All raise `ProviderError` and nothing else, try once, and stop when they are cancelled.
    What they raise may hold the secret, or have a cause that does.
    `timeout_s` is how long the server may be silent.
    """

    async def generate(self, model: str, body: JsonObject, timeout_s: float) -> object:
        """Return the answer, whole."""
        ...

    async def stream(
        self, model: str, body: JsonObject, timeout_s: float, take: Callable[[object], None]
    ) -> None:
        """Hand over the answer piece by piece. `take` does not raise."""
        ...

    async def embed(
        self, model: str, texts: Sequence[str], dimensions: int | None, timeout_s: float
    ) -> list[list[float]]:
        """Return a vector for each text."""
        ...

    async def create_cache(self, body: JsonObject, timeout_s: float) -> JsonObject:
        """Create a cache and return how the API shows it."""
        ...

    async def list_caches(self, timeout_s: float) -> list[JsonObject]:
        """Return the caches that there are, the first thousand or so, as the API shows them."""
        ...


def auth_headers(settings: GeminiSettings) -> dict[str, str]:
    """Return what a request has to carry. It holds the secret."""
    secret = _secret_of(settings)
    if settings.bearer_token is not None:
        return {"authorization": f"Bearer {secret}"}
    return {"x-goog-api-key": secret}


def concealing(settings: GeminiSettings) -> Callable[[str], str]:
    """Return what takes the secret out of a text, should a server send it back."""
    secret = _secret_of(settings)
    return lambda said: said.replace(secret, "...")


def _secret_of(settings: GeminiSettings) -> str:
    secret = settings.bearer_token or settings.api_key
    return "" if secret is None else secret.reveal().strip()
