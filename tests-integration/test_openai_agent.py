"""The demo's agent with a model behind OpenAI's APIs: whole, streamed, killed and resumed."""

from __future__ import annotations

from pathlib import Path

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
)
from rainengine.core.records import ModelDecision, ProviderUsage
from rainengine.core.settings import Secret
from rainengine.model_servers import (
    Answer,
    Failure,
    Hang,
    Server,
    broken_off,
    open_openai_server,
)
from rainengine.provider_openai import OpenAISettings, open_openai_provider
from testbed.bookkeeper import (
    check_hanging_up,
    check_work,
    files_with,
    keep_books,
    live,
    run_demo,
)

KEY = "sk-canary-4711-in-no-ledger"
REQUEST = ProcessRequest(
    session_id="s", trigger=Message(user_id="ada", content="hi"), idempotency_key="k"
)


@pytest.fixture(params=["chat", "responses"])
def api(request: pytest.FixtureRequest) -> str:
    """Each API in turn."""
    return str(request.param)


def named(server: Server, api: str) -> dict[str, str]:
    """Return what the environment says of a model at the server."""
    return {
        "OPENAI_BASE_URL": f"{server.url}/v1",
        "OPENAI_API_KEY": KEY,
        "RAINENGINE_MODEL": "gpt-test",
        "RAINENGINE_OPENAI_API": api,
        "GEMINI_API_KEY": "",
    }


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
async def test_killed_and_resumed(tmp_path: Path, api: str, *, stream: bool) -> None:
    """Killed while effects are under way, and started again, the agent ends as it should."""
    with trio.fail_after(60):
        async with open_openai_server(keep_books, api_key=KEY) as server:
            first = await live(tmp_path, named(server, api), stream=stream, killed=True)
            asked_before = len(server.requests)
            second = await live(tmp_path, named(server, api), stream=stream)
            bodies = [request.json for request in server.requests]
    assert (first.returncode, second.returncode) == (-9, 0), first.errors + second.errors
    assert asked_before < len(bodies) == 7
    assert all(bool(body.get("stream")) == stream for body in bodies)
    await check_work(tmp_path, model="gpt-test")
    assert (tmp_path / "told.txt").read_text().startswith("Let me see." if stream else "")
    assert files_with(tmp_path, KEY) == []
    assert KEY not in first.errors + second.errors


async def test_the_demo_itself(tmp_path: Path, api: str) -> None:
    """With a model named in the environment, the demo has that one decide."""
    with trio.fail_after(60):
        async with open_openai_server(keep_books, api_key=KEY) as server:
            output = await run_demo(tmp_path, named(server, api))
    assert f"gpt-test at {server.url}/v1 decides." in output
    assert "NO" not in output.split()
    assert KEY not in output


async def test_cancelled_in_the_middle_of_a_stream(api: str) -> None:
    """A host that gives up while the model talks is free within 100 ms, and can go on later."""
    after = 2 if api == "chat" else 6
    script = [Answer(text="one two", sending=broken_off(Hang(), after=after)), Answer(text="whole")]
    async with open_openai_server(script) as server:
        settings = OpenAISettings(
            model="gpt-test",
            api_key=Secret("k"),
            base_url=f"{server.url}/v1",
            api="chat" if api == "chat" else "responses",
        )
        async with open_openai_provider(settings) as provider:
            await check_hanging_up(server, provider)


async def test_failures_are_retried_by_the_engine(api: str) -> None:
    """What may pass is asked again, on record; what an answer lacks is told to the model."""
    script = [
        Failure(status=503),
        Answer(text="Once upon", stop="length"),
        Answer(text="whole"),
    ]
    ledger = InMemoryLedger()
    policy = EnginePolicy(provider_retry=RetryPolicy(initial_interval_ms=1))
    async with open_openai_server(script) as server:
        plain = {"model": "gpt-test", "base_url": f"{server.url}/v1", "api": api}
        async with open_provider("openai", {**plain, "api_key": Secret("k")}) as provider:
            engine = AgentEngine(ledger=ledger, provider=provider, policy=policy)
            result = await run_until_terminal(engine, REQUEST)
        told = str(server.requests[-1].json)
    assert result.outcome.response == "whole"
    assert "cut short at the limit of its length" in told
    facts = [entry.record for entry in await ledger.read("s")]
    usages = [(one.status, one.error_kind) for one in facts if isinstance(one, ProviderUsage)]
    assert usages == [("failed", "internal"), ("settled", None), ("settled", None)]
    (invalid, _) = [one for one in facts if isinstance(one, ModelDecision)]
    assert invalid.action is None
