"""A workload whose skills act in the ledger's own transactions, and what counts what they did.

Its effects are rows of a table that knows no uniqueness: whatever is done twice is there twice.
The statements are SQL that every database understands.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, cast

import attrs

from rainengine.core.abc import (
    AnySkill,
    Enclosed,
    Ledger,
    SkillInvocation,
    Transaction,
    Transactions,
)
from rainengine.core.records import Respond, SkillManifest
from rainengine.core.testing._differential._process import Step, Workload
from rainengine.core.testing._differential._receivers import Receiver, answer_to, label_of
from rainengine.core.testing._differential._workloads import (
    by_step,
    call,
    calls,
    named,
    outside,
    request,
)

TABLE = "rows_of_skills"
TOPIC = "rows"


def _insert(transaction: Transaction[Any]) -> object:
    invocation = transaction.invocation
    label = label_of(invocation)
    execute = transaction.connection.execute
    execute(f"CREATE TABLE IF NOT EXISTS {TABLE} (label TEXT NOT NULL)")
    execute(f"INSERT INTO {TABLE} VALUES ({_quoted(label)})")  # noqa: S608 - quoted
    transaction.publish(TOPIC, label)
    return answer_to(invocation)


def _falter(transaction: Transaction[Any]) -> object:
    answer = _insert(transaction)
    if transaction.invocation.attempt == 1:
        raise ConnectionError("it did not feel like it")
    return answer


def _spoil(transaction: Transaction[Any]) -> object:
    _insert(transaction)
    raise ValueError("it never works")


@attrs.frozen
class _Tool:
    """A skill that acts on the ledger's own database."""

    manifest: SkillManifest
    act: Callable[[Transaction[Any]], object]
    native: bool = True

    def apply(self, transaction: Transaction[Any], invocation: SkillInvocation) -> object:
        return self.act(transaction)


_TOOLS = (
    _Tool(named("insert", "Adds a row.", "transactional"), _insert),
    _Tool(named("falter", "Adds a row, the second time.", "transactional"), _falter),
    _Tool(named("spoil", "Adds a row, and takes it back.", "transactional"), _spoil),
)


def _skills(receiver: Receiver) -> list[AnySkill]:
    return [*outside(receiver), *_TOOLS]


class _Seen(Exception):
    """Carries what a transaction has read out of it, and rolls it back."""


async def _tally(ledger: Ledger) -> Mapping[str, int]:
    """Count the rows of each call, and what it published."""
    head = await ledger.head("nothing")

    def count(connection: Any) -> Enclosed:  # noqa: ANN401 - the driver's
        rows = connection.execute(f"SELECT label FROM {TABLE}").fetchall()  # noqa: S608 - our own
        outbox = "SELECT payload FROM rainengine_outbox WHERE topic = "
        published = connection.execute(outbox + _quoted(TOPIC)).fetchall()
        raise _Seen([label for (label,) in rows], [f"published {text}" for (text,) in published])

    try:
        await cast(Transactions, ledger).transact("nothing", count, expected=head, timeout_s=30)
    except _Seen as seen:
        names: list[str] = [*seen.args[0], *seen.args[1]]
        return {name: names.count(name) for name in names}
    return {}


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


TRANSACTIONAL = Workload(
    name="transactions",
    script=[Step("run", request("transactions"))],
    provider=by_step(
        calls(
            call("insert", "first"),
            call("compute"),
            call("falter", "second", after=["first"]),
            call("spoil"),
            call("insert", "never", after=["spoil"]),
            call("pay", "third", after=["second"]),
        ),
        calls(call("insert"), call("insert", "again"), call("post")),
        Respond("done"),
    ),
    skills=_skills,
    tally=_tally,
)
"""What the sweeps run on every store whose ledgers have `abc.Transactions`."""
