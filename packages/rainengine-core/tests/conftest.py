"""What the tests of the engine share: a stage with a ledger, scripted models and fake skills."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, TypeVar

import attrs
import pytest
import trio
import trio.testing

from rainengine.core import (
    Agent,
    AgentEngine,
    CallSkills,
    ContinueRequest,
    InMemoryLedger,
    Message,
    PlannedSkillCall,
    ProcessRequest,
    Respond,
    ScriptedProvider,
)
from rainengine.core.abc import Reconciliation, SkillInvocation
from rainengine.core.projection import SessionProjection, fold
from rainengine.core.records import (
    NodeStatus,
    Record,
    ResourcePolicy,
    RetryPolicy,
    SkillManifest,
    StoredRecord,
    ToolNodeCheckpoint,
    ToolResult,
)
from rainengine.core.testing import ScriptedClock, ScriptedIds

R = TypeVar("R", bound=Record)

ANY_OBJECT: dict[str, Any] = {"type": "object"}

Behaviour = Callable[[SkillInvocation], Awaitable[object]]


@attrs.define(eq=False)
class FakeSkill:
    """A skill that does what a test says and remembers how it was called."""

    manifest: SkillManifest
    behave: Behaviour
    native: bool = True
    invocations: list[SkillInvocation] = attrs.field(factory=list)

    async def invoke(self, invocation: SkillInvocation) -> object:
        self.invocations.append(invocation)
        return await self.behave(invocation)


@attrs.define(eq=False)
class FakeReconcilingSkill(FakeSkill):
    """A fake skill that can say what became of a call."""

    answer: Reconciliation | Exception | None = None
    asked: list[SkillInvocation] = attrs.field(factory=list)

    async def reconcile(self, invocation: SkillInvocation) -> Any:
        self.asked.append(invocation)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@attrs.define(eq=False)
class Stage:
    """An in-memory ledger with a scripted clock, and everything to play a run on it.

    Trio's clock is a `MockClock` that jumps, so waiting takes no time.
    """

    clock: ScriptedClock = attrs.field(factory=ScriptedClock)
    ledger: InMemoryLedger = attrs.field(init=False)
    provider: ScriptedProvider = attrs.field(init=False)
    session_id: str = "s"
    engines: int = 0

    def __attrs_post_init__(self) -> None:
        self.ledger = InMemoryLedger(self.clock)

    def engine(self, script: Any = (), *skills: Any, **options: Any) -> AgentEngine:
        """Make an engine; all of them are the process "one" unless `owner` says otherwise."""
        self.engines += 1
        self.provider = ScriptedProvider(script)
        profile = options.pop("profile", None)
        if profile is not None:
            options["agent"] = Agent(profile=profile)
        settings: dict[str, Any] = {
            "ledger": self.ledger,
            "provider": self.provider,
            "owner": "one",
            "clock": self.clock,
            "ids": ScriptedIds(self.engines),
        }
        return AgentEngine(skills=skills, **(settings | options))

    def other_handle(self) -> InMemoryLedger:
        """Open the same store as another process would."""
        return InMemoryLedger(self.clock, backing=self.ledger)

    # Requests and calls.

    def request(self, key: str | None = None, text: str = "hello", **options: Any) -> Any:
        """A message to the session."""
        trigger = options.pop("trigger", None) or Message(user_id="user", content=text)
        session_id = options.pop("session_id", self.session_id)
        return ProcessRequest(
            session_id=session_id, trigger=trigger, idempotency_key=key, **options
        )

    @property
    def go_on(self) -> ContinueRequest:
        """A request to go on with the session."""
        return ContinueRequest(session_id=self.session_id)

    def call(self, name: str, call_id: str = "c1", **options: Any) -> PlannedSkillCall:
        """A call of a skill."""
        return PlannedSkillCall(call_id=call_id, name=name, **({"args": {}} | options))

    def calls(self, *names: str) -> CallSkills:
        """One call of each skill: c1, c2 and so on."""
        return CallSkills([self.call(name, f"c{n}") for n, name in enumerate(names, start=1)])

    def skill(
        self, name: str, behave: Behaviour | None = None, **options: Any
    ) -> FakeSkill | FakeReconcilingSkill:
        """A skill; pure, without retries and answering "done" unless told otherwise."""
        resources = options.pop("resources", None) or ResourcePolicy(
            timeout_ms=options.pop("timeout_ms", 5_000),
            retry_policy=options.pop("retry", None) or RetryPolicy(max_attempts=1),
            dry_run_supported=options.pop("dry_run", False),
        )
        native = options.pop("native", True)
        answer = options.pop("answer", None)
        manifest = SkillManifest(
            name=name,
            description=f"What {name} does.",
            input_schema=options.pop("schema", ANY_OBJECT),
            resource_policy=resources,
            **({"effects": "pure"} | options),
        )
        behave = behave or self.returning("done")
        if answer is not None:
            return FakeReconcilingSkill(manifest, behave, native, answer=answer)
        return FakeSkill(manifest, behave, native)

    def returning(self, *values: object) -> Behaviour:
        """Behaviour: return or raise each of these in turn, the last one ever after."""
        left = list(values)

        async def behave(_: SkillInvocation) -> object:
            await trio.lowlevel.checkpoint()
            value = left.pop(0) if len(left) > 1 else left[0]
            if isinstance(value, BaseException):
                raise value
            return value

        return behave

    def taking(self, seconds: float, value: object = "done") -> Behaviour:
        """Behaviour: return the value after some time."""

        async def behave(_: SkillInvocation) -> object:
            await trio.sleep(seconds)
            return value

        return behave

    # What came of it.

    async def stored(self, session_id: str | None = None) -> list[StoredRecord]:
        """Everything that the ledger holds of the session."""
        return list(await self.ledger.read(session_id or self.session_id, limit=100_000))

    async def records(self, kind: type[R], session_id: str | None = None) -> list[R]:
        """The session's records of one kind."""
        return [r.record for r in await self.stored(session_id) if isinstance(r.record, kind)]

    async def kinds(self) -> list[str]:
        """The kinds of the session's records, in order."""
        return [record.kind for record in await self.stored()]

    async def results(self) -> dict[str, Any]:
        """What came of each call: its value, or the kind of its failure."""
        return {
            result.call_id: result.value if result.failure is None else result.failure.kind
            for result in await self.records(ToolResult)
        }

    async def statuses(self, call_id: str = "c1") -> list[NodeStatus]:
        """The statuses that a call went through."""
        return [
            status
            for record in await self.records(ToolNodeCheckpoint)
            for node in record.nodes
            if node.call_id == call_id
            for status in node.statuses
        ]

    async def replayed(self, session_id: str | None = None) -> SessionProjection:
        """The projection after a replay from the start."""
        projection = SessionProjection()
        for record in await self.stored(session_id):
            fold(projection, record.sequence, record)
        return projection

    async def play(self, engine: AgentEngine, request: Any = None) -> list[Any]:
        """Advance until there is an outcome; return the results of all advances."""
        results = [await engine.advance(request or self.request())]
        while results[-1].outcome is None:
            results.append(await engine.advance(self.go_on))
        return results

    async def run_graph(self, calls: CallSkills, *skills: Any, **options: Any) -> dict[str, Any]:
        """Run one graph and answer; return what came of each call."""
        request = self.request(granted_scopes=options.pop("scopes", ()))
        await self.play(self.engine([calls, Respond("x")], *skills, **options), request)
        return await self.results()

    async def interrupt(self, engine: AgentEngine, request: Any = None, after: float = 1) -> None:
        """Advance, and let the process die after some seconds in the middle of it."""
        with trio.move_on_after(after) as scope:
            await engine.advance(request or self.request())
        assert scope.cancelled_caught


@pytest.fixture
def stage() -> Stage:
    """An empty stage, in a test whose waiting takes no time."""
    return Stage()


def run_jumping(main: Callable[[], Awaitable[Any]], **options: Any) -> Any:
    """Run an async function under a clock that jumps as soon as all tasks wait."""
    options["clock"] = trio.testing.MockClock(autojump_threshold=0)
    return trio.run(main, **options)


def pytest_itemcollected(item: pytest.Item) -> None:
    """Run tests on a stage under such a clock; pytest-trio sees only what a test itself names."""
    on_stage = isinstance(item, pytest.Function) and "stage" in item.fixturenames
    if on_stage and inspect.iscoroutinefunction(item.obj):
        item.add_marker(pytest.mark.trio(run=run_jumping))


@pytest.fixture(scope="session")
def new_stage() -> Callable[[], Stage]:
    """Return a maker of stages for property tests, which run trio themselves."""
    return Stage


@pytest.fixture(scope="session")
def run_trio() -> Callable[[Callable[[], Awaitable[Any]]], Any]:
    """Return a function that runs an async function under a clock that jumps."""
    return run_jumping


@pytest.fixture
def together() -> Callable[[Iterable[Callable[[], Awaitable[Any]]]], Awaitable[Sequence[Any]]]:
    """Return a function that runs async functions side by side and gives what each returned."""

    async def run(functions: Iterable[Callable[[], Awaitable[Any]]]) -> Sequence[Any]:
        results: dict[int, Any] = {}

        async def one(number: int, function: Callable[[], Awaitable[Any]]) -> None:
            results[number] = await function()

        async with trio.open_nursery() as nursery:
            for number, function in enumerate(functions):
                nursery.start_soon(one, number, function)
        return [results[number] for number in sorted(results)]

    return run
