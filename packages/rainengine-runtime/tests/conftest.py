"""What the tests of workers share: a site with one store, several workers, and no waiting."""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import attrs
import pytest
import trio
import trio.testing

from rainengine.core import (
    Agent,
    AgentEngine,
    CallSkills,
    InMemoryLedger,
    Message,
    PlannedSkillCall,
    ProcessRequest,
    Respond,
    ScriptedProvider,
    skill,
)
from rainengine.core.abc import DEFAULT_TENANT, OutboxItem
from rainengine.core.records import (
    KernelEventRecord,
    NewRecord,
    ObservationAppended,
    OutcomeRecord,
    TriggerRecord,
)
from rainengine.core.testing import ScriptedClock, ScriptedIds
from rainengine.runtime import Worker, WorkerSettings


def answer(request: Any) -> Respond:
    """A model that answers each trigger at once."""
    return Respond(getattr(request.trigger, "content", "") or type(request.trigger).__name__)


@attrs.define(eq=False)
class Site:
    """One in-memory store, as any number of processes see it through handles of their own.

    Trio's clock is a `MockClock` that jumps, and the wall clock follows it.
    """

    clock: ScriptedClock = attrs.field(factory=ScriptedClock)
    store: InMemoryLedger = attrs.field(init=False)
    requests: list[Any] = attrs.field(factory=list)
    ids: int = 0

    def __attrs_post_init__(self) -> None:
        self.store = InMemoryLedger(self.clock)

    def handle(self) -> InMemoryLedger:
        """Open the store as another process would."""
        return InMemoryLedger(self.clock, backing=self.store)

    def engine(self, ledger: Any = None, script: Any = answer, **options: Any) -> AgentEngine:
        """Make an engine; without a ledger, that of a host which takes triggers in."""
        self.ids += 1
        provider = ScriptedProvider(script)
        self.requests.append(provider.requests)
        settings = {"owner": "host", "clock": self.clock, "ids": ScriptedIds(self.ids)}
        return AgentEngine(
            ledger=self.store if ledger is None else ledger,
            provider=provider,
            **(settings | options),
        )

    def worker(self, script: Any = answer, *skills: Any, **options: Any) -> Worker:
        """Make a worker, as a process of its own; `agents` are those that it has engines for."""
        store = options.pop("store", None) or self.handle()
        agents = options.pop("agents", None)
        owner = options.pop("owner", "one")
        engine_for = options.pop("engine_for", None)
        publisher = options.pop("publisher", None)
        lease_ttl_ms = options.pop("lease_ttl_ms", 30_000)
        self.ids += 1
        ids = options.pop("ids", None) or ScriptedIds(self.ids)
        clock = options.pop("clock", self.clock)

        def make(ledger: Any, agent: str | None) -> AgentEngine | None:
            if agents is not None and agent not in agents:
                return None
            return self.engine(
                ledger,
                script,
                skills=skills,
                owner=owner,
                agent=Agent(name=agent or "default"),
                lease_ttl_ms=lease_ttl_ms,
            )

        return Worker(
            store,
            engine_for or make,
            publisher=publisher,
            settings=WorkerSettings(**options),
            clock=clock,
            ids=ids,
        )

    @asynccontextmanager
    async def working(self, *workers: Worker) -> AsyncGenerator[trio.Nursery]:
        """Have the workers work inside the block, and cancel them at its end."""
        async with trio.open_nursery() as nursery:
            for worker in workers:
                await nursery.start(worker.run)
            yield nursery
            nursery.cancel_scope.cancel()

    async def until(self, holds: Callable[[], Any], within_s: float) -> None:
        """Let time pass until something holds, for so many seconds at most."""
        with trio.fail_after(within_s):
            while True:
                result = holds()
                if await result if inspect.isawaitable(result) else result:
                    return
                await trio.sleep(0.1)

    # What hosts do.

    async def submit(
        self, session_id: str = "s", text: str = "hello", key: str | None = None, **options: Any
    ) -> Any:
        """Make a message durable, as a host does that leaves the work to workers."""
        tenant = options.pop("tenant", DEFAULT_TENANT)
        agent = Agent(name=options.pop("agent", "default"))
        engine = self.engine(self.store.for_tenant(tenant), agent=agent)
        request = ProcessRequest(
            session_id=session_id,
            trigger=Message(user_id="user", content=text),
            idempotency_key=key,
            **options,
        )
        return await engine.submit(request)

    async def leave(
        self, session_id: str, *items: tuple[str, Any], tenant: str = "default"
    ) -> None:
        """Append something together with rows for the outbox: topics and payloads."""
        event = ObservationAppended(observation_id="o", source="test")
        await self.store.for_tenant(tenant).append(
            session_id,
            [NewRecord(KernelEventRecord(event), self.clock.now_ms())],
            expected=None,
            outbox=[OutboxItem(topic=topic, payload=payload) for topic, payload in items],
        )

    # What came of it.

    async def stored(self, kind: type[Any], session_id: str = "s", tenant: str = "default") -> Any:
        """The session's records of one kind."""
        ledger = self.store.for_tenant(tenant)
        records = [stored.record for stored in await ledger.read(session_id, limit=100_000)]
        return [record for record in records if isinstance(record, kind)]

    async def answers(self, session_id: str = "s", tenant: str = "default") -> list[str | None]:
        """What the session's runs ended with."""
        outcomes = await self.stored(OutcomeRecord, session_id, tenant)
        return [outcome.response for outcome in outcomes]

    async def is_settled(self, session_id: str = "s", tenant: str = "default") -> bool:
        """Whether each of the session's triggers has exactly one outcome."""
        triggers = await self.stored(TriggerRecord, session_id, tenant)
        outcomes = await self.stored(OutcomeRecord, session_id, tenant)
        ended = Counter(outcome.trigger_id for outcome in outcomes)
        return ended == Counter(trigger.trigger_id for trigger in triggers)

    async def owner(self, session_id: str = "s") -> str | None:
        """Who holds the session."""
        return (await self.store.lease_of(session_id)).owner

    # Models and skills.

    def calls(self, *names: str) -> CallSkills:
        """One call of each skill: c1, c2 and so on."""
        return CallSkills(
            [
                PlannedSkillCall(call_id=f"c{n}", name=name, args={})
                for n, name in enumerate(names, start=1)
            ]
        )

    def skill(self, name: str, behave: Callable[[], Awaitable[object]], **options: Any) -> Any:
        """A skill without arguments that does what a test says."""

        async def act() -> object:
            return await behave()

        options = {"effects": "idempotent", "name": name, "description": name} | options
        return skill(**options)(act)


@attrs.define(eq=False)
class FakePublisher:
    """A publisher that does what a test says for each row, and remembers what it was given."""

    behave: Callable[[Any], Awaitable[None]] | None = None
    given: list[Any] = attrs.field(factory=list)
    times: list[float] = attrs.field(factory=list)

    async def publish(self, entry: Any) -> None:
        await trio.lowlevel.checkpoint()
        self.given.append(entry)
        self.times.append(trio.current_time())
        if self.behave is not None:
            await self.behave(entry)

    @property
    def payloads(self) -> list[Any]:
        """What was handed over, in order."""
        return [entry.payload for entry in self.given]


@pytest.fixture
def site() -> Site:
    """An empty site, in a test whose waiting takes no time."""
    return Site()


@pytest.fixture(scope="session")
def new_site() -> Callable[[], Site]:
    """Return a maker of sites for property tests, which run trio themselves."""
    return Site


@pytest.fixture(scope="session")
def publisher_that() -> Callable[..., FakePublisher]:
    """Return a maker of publishers."""
    return FakePublisher


def run_jumping(main: Callable[[], Awaitable[Any]], **options: Any) -> Any:
    """Run an async function under a clock that jumps as soon as all tasks wait."""
    options["clock"] = trio.testing.MockClock(autojump_threshold=0)
    return trio.run(main, **options)


def pytest_itemcollected(item: pytest.Item) -> None:
    """Run tests on a site under such a clock; pytest-trio sees only what a test itself names."""
    on_site = isinstance(item, pytest.Function) and "site" in item.fixturenames
    if on_site and inspect.iscoroutinefunction(item.obj):
        item.add_marker(pytest.mark.trio(run=run_jumping))


@pytest.fixture(scope="session")
def run_trio() -> Callable[[Callable[[], Awaitable[Any]]], Any]:
    """Return a function that runs an async function under a clock that jumps."""
    return run_jumping
