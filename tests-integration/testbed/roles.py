"""What members of a fleet do. Each role gets a function that reports, and its job."""

from __future__ import annotations

import os
import random
import socket
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, TypeAlias

import attrs
import psycopg
import trio

from crash_sweep.counter import Counter, RemoteReceiver
from rainengine.core import (
    AgentEngine,
    Approval,
    CallSkills,
    EngineOutcome,
    Message,
    PlannedSkillCall,
    ProcessRequest,
    ProviderRequest,
    Respond,
    ScriptedProvider,
    SkillInvocation,
    Webhook,
    run_until_terminal,
    skill,
)
from rainengine.core.abc import Ledger
from rainengine.core.errors import RainEngineError, SequenceConflict, SessionBusy
from rainengine.core.records import KernelEventRecord, MemoryArchived, NewRecord, PendingApproval
from rainengine.runtime import Worker, WorkerSettings
from rainengine.store_pg import open_postgres_ledger
from rainengine.store_sql import SqlLedger
from testbed.agents import Moment, make_engine, paused
from testbed.delegating import Agents, work_for_ever

Report: TypeAlias = Callable[[Any], None]


def note(content: str) -> NewRecord:
    """A record that says something."""
    return NewRecord(KernelEventRecord(MemoryArchived(note_id="n", content=content)), 0)


def open_or_create(report: Report, *, url: str) -> None:
    """Open a ledger whose schema may have to be created or brought up to date."""
    trio.run(_open_or_create, url)
    report("opened")


async def _open_or_create(url: str) -> None:
    async with open_postgres_ledger(url, create=True) as ledger:
        await ledger.append(f"s{os.getpid()}", [note("here")], expected=None)


def write_one(report: Report, *, url: str, session_id: str, stores: int, rounds: int) -> None:
    """Append to one session that everybody appends to, with stores of one's own.

    Each append has two records and is decided upon the head. Reports how many were refused.
    """
    trio.run(_write_one, report, url, session_id, stores, rounds)


async def _write_one(report: Report, url: str, session_id: str, stores: int, rounds: int) -> None:
    conflicts: list[None] = []
    async with AsyncExitStack() as stack:
        ledgers = [
            await stack.enter_async_context(open_postgres_ledger(url)) for _ in range(stores)
        ]
        async with trio.open_nursery() as nursery:
            for n, ledger in enumerate(ledgers):
                name = f"{os.getpid()}.{n}"
                nursery.start_soon(_append_all, ledger, session_id, name, rounds, conflicts)
    report({"conflicts": len(conflicts)})


async def _append_all(
    ledger: SqlLedger, session_id: str, name: str, rounds: int, conflicts: list[None]
) -> None:
    head = await ledger.head(session_id)
    for n in range(rounds):
        records = [note(f"{name}.{n}"), note("second")]
        while True:
            try:
                head = (await ledger.append(session_id, records, expected=head)).head
                break
            except SequenceConflict:
                conflicts.append(None)
                head = await ledger.head(session_id)


def write_many(report: Report, *, url: str, sessions: int, seconds: float, writers: int) -> None:
    """Append to random sessions of many, for a while; reports how many appends that were."""
    trio.run(_write_many, report, url, sessions, seconds, writers)


async def _write_many(
    report: Report, url: str, sessions: int, seconds: float, writers: int
) -> None:
    chance = random.Random(os.getpid())
    done: list[None] = []

    async def write() -> None:
        while trio.current_time() < until:
            session_id = f"s{chance.randrange(sessions)}"
            await ledger.append(session_id, [note("x" * 200)], expected=None)
            done.append(None)

    async with open_postgres_ledger(url) as ledger:
        report("ready")
        until = trio.current_time() + seconds
        async with trio.open_nursery() as nursery:
            for _ in range(writers):
                nursery.start_soon(write)
        stats = ledger.stats()
    report({"appends": len(done), "commits": stats.commits})


def count_effects(report: Report, *, path: str) -> None:
    """Be the world outside, at a Unix socket; see `crash_sweep.counter`."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen(512)
        report("ready")
        Counter().serve(listener)


def hold(report: Report, *, url: str, counter: str, owner: str, ttl_ms: int) -> None:
    """Run session `s` once, reporting each effect; what is stored of it comes a moment later."""
    trio.run(_hold, report, url, counter, owner, ttl_ms)


async def _hold(report: Report, url: str, counter: str, owner: str, ttl_ms: int) -> None:
    async def after(moment: Moment) -> None:
        report(moment)
        await trio.sleep(ttl_ms / 1000 / 4)

    async with open_postgres_ledger(url) as ledger:
        receiver = RemoteReceiver(Path(counter))
        engine = make_engine(ledger, receiver, after, owner=owner, lease_ttl_ms=ttl_ms)
        request = ProcessRequest(
            session_id="s", trigger=Message(user_id="u", content="go"), idempotency_key="go"
        )
        try:
            result = await run_until_terminal(engine, request)
        except RainEngineError as error:
            report({"error": type(error).__name__})
        else:
            report({"stop_reason": result.outcome.stop_reason})


@attrs.frozen(kw_only=True)
class WorkerJob:
    """What a worker needs to know.

    It polls every `poll_s` seconds and works on `concurrency` sessions at once.
    """

    url: str
    counter: str
    owner: str
    ttl_ms: int
    pause_s: float
    concurrency: int
    poll_s: float


def work(report: Report, **job: Any) -> None:
    """Be a worker, for ever; see `WorkerJob`."""
    trio.run(_work, report, WorkerJob(**job))


async def _work(report: Report, job: WorkerJob) -> None:
    receiver, after = RemoteReceiver(Path(job.counter)), paused(job.pause_s)

    def engine_for(ledger: Ledger, agent: str | None) -> AgentEngine:
        return make_engine(ledger, receiver, after, owner=job.owner, lease_ttl_ms=job.ttl_ms)

    settings = WorkerSettings(poll_interval_s=job.poll_s, max_concurrent=job.concurrency)
    async with open_postgres_ledger(job.url) as store, trio.open_nursery() as nursery:
        worker = Worker(store, engine_for, settings=settings)
        await nursery.start(worker.run)
        report("ready")


def hand_over(report: Report, *, url: str, poll_s: float, **agents: Any) -> None:
    """Be a worker whose agents delegate to each other, for ever; see `testbed.delegating`."""
    trio.run(work_for_ever, report, url, poll_s, Agents(**agents))


def submit(report: Report, *, url: str, deliveries: Sequence[tuple[str, str]]) -> None:
    """Submit webhooks, each with its session and its key; reports when all are durable."""
    trio.run(_submit, report, url, deliveries)


async def _submit(report: Report, url: str, deliveries: Sequence[tuple[str, str]]) -> None:
    remaining = iter(deliveries)

    async def take() -> None:
        for session_id, key in remaining:
            trigger = Webhook(source="test", payload={"key": key})
            request = ProcessRequest(session_id=session_id, trigger=trigger, idempotency_key=key)
            await engine.submit(request)

    async with open_postgres_ledger(url) as ledger:
        engine = make_engine(ledger, RemoteReceiver(Path()), paused(0))
        async with trio.open_nursery() as nursery:
            for _ in range(32):
                nursery.start_soon(take)
    report("done")


def approve(report: Report, *, url: str, rounds: int, name: str) -> None:
    """Approve what waits in the sessions `round-0`, `round-1` and so on, as soon as it is asked.

    Reports of each how the approval ended.
    """
    trio.run(_approve, report, url, rounds, name)


async def _approve(report: Report, url: str, rounds: int, name: str) -> None:
    async with open_postgres_ledger(url) as ledger:
        engine = paying_engine(ledger, url, owner=name)
        for number in range(rounds):
            session_id = f"round-{number}"
            pending = await _asked(ledger, session_id)
            request = ProcessRequest(
                session_id=session_id,
                trigger=Approval(
                    resume_token=pending.resume_token, decision="approved", approver=name
                ),
                granted_scopes=pending.approver_scopes,
                idempotency_key=f"approval by {name}",
            )
            outcome = await _until_it_is_my_turn(engine, ledger, request)
            report([outcome.stop_reason, outcome.detail])


async def _asked(ledger: SqlLedger, session_id: str) -> PendingApproval:
    after = 0
    while True:
        for stored in await ledger.read(session_id, after=after):
            after = stored.sequence
            if isinstance(stored.record, PendingApproval):
                await ledger.wait_past(session_id, after)  # the outcome that says so
                return stored.record
        await ledger.wait_past(session_id, after)


async def _until_it_is_my_turn(
    engine: AgentEngine, ledger: SqlLedger, request: ProcessRequest
) -> EngineOutcome:
    while True:
        head = await ledger.head(request.session_id)
        try:
            return (await run_until_terminal(engine, request)).outcome
        except SessionBusy:
            with trio.move_on_after(1):
                await ledger.wait_past(request.session_id, head.sequence)


def paying_engine(ledger: Ledger, url: str, *, owner: str) -> AgentEngine:
    """An engine whose agent pays once somebody approves, and counts that in a table `paid`."""

    @skill(approval_required=True)
    async def pay(invocation: SkillInvocation) -> str:
        """Pay."""
        await trio.to_thread.run_sync(_count_payment, url, invocation.context.session_id, owner)
        return "paid"

    def decide(request: ProviderRequest) -> Respond | CallSkills:
        if any(message.role == "tool" for message in request.messages):
            return Respond("done")
        return CallSkills([PlannedSkillCall(call_id="p", name="pay", args={})])

    return AgentEngine(ledger=ledger, provider=ScriptedProvider(decide), skills=[pay], owner=owner)


def _count_payment(url: str, session_id: str, owner: str) -> None:
    with psycopg.connect(url) as connection:
        connection.execute("INSERT INTO paid VALUES (%s, %s)", (session_id, owner))
