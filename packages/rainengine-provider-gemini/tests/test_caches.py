"""Beginnings of prompts that Google keeps."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from rainengine.core.environment import SystemClock
from rainengine.core.errors import ProviderError
from rainengine.core.records import (
    ChatMessage,
    EnginePolicy,
    JsonObject,
    ProviderCache,
    Respond,
    SkillManifest,
    TextPart,
    ToolCallPart,
    ToolResultPart,
)
from rainengine.core.settings import Secret
from rainengine.model_servers import Answer, Asked, Failure, Tokens, open_gemini_server
from rainengine.provider_gemini import GeminiSettings, open_gemini_provider
from rainengine.provider_gemini._caches import Caches
from rainengine.provider_gemini._prefixes import prefixes_of

LONG = "All work and no play. " * 400
POLICY = EnginePolicy(cache_threshold_tokens=2000)
TTL_MS = 600_000


def story(turns: int, name: str = "story") -> tuple[ChatMessage, ...]:
    """A conversation that begins with something long and goes on for so many turns."""
    beginning = [
        ChatMessage("system", (TextPart("Be kind."),)),
        ChatMessage("user", (TextPart(f"{name}: {LONG}"),)),
    ]
    steps = [
        message
        for turn in range(turns)
        for message in (
            ChatMessage("assistant", (ToolCallPart(call_id=f"c{turn}", name="look_up", args={}),)),
            ChatMessage("tool", (ToolResultPart(call_id=f"c{turn}", name="look_up", value=turn),)),
        )
    ]
    return (*beginning, *steps)


def answering(asked: Asked) -> Answer:
    """An answer to anything."""
    return Answer(text=f"{len(asked.messages)} messages", tokens=Tokens(input=3000, cached=2500))


def paths(server: Any) -> list[str]:
    """What was done, in order."""
    return [
        f"{request.method} {request.path.rpartition('/')[2].rpartition(':')[2]}"
        for request in server.requests
    ]


@pytest.fixture
def asked(asking: Any, look_up: SkillManifest) -> Any:
    """Return a function that makes a request for a step of the story."""

    def make(turns: int, **changes: Any) -> Any:
        name = changes.pop("name", "story")
        changes = {"policy": POLICY, "available_skills": (look_up,), **changes}
        return asking(*story(turns, name), **changes)

    return make


async def test_long_beginning_is_kept_and_used(serving: Any, asked: Any, sdk: str) -> None:
    """What is long enough is kept once, recorded, and taken from there by this and later calls."""
    async with serving(answering, sdk=sdk) as (server, provider):
        first = await provider.generate_action(asked(1))
        second = await provider.generate_action(asked(2))
    assert ["GET cachedContents", "POST cachedContents", "POST generateContent"] == paths(server)[
        :3
    ]
    assert ["POST generateContent"] == paths(server)[3:]
    cache = first.cache
    expected = ProviderCache(
        cache_id="cachedContents/1",
        model="gemini-2.5-flash",
        tokens=cache.tokens,
        through_sequence=0,
        expires_at_ms=1_000_000 + TTL_MS,
    )
    assert expected == cache
    assert second.cache is None
    assert Respond("4 messages") == first.action
    assert Respond("6 messages") == second.action
    for request in server.requests[2:]:
        assert "cachedContents/1" == request.json["cachedContent"]
        assert {"systemInstruction", "tools", "toolConfig"}.isdisjoint(request.json)
    assert [2, 4] == [len(request.json["contents"]) for request in server.requests[2:]]


async def test_short_prompt_is_not_kept(serving: Any, asked: Any) -> None:
    """Below the threshold nothing is kept."""
    policy = EnginePolicy(cache_threshold_tokens=4000)
    async with serving(answering) as (server, provider):
        decision = await provider.generate_action(asked(1, policy=policy))
    assert ["POST generateContent"] == paths(server)
    assert decision.cache is None


async def test_nothing_is_kept_for_no_time(serving: Any, asked: Any) -> None:
    """With a time to live of 0 there are no caches."""
    async with serving(answering, cache_ttl_s=0) as (server, provider):
        await provider.generate_action(asked(1))
    assert ["POST generateContent"] == paths(server)


async def test_system_instruction_alone_can_be_kept(
    serving: Any, asking: Any, look_up: SkillManifest
) -> None:
    """A long instruction is kept before anything was said."""
    messages = (ChatMessage("system", (TextPart(LONG),)), "Hi")
    async with serving(answering) as (server, provider):
        request = asking(*messages, policy=POLICY, available_skills=(look_up,))
        decision = await provider.generate_action(request)
    assert "contents" not in server.requests[1].json
    assert decision.cache is not None


async def test_cache_is_told_of_after_a_failure(serving: Any, asked: Any) -> None:
    """A cache whose first call fails is paid for and told of with the next decision, once."""
    turns = iter([Failure(status=503), answering, answering])

    def script(request: Asked) -> Any:
        turn = next(turns)
        return turn if isinstance(turn, Failure) else turn(request)

    async with serving(script) as (_, provider):
        with pytest.raises(ProviderError):
            await provider.generate_action(asked(1))
        others = await provider.generate_action(asked(1, session_id="another"))
        second = await provider.generate_action(asked(1))
    assert others.cache is None
    assert second.cache.cache_id == "cachedContents/1"


async def test_cache_is_told_of_although_it_has_expired(
    serving: Any, asked: Any, clock: Any
) -> None:
    """A cache that was paid for is told of however late, and then the one that came after it."""
    turns = iter([Failure(status=503), answering, answering])

    def script(request: Asked) -> Any:
        turn = next(turns)
        return turn if isinstance(turn, Failure) else turn(request)

    async with serving(script) as (_, provider):
        with pytest.raises(ProviderError):
            await provider.generate_action(asked(1))
        clock.at_ms += TTL_MS
        told = [(await provider.generate_action(asked(1))).cache for _ in range(2)]
    assert ["cachedContents/1", "cachedContents/2"] == [cache.cache_id for cache in told]


async def test_sessions_at_once_are_told_of_their_own_caches(serving: Any, asked: Any) -> None:
    """Of two sessions that create caches at the same time, each is told of what it pays for."""
    turns = iter([Failure(status=503), Failure(status=503), answering, answering])

    def script(request: Asked) -> Any:
        turn = next(turns)
        return turn if isinstance(turn, Failure) else turn(request)

    async with serving(script) as (server, provider):

        async def fail(session: str) -> None:
            with pytest.raises(ProviderError):
                await provider.generate_action(asked(1, name=session, session_id=session))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(fail, "ada")
            nursery.start_soon(fail, "bob")
        created = [one.json for one in server.requests if b"displayName" in one.body]
        owners = [body["contents"][0]["parts"][0]["text"].partition(":")[0] for body in created]
        for session in reversed(owners):
            request = asked(1, name=session, session_id=session)
            cache = (await provider.generate_action(request)).cache
            assert f"cachedContents/{1 + owners.index(session)}" == cache.cache_id


async def test_caches_to_be_told_of_are_bounded() -> None:
    """Where calls fail for ever, the oldest of too many caches is forgotten, and no other."""
    caches = Caches(_Creating(), SystemClock(), 600)
    for number in range(1001):
        await caches.prepare(
            {"contents": [{"role": "user", "parts": [{"text": LONG}]}], "tools": [LONG]},
            model=str(number),
            session=("t", str(number)),
            threshold_tokens=0,
            timeout_s=1.0,
        )
    assert caches.unreported(("t", "0")) is None
    for number in range(1, 1001):
        cache = caches.unreported(("t", str(number)))
        assert cache is not None
        assert str(number) == cache.model
        assert caches.unreported(("t", str(number))) is None


class _Creating:
    """An API that keeps whatever it is given."""

    async def create_cache(self, body: JsonObject, timeout_s: float) -> JsonObject:
        return {"name": "cachedContents/x", "expireTime": "2999-01-01T00:00:00Z"}

    async def list_caches(self, timeout_s: float) -> list[JsonObject]:
        return []


async def test_expired_cache_is_replaced(serving: Any, asked: Any, clock: Any) -> None:
    """A cache is used until shortly before it expires; then there is a new one."""
    async with serving(answering) as (server, provider):
        await provider.generate_action(asked(1))
        clock.at_ms += TTL_MS - 6_000
        late = await provider.generate_action(asked(2))
        clock.at_ms += 2_000
        later = await provider.generate_action(asked(3))
    assert late.cache is None
    assert "cachedContents/2" == later.cache.cache_id
    assert "cachedContents/2" == server.requests[-1].json["cachedContent"]


async def test_cache_is_found_again_after_a_restart(asked: Any, clock: Any, sdk: str) -> None:
    """A new process finds what an earlier one has kept, and pays for nothing twice."""
    async with open_gemini_server(answering, clock=clock) as server:
        settings = GeminiSettings(
            model="gemini-2.5-flash", api_key=Secret("k"), base_url=server.url, sdk=sdk
        )
        decisions = []
        for turns in (1, 2):
            async with open_gemini_provider(settings, clock=clock) as provider:
                decisions.append(await provider.generate_action(asked(turns)))
    assert 1 == paths(server).count("POST cachedContents")
    assert [True, False] == [decision.cache is not None for decision in decisions]
    assert "cachedContents/1" == server.requests[-1].json["cachedContent"]


async def test_cache_that_has_vanished_is_done_without(
    serving: Any, asked: Any, clock: Any
) -> None:
    """A cache that is gone before its time fails the call once, in such a way as to be retried."""
    async with serving(answering) as (server, provider):
        await provider.generate_action(asked(1))
        clock.at_ms += TTL_MS  # gone at the server
        keeper = provider._caches._kept
        for cache in keeper.values():
            cache.expires_at_ms += 2 * TTL_MS  # and thought to be there by the provider
        with pytest.raises(ProviderError, match="with a cache") as caught:
            await provider.generate_action(asked(2))
        decision = await provider.generate_action(asked(2))
    assert ("transport", True) == (caught.value.kind, caught.value.retryable)
    assert Respond("6 messages") == decision.action
    assert "cachedContents/1" != server.requests[-1].json.get("cachedContent")


async def test_refused_cache_is_done_without(serving: Any, asked: Any, clock: Any) -> None:
    """Where the API keeps nothing the call is made all the same, and not asked for a while."""
    async with serving(answering, min_cache_tokens=100_000) as (server, provider):
        for turns in (1, 2):
            decision = await provider.generate_action(asked(turns))
            assert decision.cache is None
        clock.at_ms += 120_000
        await provider.generate_action(asked(3))
    kept = paths(server)
    assert 2 == kept.count("POST cachedContents")
    assert 3 == kept.count("POST generateContent")


async def test_beginnings_that_change_are_not_kept_again(serving: Any, asked: Any) -> None:
    """A session whose cache is never used again gets no other one meanwhile; another one does."""
    async with serving(answering) as (server, provider):
        for number in range(4):
            await provider.generate_action(asked(1, name=f"story {number}"))
        await provider.generate_action(asked(1, name="another", session_id="s2"))
    assert 2 == paths(server).count("POST cachedContents")


async def test_conversation_that_outgrows_its_cache_gets_a_longer_one(
    serving: Any, asked: Any, asking: Any, look_up: SkillManifest
) -> None:
    """Once as much again could be kept, it is."""
    more = (
        *story(2),
        ChatMessage("user", (TextPart(LONG),)),
        ChatMessage("assistant", (TextPart("Oh."),)),
        ChatMessage("user", (TextPart("Well?"),)),
    )
    async with serving(answering) as (server, provider):
        await provider.generate_action(asked(1))
        await provider.generate_action(asked(2))
        request = asking(*more, policy=POLICY, available_skills=(look_up,))
        longer = await provider.generate_action(request)
    assert "cachedContents/2" == longer.cache.cache_id
    assert 1 == len(server.requests[-1].json["contents"])


async def test_creating_a_cache_is_paid_for(serving: Any, asked: Any) -> None:
    """What a cache holds is paid for once in full, with the decision that tells of it."""
    price = {"input_micros": 1_000_000, "output_micros": 0, "cached_micros": 100_000}
    async with serving(answering, price=price) as (_, provider):
        first = await provider.generate_action(asked(1))
        second = await provider.generate_action(asked(2))
    usual = 500 + 250
    assert usual == second.usage.cost_micros
    assert usual + first.cache.tokens == first.usage.cost_micros


def test_beginnings_do_not_tear_calls_from_responses() -> None:
    """What follows on a beginning never begins with the responses to calls within it."""
    turn = {"role": "user", "parts": [{"text": "x"}]}
    calls = {"role": "model", "parts": [{"functionCall": {"name": "f"}}]}
    responses = {"role": "user", "parts": [{"functionResponse": {"name": "f", "response": {}}}]}
    body = {"contents": [turn, calls, responses, calls, responses]}
    assert [0, 1, 3] == [prefix.turns for prefix in prefixes_of("m", body)]


def test_name_of_a_beginning_is_all_that_is_in_it() -> None:
    """Model, instruction, tools and turns make the name; what comes after does not."""
    turn = {"role": "user", "parts": [{"text": "x"}]}
    answer = {"role": "model", "parts": [{"text": "y"}]}
    body = {"contents": [turn, answer, turn], "tools": [1]}
    base = prefixes_of("m", body)
    assert base == prefixes_of("m", {**body, "contents": [turn, answer, turn, answer, turn]})[:3]
    others = [
        prefixes_of("n", body),
        prefixes_of("m", {**body, "tools": [2]}),
        prefixes_of("m", {**body, "systemInstruction": {"parts": []}}),
    ]
    names = {prefixes[-1].name for prefixes in (base, *others)}
    assert 4 == len(names)
    assert all(len(name) <= 128 for name in names)  # as long as a display name may be


def test_pictures_count_as_what_they_cost() -> None:
    """The size of a file in base64 says nothing about its tokens."""
    part = {"inlineData": {"mimeType": "image/png", "data": "A" * 100_000}}
    body = {"contents": [{"role": "user", "parts": [part]}, {"role": "model", "parts": []}]}
    assert prefixes_of("m", body)[-1].tokens < 1000
