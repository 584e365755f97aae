"""Beginnings of prompts that Google keeps, so that they are paid for once.

The longest beginning that is kept is used. Where at least `EnginePolicy.cache_threshold_tokens`
follow on it that could be kept too, a longer one is created. Creating costs as much as sending
once, and storage: so a session whose last cache was never used does not get another one before
that has expired. Its prompts do not begin alike, as happens where its window moves with each step.

A cache that cannot be had is done without. One that has vanished before its time is forgotten,
and the call fails in such a way that the engine makes it again.
"""

from __future__ import annotations

from collections import deque
from datetime import datetime
from functools import partial
from typing import TypeAlias

import attrs

from rainengine.core.abc import Clock
from rainengine.core.errors import ProviderError
from rainengine.core.records import JsonObject, ProviderCache
from rainengine.provider_gemini._prefixes import NAMED, Prefix, after, creation_body, prefixes_of
from rainengine.provider_gemini._transport import Transport

SMALLEST_TOKENS = 1024
"""No model keeps less (https://ai.google.dev/gemini-api/docs/caching)."""

_MARGIN_MS = 5_000
"""A cache that expires sooner is not used: the request may take a while to get there."""

_SHARE = 0.25
"""Of the time that there is for a call, so much is for finding a cache, and for creating one."""

_RETRY_MS = 60_000
"""For so long a session does without after a cache could not be had."""

_MOST_UNREPORTED = 1000
"""Of so many caches, whose calls all failed, is it known that they are yet to be told of."""

_NOT_TO_BE_HAD = (ProviderError, KeyError, TypeError, ValueError)
"""The API refuses, or answers with something else than a cache."""

SessionKey: TypeAlias = tuple[str, str]


@attrs.define(kw_only=True)
class Cache:
    """What Google keeps for us. `expires_at_ms` is Unix time."""

    name: str
    tokens: int
    expires_at_ms: int
    uses: int = 0


@attrs.frozen(kw_only=True)
class Prepared:
    """A body that may use a cache."""

    body: JsonObject
    used: Prefix | None = None


@attrs.define
class Caches:
    """Knows what is kept, by the name of the beginning."""

    _transport: Transport
    _clock: Clock
    _ttl_s: int
    _kept: dict[str, Cache] = attrs.field(factory=dict[str, Cache])
    _last: dict[SessionKey, Cache] = attrs.field(factory=dict[SessionKey, Cache])
    _unreported: deque[tuple[SessionKey, ProviderCache]] = attrs.field(
        factory=partial(deque[tuple[SessionKey, ProviderCache]], maxlen=_MOST_UNREPORTED)
    )

    async def prepare(
        self,
        body: JsonObject,
        *,
        model: str,
        session: SessionKey,
        threshold_tokens: int,
        timeout_s: float,
    ) -> Prepared:
        """Return the body, its beginning taken from a cache where there is or should be one."""
        threshold_tokens = max(threshold_tokens, SMALLEST_TOKENS)
        prefixes = prefixes_of(model, body, threshold_tokens) if self._ttl_s else []
        if not prefixes:
            return Prepared(body=body)
        self._forget_expired()
        if self._lacks(prefixes, threshold_tokens) and self._may_create(session):
            await self._find(timeout_s * _SHARE)
            if self._lacks(prefixes, threshold_tokens):
                await self._create(body, prefixes[-1], model, session, timeout_s * _SHARE)
        used = self._longest(prefixes)
        if used is None:
            return Prepared(body=body)
        cache = self._kept[used.name]
        cache.uses += 1
        return Prepared(body=after(body, used, cache.name), used=used)

    def unreported(self, session: SessionKey) -> ProviderCache | None:
        """Return a cache that was created for the session, once: for a decision to tell of it.

        One whose call then failed is told of with a later decision of that session, expired or
        not: it was paid for. Where too many wait for that, the oldest is never told of.
        """
        waiting = next((one for one in self._unreported if one[0] == session), None)
        if waiting is None:
            return None
        self._unreported.remove(waiting)
        return waiting[1]

    def forget(self, prefix: Prefix) -> None:
        """Do without a cache that has vanished."""
        self._kept.pop(prefix.name, None)

    def _forget_expired(self) -> None:
        soon_ms = self._clock.now_ms() + _MARGIN_MS
        self._kept = {n: c for n, c in self._kept.items() if c.expires_at_ms > soon_ms}
        self._last = {s: c for s, c in self._last.items() if c.expires_at_ms > soon_ms}

    def _longest(self, prefixes: list[Prefix]) -> Prefix | None:
        return next((one for one in reversed(prefixes) if one.name in self._kept), None)

    def _lacks(self, prefixes: list[Prefix], threshold_tokens: int) -> bool:
        """Whether as much could be kept as is worth it, beyond what is kept."""
        used = self._longest(prefixes)
        return prefixes[-1].tokens - (used.tokens if used else 0) >= threshold_tokens

    def _may_create(self, session: SessionKey) -> bool:
        last = self._last.get(session)
        return last is None or last.uses > 1  # the first use is the call that it was created for

    async def _create(
        self, body: JsonObject, prefix: Prefix, model: str, session: SessionKey, timeout_s: float
    ) -> None:
        creation = creation_body(model, body, prefix, self._ttl_s)
        try:
            cache = _read(await self._transport.create_cache(creation, timeout_s))
        except _NOT_TO_BE_HAD:
            until_ms = self._clock.now_ms() + _MARGIN_MS + _RETRY_MS
            self._last[session] = Cache(name="", tokens=0, expires_at_ms=until_ms)
            return
        self._kept[prefix.name] = self._last[session] = cache
        self._unreported.append((session, _recorded(cache, model)))

    async def _find(self, timeout_s: float) -> None:
        """Learn what others have created, or this process before it was started again."""
        try:
            for shown in await self._transport.list_caches(timeout_s):
                name = str(shown.get("displayName", ""))
                if name.startswith(NAMED):
                    self._kept.setdefault(name, _read(shown))
        except _NOT_TO_BE_HAD:
            return  # one more is created, which does no harm
        self._forget_expired()


def _read(shown: JsonObject) -> Cache:
    usage = shown.get("usageMetadata")
    tokens = usage.get("totalTokenCount", 0) if isinstance(usage, dict) else 0
    expires_at = datetime.fromisoformat(str(shown["expireTime"]))
    return Cache(
        name=str(shown["name"]),
        tokens=int(str(tokens)),
        expires_at_ms=round(expires_at.timestamp() * 1000),
    )


def _recorded(cache: Cache, model: str) -> ProviderCache:
    return ProviderCache(
        cache_id=cache.name,
        model=model,
        tokens=cache.tokens,
        through_sequence=0,  # see `GeminiProvider`
        expires_at_ms=cache.expires_at_ms,
    )
