"""The demo's agent with a model behind HTTP: a model server that decides as the demo's script does.

What a model sends over the wire has no order among its calls, so the calls that the script has
wait for others are made in a later answer.
"""

from __future__ import annotations

import json
import os
import runpy
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import attrs
import trio

from rainengine.core import (
    AgentEngine,
    InMemoryLedger,
    Message,
    ProcessRequest,
    TextDelta,
    run_until_terminal,
)
from rainengine.core.abc import LlmProvider
from rainengine.core.records import (
    ChatMessage,
    ModelDecision,
    OutcomeRecord,
    PlannedSkillCall,
    ProviderUsage,
    StoredRecord,
    ToolFailure,
    ToolResult,
    ToolResultPart,
)
from rainengine.core.verification import verify_session
from rainengine.model_servers import Answer, Asked, Call, Server
from rainengine.store_sqlite import open_sqlite_ledger

PROMPTLY_S = 0.1
DEMO = Path(__file__).parents[2] / "examples" / "durable_invoices"

_MODEL = runpy.run_path(str(DEMO / "model.py"))

_CHILD = """
import os, sys
sys.path.insert(0, sys.argv[1])
import trio, worker
told = open("told.txt", "a")
def tell(delta):
    told.write(delta.text)
    told.flush()
trio.run(worker.main, tell if sys.argv[2] == "stream" else None)
"""


def keep_books(asked: Asked) -> Answer:
    """Decide as the demo's scripted model does, from what the wire shows."""
    shown = _Shown(tuple(_with_failures(message) for message in asked.messages))
    seen = _MODEL["Seen"].of(shown)
    if not seen.of_all("check"):
        return _called(_MODEL["decide"](shown).calls)
    ready = [call for call in _MODEL["_work"](seen) if _is_ready(call, seen.values)]
    return _called(ready) if ready else Answer(text=_MODEL["_answer"](seen))


@attrs.frozen
class _Shown:
    """As much of a request as the scripted model looks at."""

    messages: tuple[ChatMessage, ...]


def _is_ready(call: PlannedSkillCall, done: Mapping[str, object]) -> bool:
    return call.call_id not in done and set(call.depends_on) <= done.keys()


def _called(calls: Any) -> Answer:
    sent = [Call(name=call.name, args=call.args, call_id=call.call_id) for call in calls]
    return Answer(text="Let me see.", calls=tuple(sent))


def _with_failures(message: ChatMessage) -> ChatMessage:
    parts = [_failed(part) if isinstance(part, ToolResultPart) else part for part in message.parts]
    return ChatMessage(message.role, tuple(parts))


def _failed(part: ToolResultPart) -> ToolResultPart:
    """Take a result that tells of an error for a failure, as a model would."""
    error = part.value.get("error") if isinstance(part.value, dict) else None
    if not isinstance(error, dict):
        return part
    failure = ToolFailure(kind=error["kind"], message=error["message"])  # type: ignore[arg-type]
    return attrs.evolve(part, value=None, failure=failure)


@attrs.frozen(kw_only=True)
class Life:
    """One process of the agent: how it ended, and what its skills noted."""

    returncode: int
    events: list[dict[str, Any]]
    errors: str


async def run_demo(folder: Path, environment: Mapping[str, str]) -> str:
    """Have the demo run with a model that the environment names; return what it says."""
    command = [sys.executable, str(DEMO / "main.py"), "--fast", "--folder", str(folder)]
    done = await trio.run_process(
        command,
        env={**os.environ, **environment, "PYTHONUTF8": "1"},
        capture_stdout=True,
        capture_stderr=True,
        check=False,
    )
    output = (done.stdout + done.stderr).decode()
    assert done.returncode == 0, output
    return output


async def check_hanging_up(server: Server, provider: LlmProvider) -> None:
    """Give up while the model talks: that takes less than 100 ms, and leaves nothing by halves.

    The server's first answer hangs after its first text, the second is `whole`.
    """
    ledger = InMemoryLedger()
    asked = Message(user_id="u", content="Hi")
    request = ProcessRequest(session_id="s", trigger=asked, idempotency_key="hi")
    told: list[float] = []
    with trio.CancelScope() as scope:

        def hang_up(_: TextDelta) -> None:
            told.append(trio.current_time())
            scope.cancel()

        engine = AgentEngine(ledger=ledger, provider=provider, owner="host", on_delta=hang_up)
        await run_until_terminal(engine, request)
    assert trio.current_time() - told[0] < PROMPTLY_S
    await server.until(lambda it: it.open_connections == 0)
    assert trio.current_time() - told[0] < PROMPTLY_S
    kinds = [entry.kind for entry in await ledger.read("s")]
    assert not {"model_decision", "outcome"} & {*kinds}
    engine = AgentEngine(ledger=ledger, provider=provider, owner="host")
    result = await run_until_terminal(engine, request)
    assert result.outcome is not None
    assert (result.outcome.response, result.outcome.steps_executed) == ("whole", 1)
    assert [entry.kind for entry in await ledger.read("s")].count("model_decision") == 1


async def live(
    folder: Path, environment: Mapping[str, str], *, stream: bool, killed: bool = False
) -> Life:
    """Run the agent in a folder, with what the environment says of its model.

    One that is to be killed is, with SIGKILL, while a posting and a letter are under way.
    """
    command = [sys.executable, "-c", _CHILD, str(DEMO), "stream" if stream else "whole"]
    receipts = {"DEMO_LOST_RECEIPTS": "named"} if killed else {}
    process = await trio.lowlevel.open_process(
        command,
        cwd=folder,
        env={**os.environ, **environment, **receipts},
        stdout=-1,
        stderr=-1,
    )
    events: list[dict[str, Any]] = []
    errors = bytearray()

    def take(event: dict[str, Any]) -> None:
        events.append(event)
        if killed and [one["event"] for one in events].count("waiting") == 2:
            process.kill()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(_read_lines, process.stdout, take)
        nursery.start_soon(_read_all, process.stderr, errors)
        await process.wait()
    return Life(
        returncode=process.returncode or 0, events=events, errors=errors.decode(errors="replace")
    )


async def _read_lines(pipe: Any, take: Callable[[dict[str, Any]], None]) -> None:
    rest = b""
    async for data in pipe:
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            take(json.loads(line))


async def _read_all(pipe: Any, into: bytearray) -> None:
    async for data in pipe:
        into += data


async def records_of(folder: Path) -> list[StoredRecord]:
    """Return all records of the agent's session."""
    records: list[StoredRecord] = []
    async with open_sqlite_ledger(folder / "ledger.db") as ledger:
        while page := await ledger.read("invoices", after=len(records)):
            records += page
    return records


async def check_work(folder: Path, *, model: str) -> None:
    """Check that all was done, and once; that each decision was asked for once, and paid."""
    facts = [entry.record for entry in await records_of(folder)]
    (outcome,) = [fact for fact in facts if isinstance(fact, OutcomeRecord)]
    assert outcome.stop_reason == "responded", outcome.detail
    assert outcome.response == (
        "8 invoices are posted, EUR 7,124.35 in all; 4 are set aside, and their suppliers are"
        " asked."
    )
    assert len({row["key"] for row in rows(folder, "accounting.jsonl")}) == 8
    assert len(rows(folder, "accounting.jsonl")) == 8
    assert len(rows(folder, "sent.jsonl")) == 5
    decisions = [fact for fact in facts if isinstance(fact, ModelDecision)]
    assert [decision.step for decision in decisions] == [1, 2, 3, 4, 5, 6, 7]
    usages = [fact for fact in facts if isinstance(fact, ProviderUsage)]
    assert [usage.status for usage in usages] == ["settled"] * 7
    assert {usage.model for usage in usages} == {model}
    results = {fact.call_id: fact for fact in facts if isinstance(fact, ToolResult)}
    assert results["post:06-coffee"].attempts == 2
    assert results["mail:08-mill-again"].attempts == 1
    async with open_sqlite_ledger(folder / "ledger.db") as ledger:
        assert (await verify_session(ledger, "invoices")).ok


def files_with(folder: Path, text: str) -> list[str]:
    """Return the names of the files that the agent left in which the text stands."""
    return [path.name for path in folder.iterdir() if text.encode() in path.read_bytes()]


def rows(folder: Path, name: str) -> list[dict[str, Any]]:
    """Return the entries of a file that the agent wrote, one JSON object a line."""
    return [json.loads(line) for line in (folder / name).read_text("utf-8").splitlines()]
