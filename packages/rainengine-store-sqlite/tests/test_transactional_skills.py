"""Skills that run in the ledger's own transactions, from the model's decision to the rows."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio

from rainengine.core import (
    AgentEngine,
    CallSkills,
    ContinueRequest,
    EnginePolicy,
    Message,
    NativeTransactionalSkill,
    PlannedSkillCall,
    ProcessRequest,
    Respond,
    RetryPolicy,
    ScriptedProvider,
    run_until_terminal,
    skill,
    transactional_skill,
)
from rainengine.core.abc import Ledger, SkillInvocation, Transaction
from rainengine.core.errors import AppendUnknown, EffectNotApplied, FenceLost, SkillFailure
from rainengine.core.records import (
    CancelRequest,
    NewRecord,
    NodeStatus,
    OutcomeRecord,
    Record,
    ToolCalls,
    ToolNodeCheckpoint,
    ToolResult,
)
from rainengine.core.testing import (
    CrashingLedger,
    FailAfter,
    FailBefore,
    FaultyLedger,
    IntakeBefore,
    ScriptedClock,
    ScriptedIds,
    SimulatedCrash,
)
from rainengine.core.tools._calls import MAX_RESUMED_ATTEMPTS
from rainengine.store_sql import SqlLedgerStore
from rainengine.store_sqlite import open_sqlite_ledger

Lent = Transaction[sqlite3.Connection]
ENDLESS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n"
CANCEL = NewRecord(CancelRequest(reason="enough"), 0)
ONCE = RetryPolicy(max_attempts=1)
AT_ONCE = RetryPolicy(max_attempts=3, initial_interval_ms=0)

TRANSACTION = 3
"""The append that is the transaction: the trigger's is the first, the decision's the second."""


@attrs.define(eq=False)
class Shop:
    """A database with a table of orders beside the ledger, and what becomes of it."""

    path: Path
    clock: ScriptedClock = attrs.field(factory=ScriptedClock)
    engines: int = 0

    @asynccontextmanager
    async def open(self) -> AsyncIterator[SqlLedgerStore]:
        async with open_sqlite_ledger(self.path, clock=self.clock) as ledger:
            self.ask("CREATE TABLE IF NOT EXISTS orders (product)")
            yield ledger

    def ask(self, statement: str) -> list[Any]:
        with closing(sqlite3.connect(self.path, isolation_level=None)) as connection:
            return connection.execute(statement).fetchall()

    @property
    def orders(self) -> list[str]:
        return [product for (product,) in self.ask("SELECT product FROM orders")]

    @property
    def outbox(self) -> list[tuple[int, str, str]]:
        return self.ask("SELECT sequence, topic, payload FROM rainengine_outbox")

    def engine(
        self, ledger: Ledger, calls: CallSkills, *skills: Any, **options: Any
    ) -> AgentEngine:
        """Make an engine whose model decides on these calls, then answers."""
        self.engines += 1

        def decide(request: Any) -> Any:
            return calls if request.context.step == 1 else Respond("done")

        settings: dict[str, Any] = {
            "owner": "one",
            "clock": self.clock,
            "ids": ScriptedIds(self.engines),
        }
        return AgentEngine(
            ledger=ledger,
            provider=ScriptedProvider(decide),
            skills=skills,
            **(settings | options),
        )

    async def run(
        self, ledger: Ledger, calls: CallSkills, *skills: Any, **options: Any
    ) -> dict[str, Any]:
        """Run a graph to the end; return what came of each call: its value, or its failure."""
        await run_until_terminal(self.engine(ledger, calls, *skills, **options), REQUEST)
        return await results(ledger)


REQUEST = ProcessRequest(session_id="s", trigger=Message(user_id="ada", content="hello"))
GO_ON = ContinueRequest(session_id="s")


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    """An empty shop."""
    return Shop(tmp_path / "shop.db")


def calls(*names: str, **options: Any) -> CallSkills:
    """One call of each skill: c1, c2 and so on."""
    return CallSkills(
        [
            PlannedSkillCall(call_id=f"c{n}", name=name, args={"product": "rye"}, **options)
            for n, name in enumerate(names, start=1)
        ]
    )


async def of_kind(ledger: Ledger, kind: type[Record]) -> list[Any]:
    """The session's records of one kind."""
    stored = await ledger.read("s", limit=10_000)
    return [entry.record for entry in stored if isinstance(entry.record, kind)]


async def results(ledger: Ledger) -> dict[str, Any]:
    """What came of each call: its value, or the kind of its failure."""
    return {
        result.call_id: result.value if result.failure is None else result.failure.kind
        for result in await of_kind(ledger, ToolResult)
    }


async def statuses(ledger: Ledger, call_id: str = "c1") -> list[NodeStatus]:
    """The statuses that a call went through."""
    return [
        status
        for record in await of_kind(ledger, ToolNodeCheckpoint)
        for node in record.nodes
        if node.call_id == call_id
        for status in node.statuses
    ]


def ordering(
    behave: Callable[[Lent], object] = lambda _: None, *, name: str = "order", **options: Any
) -> NativeTransactionalSkill[..., Any]:
    """A skill that orders and tells of it, then does what a test says."""
    options = {"retry": ONCE, "timeout_ms": 30_000} | options

    @transactional_skill(name=name, **options)
    def order(transaction: Transaction[sqlite3.Connection], product: str) -> object:
        """Order a product."""
        transaction.connection.execute("INSERT INTO orders VALUES (?)", (product,))
        transaction.publish("orders", {"product": product})
        value = behave(transaction)
        return "ordered" if value is None else value

    return order


def sequence_of(*values: object) -> Callable[[Lent], object]:
    """Behaviour: return or raise each of these in turn."""
    left = list(values)

    def behave(_: Lent) -> object:
        value = left.pop(0)
        if isinstance(value, Exception):
            raise value
        return value

    return behave


# Together, or not at all.


async def test_effect_result_and_outbox_are_one_commit(shop: Shop) -> None:
    """A turn with one call is four commits, one of which has all that the call did."""
    async with shop.open() as ledger:
        assert await shop.run(ledger, calls("order"), ordering()) == {"c1": "ordered"}
        assert shop.orders == ["rye"]
        ((sequence, topic, payload),) = shop.outbox
        assert (topic, payload) == ("orders", '{"product":"rye"}')
        stored = await ledger.read("s")
        assert stored[sequence - 1].kind == "tool_result"
        assert ledger.stats().commits == 4
        assert await statuses(ledger) == ["queued", "validated", "started", "succeeded"]


async def test_the_start_is_stored_before(shop: Shop) -> None:
    """While the function runs, the record of its start is there, with its class of effects."""
    seen: list[Any] = []
    async with shop.open() as ledger:
        kinds = "SELECT kind FROM rainengine_records ORDER BY sequence DESC LIMIT 2"
        order = ordering(lambda t: seen.extend(t.connection.execute(kinds).fetchall()))
        await shop.run(ledger, calls("order"), order)
        (issued,) = await of_kind(ledger, ToolCalls)
    assert seen == [("tool_node_checkpoint",), ("tool_call",)]
    assert issued.calls[0].effects == "transactional"


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (KeyError("mine"), "internal"),
        (EffectNotApplied("no"), "internal"),
        (SkillFailure("permission_denied", "no"), "permission_denied"),
        (SkillFailure("unknown_outcome", "who knows"), "unknown_outcome"),
        (sqlite3.OperationalError("mine"), "internal"),
        (AppendUnknown("mine"), "internal"),
    ],
    ids=repr,
)
async def test_what_it_raises_undoes_everything(shop: Shop, error: Exception, kind: str) -> None:
    """A failure is a result like any other, and nothing else is stored."""
    async with shop.open() as ledger:
        found = await shop.run(ledger, calls("order"), ordering(sequence_of(error)))
    assert (found, shop.orders, shop.outbox) == ({"c1": kind}, [], [])


async def test_arguments_that_do_not_fit_call_nothing(shop: Shop) -> None:
    """Where the policy does not check arguments, the conversion does."""

    @transactional_skill
    def order(transaction: Transaction[sqlite3.Connection], product: int) -> None:
        """Order a product by its number."""
        transaction.connection.execute("INSERT INTO orders VALUES (?)", (product,))

    policy = EnginePolicy(validate_tool_args=False)
    async with shop.open() as ledger:
        found = await shop.run(ledger, calls("order"), order, policy=policy)
    assert (found, shop.orders) == ({"c1": "invalid_arguments"}, [])


def _publish(topic: Any, payload: Any) -> Callable[[Lent], None]:
    return lambda transaction: transaction.publish(topic, payload)


@pytest.mark.parametrize(
    "behave",
    [
        lambda _: "a\0b",
        lambda _: object(),
        lambda _: float("nan"),
        lambda _: "x" * 5_000_000,
        _publish("t", "a\0b"),
        _publish("t", {"large": "x" * 5_000_000}),
        _publish("", {}),
        _publish(3, {}),
    ],
)
async def test_what_cannot_be_stored_undoes_everything(
    shop: Shop, behave: Callable[[Lent], object]
) -> None:
    """A value, topic or payload that is inadmissible or too large is an invalid response."""
    async with shop.open() as ledger:
        found = await shop.run(ledger, calls("order"), ordering(behave))
    assert (found, shop.orders, shop.outbox) == ({"c1": "invalid_response"}, [], [])


async def test_what_is_published_is_as_it_was(shop: Shop) -> None:
    """A payload that is changed afterwards is delivered as it was published."""

    def behave(transaction: Lent) -> None:
        payload: dict[str, Any] = {"pieces": 1}
        transaction.publish("t", payload)
        payload["pieces"] = 2

    async with shop.open() as ledger:
        await shop.run(ledger, calls("order"), ordering(behave))
    assert [payload for _, _, payload in shop.outbox] == ['{"product":"rye"}', '{"pieces":1}']


async def test_a_dry_run_is_rolled_back(shop: Shop) -> None:
    """A dry run has a value, and leaves nothing."""
    policy = EnginePolicy(enable_tool_dry_run=True)
    async with shop.open() as ledger:
        order = ordering(lambda t: t.connection.execute("SELECT * FROM orders").fetchall())
        found = await shop.run(ledger, calls("order", dry_run=True), order, policy=policy)
    assert (found, shop.orders, shop.outbox) == ({"c1": [["rye"]]}, [], [])


async def test_what_it_may_not_do_is_a_trap(shop: Shop) -> None:
    """A function that commits, even unnoticed, or writes to the ledger is undone."""

    def commit(transaction: Lent) -> None:
        transaction.connection.commit()

    def forge(transaction: Lent) -> None:
        transaction.connection.execute("DELETE FROM rainengine_records")

    skills = [ordering(commit, name="commit"), ordering(forge, name="forge")]
    async with shop.open() as ledger:
        found = await shop.run(ledger, calls("commit", "forge"), *skills)
    assert (found, shop.orders) == ({"c1": "trap", "c2": "trap"}, [])


# Time.


def _for_ever(transaction: Lent) -> None:
    transaction.connection.execute(ENDLESS).fetchone()


async def test_what_takes_too_long_is_undone(shop: Shop) -> None:
    """A transaction that is stopped is a timeout, and leaves neither rows nor doubt."""
    async with shop.open() as ledger:
        found = await shop.run(ledger, calls("order"), ordering(_for_ever, timeout_ms=20))
        assert (await statuses(ledger))[-1] == "timed_out"
    assert (found, shop.orders) == ({"c1": "timeout"}, [])


@pytest.mark.parametrize(
    ("timeout_ms", "policy", "least_s", "most_s"),
    [
        (3_000, EnginePolicy(), 3, 3),
        (30_000, EnginePolicy(max_tool_timeout_ms=2_000), 2, 2),
        (30_000, EnginePolicy(max_execution_time_ms=9_000), 0, 9),
        (0, EnginePolicy(), 0.001, 0.001),
    ],
)
async def test_the_smallest_limit_counts(
    shop: Shop, timeout_ms: int, policy: EnginePolicy, least_s: float, most_s: float
) -> None:
    """A transaction may take as long as skill, policy and the run's deadline all allow."""
    limits: list[float] = []

    class Noting(FaultyLedger):
        async def transact(self, *args: Any, timeout_s: float, **how: Any) -> Any:
            limits.append(timeout_s)
            return await self.wrapped_transact(*args, timeout_s=30, **how)

    order = ordering()
    resources = attrs.evolve(order.manifest.resource_policy, timeout_ms=timeout_ms)
    order.manifest = attrs.evolve(order.manifest, resource_policy=resources)
    async with shop.open() as ledger:
        assert await shop.run(Noting(ledger), calls("order"), order, policy=policy) == {
            "c1": "ordered"
        }
    assert least_s <= limits[0] <= most_s


async def test_nothing_begins_after_the_deadline(shop: Shop) -> None:
    """A call whose turn comes when the run's time is over is not made."""
    first = ordering(lambda _: shop.clock.jump(200_000), name="first")
    async with shop.open() as ledger:
        found = await shop.run(ledger, calls("first", "order"), first, ordering())
    assert (found, shop.orders) == ({"c1": "ordered", "c2": "cancelled"}, ["rye"])


# Attempts.


async def test_failures_are_retried_once_that_is_recorded(shop: Shop) -> None:
    """A failed attempt leaves nothing; the next one is recorded before it begins, and counts."""
    keys: list[tuple[int, str]] = []

    def behave(transaction: Lent) -> None:
        keys.append((transaction.invocation.attempt, transaction.invocation.idempotency_key))
        if len(keys) < 3:
            raise KeyError("mine")

    async with shop.open() as ledger:
        found = await shop.run(ledger, calls("order"), ordering(behave, retry=AT_ONCE))
        (result,) = await of_kind(ledger, ToolResult)
        assert (await statuses(ledger))[2:] == ["started", *["failed", "started"] * 2, "succeeded"]
    assert (found, shop.orders, len(shop.outbox)) == ({"c1": "ordered"}, ["rye"], 1)
    assert ([attempt for attempt, _ in keys], result.attempts) == ([1, 2, 3], 3)
    assert len({key for _, key in keys}) == 1


@pytest.mark.parametrize("kind", ["invalid_response", "permission_denied"])
async def test_what_is_not_retried(shop: Shop, kind: Any) -> None:
    """Failures that would come again are not retried, as with any other skill."""
    behave = sequence_of(SkillFailure(kind, "no"), None)
    async with shop.open() as ledger:
        assert await shop.run(ledger, calls("order"), ordering(behave, retry=AT_ONCE)) == {
            "c1": kind
        }


# Beside others.


async def test_other_calls_go_on_meanwhile(shop: Shop) -> None:
    """While the transaction runs, the event loop does, and calls of other kinds."""
    done = threading.Event()

    @skill(effects="pure")
    async def compute(product: str) -> str:
        """Compute."""
        await trio.lowlevel.checkpoint()
        done.set()
        return "computed"

    async with shop.open() as ledger:
        order = ordering(lambda _: done.wait(30))
        found = await shop.run(ledger, calls("order", "compute"), order, compute)
    assert found == {"c1": True, "c2": "computed"}


async def test_transactions_of_a_graph_are_done_one_by_one(shop: Shop) -> None:
    """In the graph's order, each sees what the one before has stored, results included."""
    seen: list[tuple[str, int, int]] = []

    def look(transaction: Lent) -> None:
        orders = "SELECT count(*) FROM orders"
        done = "SELECT count(*) FROM rainengine_records WHERE kind = 'tool_result'"
        row = transaction.connection.execute(f"SELECT ({orders}), ({done})").fetchone()
        seen.append((transaction.invocation.call_id, *row))

    async with shop.open() as ledger:
        await shop.run(ledger, calls(*["order"] * 4), ordering(look))
    assert seen == [("c1", 1, 0), ("c2", 2, 1), ("c3", 3, 2), ("c4", 4, 3)]


async def test_a_transaction_frees_what_waited_for_it(shop: Shop) -> None:
    """The start of a dependent call is in the same append as the result that freed it."""
    planned = CallSkills(
        [
            PlannedSkillCall(call_id="a", name="order", args={"product": "rye"}),
            PlannedSkillCall(call_id="b", name="order", args={"product": "oat"}, depends_on=("a",)),
            PlannedSkillCall(call_id="c", name="fail", args={"product": "none"}),
            PlannedSkillCall(
                call_id="d", name="order", args={"product": "never"}, depends_on=("c",)
            ),
        ]
    )
    fail = ordering(sequence_of(KeyError("mine")), name="fail")
    async with shop.open() as ledger:
        found = await shop.run(ledger, planned, ordering(), fail)
        checkpoints = await of_kind(ledger, ToolNodeCheckpoint)
    assert found == {"a": "ordered", "b": "ordered", "c": "internal", "d": "cancelled"}
    assert shop.orders == ["rye", "oat"]
    together = [[(node.call_id, node.statuses[-1]) for node in c.nodes] for c in checkpoints]
    assert [("a", "succeeded"), ("b", "started")] in together


# Intake, other holders, and answers that are lost.


async def test_intake_in_between_has_it_run_again(shop: Shop) -> None:
    """A message that comes first undoes the transaction, which is then done behind it."""
    runs: list[int] = []
    async with shop.open() as ledger:
        other = shop.engine(ledger, calls(), owner="two")

        class Talkative(FaultyLedger):
            async def around_append(self, session_id: str, *rest: Any) -> Any:
                if self.appends == TRANSACTION - 1 and not runs:
                    await other.submit(REQUEST)
                return await super().around_append(session_id, *rest)

        faulty = Talkative(ledger)
        found = await shop.run(faulty, calls("order"), ordering(lambda t: runs.append(1)))
        kinds = [stored.kind for stored in await ledger.read("s")]
    assert (found, len(runs), shop.orders) == ({"c1": "ordered"}, 2, ["rye"])
    assert kinds.index("trigger", 1) < kinds.index("tool_result")
    assert [kinds[sequence - 1] for sequence, _, _ in shop.outbox] == ["tool_result"]


async def test_a_storm_of_intake_does_not_starve_it(shop: Shop) -> None:
    """Messages that come before each attempt make it run twice, and not for ever."""
    runs: list[int] = []
    async with shop.open() as ledger:
        other = shop.engine(ledger, calls(), owner="two")

        class Stormy(FaultyLedger):
            async def around_append(self, session_id: str, *rest: Any) -> Any:
                if self.appends >= TRANSACTION - 1:
                    await other.submit(REQUEST)
                return await super().around_append(session_id, *rest)

        engine = shop.engine(Stormy(ledger), calls("order"), ordering(lambda t: runs.append(1)))
        for _ in range(2):
            await engine.advance(REQUEST if not runs else GO_ON)
            if runs:
                break
        assert await results(ledger) == {"c1": "ordered"}
    assert (len(runs), shop.orders) == (2, ["rye"])


async def test_a_cancellation_in_between_ends_it(shop: Shop) -> None:
    """Where a cancel request comes first, what was done is undone and not done again."""
    runs: list[int] = []
    async with shop.open() as ledger:
        faulty = FaultyLedger(ledger, {TRANSACTION: IntakeBefore((CANCEL,))})
        found = await shop.run(faulty, calls("order"), ordering(lambda t: runs.append(1)))
    assert (found, len(runs), shop.orders) == ({"c1": "cancelled"}, 1, [])


@pytest.mark.parametrize("fault", [FailBefore, FailAfter])
async def test_an_unknown_commit_is_neither_doubled_nor_lost(shop: Shop, fault: Any) -> None:
    """After a commit whose fate is not known the ledger tells: the effect is there once."""
    async with shop.open() as ledger:
        faulty = FaultyLedger(ledger, {TRANSACTION: fault(AppendUnknown("lost"))})
        engine = shop.engine(faulty, calls("order"), ordering())
        with pytest.raises(AppendUnknown):
            await engine.advance(REQUEST)
        await run_until_terminal(engine, GO_ON)
        assert await results(ledger) == {"c1": "ordered"}
    assert (shop.orders, len(shop.outbox)) == (["rye"], 1)


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_crash_leaves_no_doubt(shop: Shop, when: Any) -> None:
    """A process that dies around the commit leaves all of it or nothing, and the next goes on."""
    async with shop.open() as ledger:
        dying = CrashingLedger(ledger, TRANSACTION, when)
        with pytest.raises(SimulatedCrash):
            await shop.engine(dying, calls("order"), ordering()).advance(REQUEST)
        assert shop.orders == (["rye"] if when == "after" else [])
        await run_until_terminal(shop.engine(ledger, calls("order"), ordering()), GO_ON)
        assert await results(ledger) == {"c1": "ordered"}
    assert (shop.orders, len(shop.outbox)) == (["rye"], 1)


async def test_a_holder_that_was_overtaken_changes_nothing(shop: Shop) -> None:
    """A process that lost its session while it slept is refused, effect and all."""
    async with shop.open() as ledger:
        order = ordering()
        other = shop.engine(ledger, calls("order"), order, owner="two")

        class Asleep(FaultyLedger):
            async def around_append(self, session_id: str, *rest: Any) -> Any:
                if self.appends == TRANSACTION - 1:
                    shop.clock.jump(60_000)
                    await run_until_terminal(other, GO_ON)
                return await super().around_append(session_id, *rest)

        # Of another handle, or the other would wait for this one's turn.
        async with shop.open() as mine:
            engine = shop.engine(Asleep(mine), calls("order"), order)
            with pytest.raises(FenceLost):
                await engine.advance(REQUEST)
        assert await results(ledger) == {"c1": "ordered"}
    assert (shop.orders, len(shop.outbox)) == (["rye"], 1)


# After an interruption.


async def interrupted(shop: Shop, ledger: Ledger, *skills: Any, at: int = TRANSACTION) -> None:
    """Let a process die before it has stored the result of its call."""
    with pytest.raises(SimulatedCrash):
        await shop.engine(CrashingLedger(ledger, at), calls("order"), *skills).advance(REQUEST)


async def test_a_call_that_kills_processes_is_given_up(shop: Shop) -> None:
    """One that was interrupted too often fails as a trap, and is not in doubt."""
    async with shop.open() as ledger:
        await interrupted(shop, ledger, ordering())
        for _ in range(MAX_RESUMED_ATTEMPTS - 1):
            dying = CrashingLedger(ledger, TRANSACTION)  # behind the lease and the new start
            with pytest.raises(SimulatedCrash):
                await shop.engine(dying, calls("order"), ordering()).advance(GO_ON)
        await run_until_terminal(shop.engine(ledger, calls("order"), ordering()), GO_ON)
        assert (await results(ledger), shop.orders) == ({"c1": "trap"}, [])


@skill(name="order", effects="idempotent")
async def plain_order(product: str) -> str:
    """Order elsewhere."""
    return "ordered elsewhere"


@pytest.mark.parametrize("skills", [(), (plain_order,)], ids=["gone", "replaced"])
async def test_nobody_else_takes_it_up(shop: Shop, skills: Sequence[Any]) -> None:
    """Where the skill is gone, or no longer runs in transactions, nothing has happened or will."""
    async with shop.open() as ledger:
        await interrupted(shop, ledger, ordering())
        await run_until_terminal(shop.engine(ledger, calls("order"), *skills), GO_ON)
        assert (await results(ledger), shop.orders) == ({"c1": "internal"}, [])


@pytest.mark.parametrize(
    ("effects", "result"),
    [("pure", "internal"), ("idempotent", "unknown_outcome"), ("unsafe", "unknown_outcome")],
)
async def test_it_takes_up_nobody_elses(shop: Shop, effects: Any, result: str) -> None:
    """A call that was begun with other effects is not done again in a transaction."""

    @skill(name="order", effects=effects)
    async def before(product: str) -> str:
        """Order elsewhere."""
        return "ordered elsewhere"

    async with shop.open() as ledger:
        await interrupted(shop, ledger, before)
        await run_until_terminal(shop.engine(ledger, calls("order"), ordering()), GO_ON)
        assert (await results(ledger), shop.orders) == ({"c1": result}, [])


async def test_a_run_that_ends_leaves_no_doubt(shop: Shop) -> None:
    """An interrupted call of a run that is cancelled has not happened, and is said not to have."""
    async with shop.open() as ledger:
        await interrupted(shop, ledger, ordering())
        engine = shop.engine(ledger, calls("order"), ordering())
        await engine.cancel("s", "enough")
        await run_until_terminal(engine, GO_ON)
        (outcome,) = await of_kind(ledger, OutcomeRecord)
        assert (outcome.stop_reason, outcome.detail) == ("cancelled", "enough")
        assert (await results(ledger), shop.orders) == ({"c1": "cancelled"}, [])


async def test_a_skill_that_is_removed_before_its_turn(shop: Shop) -> None:
    """A call whose skill is unregistered between its start and its turn is not made."""
    engine: AgentEngine | None = None

    def remove(_: Lent) -> None:
        assert engine is not None
        engine.unregister_skill("order")

    async with shop.open() as ledger:
        first = ordering(remove, name="first")
        engine = shop.engine(ledger, calls("first", "order"), first, ordering())
        await run_until_terminal(engine, REQUEST)
        assert await results(ledger) == {"c1": "ordered", "c2": "internal"}
    assert shop.orders == ["rye"]


async def test_a_skill_that_is_replaced_before_its_turn(shop: Shop) -> None:
    """A call whose start promises a transaction is made in one, or not at all."""
    engine: AgentEngine | None = None
    made: list[str] = []

    @skill(name="order")
    async def elsewhere(product: str) -> None:
        """Order elsewhere."""
        made.append(product)

    def replace(_: Lent) -> None:
        assert engine is not None
        engine.unregister_skill("order")
        engine.register_skill(elsewhere)

    async with shop.open() as ledger:
        first = ordering(replace, name="first")
        engine = shop.engine(ledger, calls("first", "order"), first, ordering())
        await run_until_terminal(engine, REQUEST)
        assert await results(ledger) == {"c1": "ordered", "c2": "internal"}
    assert (shop.orders, made) == (["rye"], [])


async def test_a_skill_that_is_replaced_between_two_attempts(shop: Shop) -> None:
    """A call that is under way elsewhere does not end in a transaction."""
    engine: AgentEngine | None = None

    @skill(name="order", effects="pure", retry=AT_ONCE)
    async def elsewhere(product: str) -> None:
        """Order elsewhere."""
        assert engine is not None
        engine.unregister_skill("order")
        engine.register_skill(ordering(retry=AT_ONCE))
        raise KeyError("mine")

    async with shop.open() as ledger:
        engine = shop.engine(ledger, calls("order"), elsewhere)
        await run_until_terminal(engine, REQUEST)
        assert (await results(ledger), shop.orders) == ({"c1": "internal"}, [])


async def test_a_skill_of_ones_own_making(shop: Shop) -> None:
    """Any object with the protocol's methods runs in transactions, and is told of its call."""

    @attrs.frozen
    class Own:
        manifest: Any
        native: bool = True

        def apply(self, transaction: Lent, invocation: SkillInvocation) -> object:
            assert transaction.invocation is invocation
            transaction.connection.execute("INSERT INTO orders VALUES (?)", (invocation.call_id,))
            return {"session": invocation.context.session_id}

    async with shop.open() as ledger:
        found = await shop.run(ledger, calls("order"), Own(ordering().manifest))
    assert (found, shop.orders) == ({"c1": {"session": "s"}}, ["c1"])
