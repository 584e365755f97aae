"""What the Gemini API keeps between requests: prefixes of conversations, until they expire.

https://ai.google.dev/api/caching
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import attrs

from rainengine.core.abc import Clock
from rainengine.core.records import JsonObject, JsonValue
from rainengine.model_servers._complaining import as_object
from rainengine.model_servers._gemini_complaints import cache_complaints

_TTL = "3600s"
_CHARACTERS_A_TOKEN = 4


class CacheRefused(Exception):
    """The API would not do what it was asked to do about a cache."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@attrs.frozen
class _Cache:
    body: Mapping[str, Any]
    shown: JsonObject
    expires_at_ms: int


@attrs.define(eq=False)
class Caches:
    """Creates, shows, lists and deletes caches, and forgets them when they expire."""

    _clock: Clock
    _min_tokens: int
    _made: int = 0
    _caches: dict[str, _Cache] = attrs.field(factory=dict[str, _Cache])

    def used_by(self, body: object) -> Mapping[str, Any] | None:
        """Return the body that a request's cache was created with. Raises `CacheRefused`."""
        name = (as_object(body) or {}).get("cachedContent")
        return None if name is None else self._find(str(name)).body

    def reply(self, method: str, name: str, body: object) -> JsonObject:
        """Return the answer to a request. Raises `CacheRefused`."""
        listing = name == "cachedContents"
        match method:
            case "POST" if listing:
                return self._create(body)
            case "GET" if listing:
                shown: list[JsonValue] = [cache.shown for cache in self._living().values()]
                return {"cachedContents": shown} if shown else {}
            case "GET":
                return self._find(name).shown
            case "DELETE" if not listing:
                self._find(name)
                del self._caches[name]
                return {}
            case _:
                raise CacheRefused(404, f"no {method} of {name}")

    def _create(self, body: Any) -> JsonObject:  # noqa: ANN401  # JSON
        if complaints := cache_complaints(body):
            raise CacheRefused(400, "; ".join(complaints))
        tokens = len(json.dumps(body)) // _CHARACTERS_A_TOKEN
        if tokens < self._min_tokens:
            message = f"Cached content is too small. {tokens=}, min_tokens={self._min_tokens}"
            raise CacheRefused(400, message)
        self._made += 1
        name, now_ms = f"cachedContents/{self._made}", self._clock.now_ms()
        ttl_s = float(body.get("ttl", _TTL).removesuffix("s"))
        expires_at_ms = now_ms + round(ttl_s * 1000)
        shown: JsonObject = {
            "name": name,
            "model": body["model"],
            "displayName": body.get("displayName", ""),
            "createTime": _timestamp(now_ms),
            "updateTime": _timestamp(now_ms),
            "expireTime": _timestamp(expires_at_ms),
            "usageMetadata": {"totalTokenCount": tokens},
        }
        self._caches[name] = _Cache(body, shown, expires_at_ms)
        return shown

    def _find(self, name: str) -> _Cache:
        cache = self._living().get(name)
        if cache is None:
            raise CacheRefused(403, "CachedContent not found (or permission denied)")
        return cache

    def _living(self) -> dict[str, _Cache]:
        now_ms = self._clock.now_ms()
        self._caches = {n: c for n, c in self._caches.items() if c.expires_at_ms > now_ms}
        return self._caches


def _timestamp(at_ms: int) -> str:
    at = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=at_ms)
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
