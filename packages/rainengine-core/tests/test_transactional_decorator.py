"""The decorator that makes a transactional skill of a function, and where one is refused."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import Any

import attrs
import pytest

from rainengine.core import InMemoryLedger, transactional_skill
from rainengine.core.abc import (
    Skill,
    SkillContext,
    SkillInvocation,
    Transaction,
    TransactionalSkill,
)
from rainengine.core.errors import InvalidSkill, SkillFailure
from rainengine.core.records import JsonObject, JsonValue, RetryPolicy, SkillManifest
from rainengine.core.tools import check_transactional, skill


@attrs.frozen
class Order:
    """A product, and how much of it."""

    product: str
    pieces: int = 1


@transactional_skill(scopes=["shop:order"], retry=RetryPolicy(max_attempts=2))
def place(transaction: Transaction[sqlite3.Connection], order: Order, note: str = "") -> str:
    """Place an order."""
    transaction.connection.execute("INSERT INTO orders VALUES (?, ?)", (order.product, note))
    return f"{order.pieces} {order.product}"


@attrs.frozen
class Handed:
    """What a function is handed in a test."""

    connection: Any
    invocation: SkillInvocation
    published: list[tuple[str, JsonValue]] = attrs.field(factory=list)

    def publish(self, topic: str, payload: JsonValue) -> None:
        self.published.append((topic, payload))


def handed(args: JsonObject) -> Handed:
    """A transaction on a database in memory."""
    connection = sqlite3.connect(":memory:")
    connection.execute("CREATE TABLE orders (product, note)")
    context = SkillContext(
        tenant="acme",
        session_id="s",
        trigger_id="t",
        graph_id="g",
        step=1,
        granted_scopes=(),
        fence=1,
    )
    invocation = SkillInvocation(
        call_id="c",
        name="place",
        args=args,
        idempotency_key="k",
        attempt=1,
        dry_run=False,
        context=context,
    )
    return Handed(connection, invocation)


def test_the_manifest_is_that_of_a_skill() -> None:
    """Hints and docstring make the manifest, without the transaction; a dry run is supported."""
    manifest = place.manifest
    assert ("place", "Place an order.") == (manifest.name, manifest.description)
    assert (("shop:order",), "transactional") == (manifest.required_scopes, manifest.effects)
    assert ["order", "note"] == list(manifest.input_schema["properties"])  # type: ignore[arg-type]
    resources = manifest.resource_policy
    assert (250, True, 2) == (
        resources.timeout_ms,
        resources.dry_run_supported,
        resources.retry_policy.max_attempts,
    )


def test_it_is_a_transactional_skill_and_no_other() -> None:
    """It implements the protocol, is native, and cannot be invoked without a transaction."""
    assert isinstance(place, TransactionalSkill)
    assert (True, False) == (place.native, isinstance(place, Skill))


def test_it_is_still_the_function() -> None:
    """Called directly, it is the function, with its name and docstring."""
    transaction = handed({})
    assert "1 rye" == place(transaction, Order("rye"), note="sliced")
    assert "place" == place.__name__  # type: ignore[attr-defined]
    assert [("rye", "sliced")] == transaction.connection.execute("SELECT * FROM orders").fetchall()


def test_arguments_become_the_annotated_types() -> None:
    """`apply` hands over the transaction, and the arguments in the function's types."""
    transaction = handed({"order": {"product": "rye", "pieces": 2.0}})
    assert "2 rye" == place.apply(transaction, transaction.invocation)


def test_arguments_that_do_not_fit_call_nothing() -> None:
    """Arguments of another shape fail as `invalid_arguments` before the function is called."""
    transaction = handed({"order": {"product": 3}})
    with pytest.raises(SkillFailure) as raised:
        place.apply(transaction, transaction.invocation)
    assert "invalid_arguments" == raised.value.kind
    assert [] == transaction.connection.execute("SELECT * FROM orders").fetchall()


def test_the_invocation_is_filled_in() -> None:
    """Parameters annotated with invocation or context are the engine's to fill in."""

    @transactional_skill
    def tell(
        transaction: Transaction[Any], context: SkillContext, invocation: SkillInvocation
    ) -> list[str]:
        """Tell."""
        return [context.session_id, invocation.idempotency_key]

    transaction = handed({})
    assert ["s", "k"] == tell.apply(transaction, transaction.invocation)


def no_transaction(product: str) -> None:
    """Doc."""


def nothing() -> None:
    """Doc."""


def second(product: str, transaction: Transaction[Any]) -> None:
    """Doc."""


def two(transaction: Transaction[Any], other: Transaction[Any]) -> None:
    """Doc."""


async def waiting(transaction: Transaction[Any]) -> None:
    """Doc."""


def undocumented(transaction: Transaction[Any]) -> None: ...  # noqa: D103


@pytest.mark.parametrize(
    ("function", "advice"),
    [
        (no_transaction, "its first parameter"),
        (nothing, "its first parameter"),
        (second, "its first parameter"),
        (two, "and no other"),
        (waiting, "write `def`"),
        (undocumented, "no description"),
        (place, "no function"),
    ],
)
def test_a_function_that_is_no_transactional_skill(
    function: Callable[..., Any], advice: str
) -> None:
    """A function that cannot be one is refused where it is decorated, with advice."""
    with pytest.raises(InvalidSkill, match=advice):
        transactional_skill(function)


def bare(transaction: Transaction) -> None:  # type: ignore[type-arg]
    """Doc."""


def test_the_connection_need_not_be_said() -> None:
    """`Transaction` alone is a hint too, and no argument of the model's."""
    assert {} == transactional_skill(bare).manifest.input_schema["properties"]


@pytest.mark.parametrize(
    ("function", "options"), [(bare, {}), (nothing, {"effects": "transactional"})]
)
def test_an_ordinary_skill_gets_no_transaction(
    function: Callable[..., Any], options: dict[str, Any]
) -> None:
    """What wants a transaction is refused by the decorator of other skills."""
    with pytest.raises(InvalidSkill, match="decorator transactional_skill"):
        skill(**options)(function)


# Registration.


@attrs.frozen
class Odd:
    """A skill with any manifest, and both methods or one."""

    manifest: SkillManifest
    native: bool = True

    def apply(self, transaction: Transaction[Any], invocation: SkillInvocation) -> object:
        return None


@attrs.frozen
class OddAsync(Odd):
    """A skill whose `apply` awaits."""

    async def apply(self, transaction: Transaction[Any], invocation: SkillInvocation) -> object:  # type: ignore[override]
        return None


class OddPlain:
    """A skill that is invoked, and calls its effects transactional."""

    manifest = place.manifest
    native = True

    async def invoke(self, invocation: SkillInvocation) -> object:
        return None


@pytest.mark.parametrize(
    ("odd", "advice"),
    [
        (Odd(attrs.evolve(place.manifest, effects="unsafe")), r"needs invoke\(\)"),
        (OddPlain(), r"needs apply\(\)"),
        (OddAsync(place.manifest), "write `def`"),
    ],
)
def test_kind_and_manifest_have_to_agree(odd: Any, advice: str) -> None:
    """A skill whose methods do not fit its effects is refused, whatever the ledger can do."""
    with pytest.raises(InvalidSkill, match=advice):
        check_transactional(odd, capable=True)


def test_a_skill_of_ones_own_making_is_taken() -> None:
    """Any object with the protocol's methods will do."""
    check_transactional(Odd(place.manifest), capable=True)


def test_a_ledger_without_transactions_refuses(stage: Any) -> None:
    """An engine on such a ledger refuses the skill and names the stores that can."""
    assert not hasattr(InMemoryLedger, "transact")
    engine = stage.engine([])
    with pytest.raises(InvalidSkill, match=r"store_sqlite or rainengine\.store_pg"):
        engine.register_skill(place)
    with pytest.raises(InvalidSkill, match="store_sqlite"):
        stage.engine([], place)
