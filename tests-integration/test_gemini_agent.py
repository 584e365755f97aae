"""The demo's agent with a model behind the Gemini API: whole, streamed, killed and resumed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import trio

from rainengine.core import (
    AgentEngine,
    EnginePolicy,
    InMemoryLedger,
    Message,
    ProcessRequest,
    RetryPolicy,
    open_provider,
    run_until_terminal,
    skill,
)
from rainengine.core.records import ModelDecision, ProviderCache, ProviderUsage
from rainengine.core.settings import Secret
from rainengine.model_servers import (
    Answer,
    Call,
    Failure,
    Hang,
    Server,
    broken_off,
    open_gemini_server,
)
from testbed.bookkeeper import (
    check_hanging_up,
    check_work,
    files_with,
    keep_books,
    live,
    run_demo,
)

KEY = "canary-4711-in-no-ledger"
MODEL = "gemini-2.5-flash"
REQUEST = ProcessRequest(
    session_id="s", trigger=Message(user_id="ada", content="hi"), idempotency_key="k"
)


@pytest.fixture(params=["google-genai", "google-generativeai"])
def sdk(request: pytest.FixtureRequest) -> str:
    """Each SDK in turn."""
    return str(request.param)


def named(server: Server, sdk: str) -> dict[str, str]:
    """Return what the environment says of a model at the server."""
    return {
        "GEMINI_API_KEY": KEY,
        "GOOGLE_GEMINI_BASE_URL": server.url,
        "RAINENGINE_MODEL": MODEL,
        "RAINENGINE_GEMINI_SDK": sdk,
        "OPENAI_API_KEY": "",
        "OPENAI_BASE_URL": "",
    }


def plain(server: Server, sdk: str) -> dict[str, Any]:
    """Return settings as a file of configuration would hold them, but for the key."""
    return {"model": MODEL, "base_url": server.url, "sdk": sdk, "api_key": Secret(KEY)}


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
async def test_killed_and_resumed(tmp_path: Path, sdk: str, *, stream: bool) -> None:
    """Killed while effects are under way, and started again, the agent ends as it should."""
    with trio.fail_after(90):
        async with open_gemini_server(keep_books, api_key=KEY) as server:
            first = await live(tmp_path, named(server, sdk), stream=stream, killed=True)
            asked_before = len(server.requests)
            second = await live(tmp_path, named(server, sdk), stream=stream)
            paths = [request.path for request in server.requests]
    assert (first.returncode, second.returncode) == (-9, 0), first.errors + second.errors
    assert asked_before < len(paths) == 7
    method = ":streamGenerateContent" if stream else ":generateContent"
    assert all(path.endswith(method) for path in paths)
    await check_work(tmp_path, model=MODEL)
    assert (tmp_path / "told.txt").read_text().startswith("Let me see." if stream else "")
    assert files_with(tmp_path, KEY) == []
    assert KEY not in first.errors + second.errors


async def test_the_demo_itself(tmp_path: Path, sdk: str) -> None:
    """With a model named in the environment, the demo has that one decide."""
    with trio.fail_after(90):
        async with open_gemini_server(keep_books, api_key=KEY) as server:
            output = await run_demo(tmp_path, named(server, sdk))
    assert f"{MODEL} at {server.url} decides." in output
    assert "NO" not in output.split()
    assert KEY not in output


async def test_cancelled_in_the_middle_of_a_stream(sdk: str) -> None:
    """A host that gives up while the model talks is free within 100 ms, and can go on later."""
    script = [Answer(text="one two", sending=broken_off(Hang(), after=1)), Answer(text="whole")]
    async with (
        open_gemini_server(script) as server,
        open_provider("gemini", plain(server, sdk)) as provider,
    ):
        await check_hanging_up(server, provider)


async def test_failures_are_retried_by_the_engine(sdk: str) -> None:
    """What may pass is asked again, on record; what an answer lacks is told to the model."""
    script = [
        Failure(status=503),
        Answer(text="Once upon", stop="length"),
        Answer(calls=(Call(name="look_up", args="{"),)),
        Answer(text="whole"),
    ]
    ledger = InMemoryLedger()
    policy = EnginePolicy(provider_retry=RetryPolicy(initial_interval_ms=1))
    async with open_gemini_server(script) as server:
        async with open_provider("gemini", plain(server, sdk)) as provider:
            engine = AgentEngine(ledger=ledger, provider=provider, policy=policy)
            result = await run_until_terminal(engine, REQUEST)
        told = str(server.requests[-1].json)
    assert result.outcome.response == "whole"
    assert "cut short at the limit of its length" in told
    assert "the function call could not be read" in told
    facts = [entry.record for entry in await ledger.read("s")]
    usages = [(one.status, one.error_kind) for one in facts if isinstance(one, ProviderUsage)]
    assert usages == [("failed", "internal"), *[("settled", None)] * 3]
    decisions = [one for one in facts if isinstance(one, ModelDecision)]
    assert [one.action is None for one in decisions] == [True, True, False]


@skill(effects="pure")
async def look_up(word: str) -> str:
    """Look a word up."""
    return f"{word}: a word"


async def test_long_prompts_are_kept_and_recorded(sdk: str) -> None:
    """A prompt that is long enough is kept; a restarted host uses what its former self kept."""
    script = [Answer(calls=(Call(name="look_up", args={"word": f"w{n}"}),)) for n in range(3)]
    ledger = InMemoryLedger()
    policy = EnginePolicy(cache_threshold_tokens=2_000)
    trigger = Message(user_id="ada", content="All work and no play. " * 500)
    request = ProcessRequest(session_id="s", trigger=trigger, idempotency_key="k")
    async with open_gemini_server([*script, Answer(text="done")]) as server:
        for lives in range(2):
            async with open_provider("gemini", plain(server, sdk)) as provider:
                engine = AgentEngine(
                    ledger=ledger, provider=provider, skills=[look_up], policy=policy, owner="host"
                )
                if lives:
                    result = await run_until_terminal(engine, request)
                else:
                    for _ in range(2):  # and then the process ends
                        await engine.advance(request)
        created = [one for one in server.requests if one.path.endswith("/cachedContents")]
        asked = [one.json for one in server.requests if ":generateContent" in one.path]
    assert result.outcome.response == "done"
    assert [one.method for one in created] == ["GET", "POST", "GET"]
    kept = [
        entry.record for entry in await ledger.read("s") if isinstance(entry.record, ProviderCache)
    ]
    assert [one.cache_id for one in kept] == ["cachedContents/1"]
    used = [body.get("cachedContent") or body.get("cached_content") for body in asked]
    assert used == [None, *["cachedContents/1"] * 3]
