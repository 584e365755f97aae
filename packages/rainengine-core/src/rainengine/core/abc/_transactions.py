"""Skills whose effect is rows in the ledger's own database, and the ledgers that can run them.

Effect, result and outbox rows are stored in one transaction: together, or not at all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeAlias, TypeVar, runtime_checkable

import attrs

from rainengine.core.abc._ledger import Appended, LeaseChange, OutboxItem, SessionIndex
from rainengine.core.abc._skills import Skill, SkillInvocation
from rainengine.core.records import Head, JsonValue, NewRecord, SkillManifest

ConnectionT_co = TypeVar("ConnectionT_co", covariant=True)


class Transaction(Protocol[ConnectionT_co]):
    """An open transaction on the ledger's database, on loan to a skill.

    Annotate it with the driver's connection: `Transaction[sqlite3.Connection]`.
    """

    @property
    def connection(self) -> ConnectionT_co:
        """The driver's own connection. Run statements on it; begin, commit and roll back nothing.

        It is the skill's until it returns, and no longer.
        """
        ...

    @property
    def invocation(self) -> SkillInvocation:
        """The call that is being done."""
        ...

    def publish(self, topic: str, payload: JsonValue) -> None:
        """Have something delivered if the transaction commits, in order within its topic.

        Raises `InadmissibleValue`.
        """
        ...


@runtime_checkable
class TransactionalSkill(Protocol):
    """A skill that only writes to the ledger's own database, and so happens exactly once.

    Its manifest's `effects` are `transactional`.
    """

    @property
    def manifest(self) -> SkillManifest:
        """Name, contract and needs."""
        ...

    @property
    def native(self) -> bool:
        """Whether it runs unsandboxed."""
        ...

    def apply(self, transaction: Transaction[Any], invocation: SkillInvocation) -> object:
        """Do it and return a JSON value, or something that turns into one (attrs, dataclass).

        Runs in a thread of the store's; on some stores everything else waits meanwhile.
        So it does nothing but run statements. It may be run again after it was rolled back:
        whatever it changes elsewhere is not undone.
        Any exception rolls back and is a failed call; `SkillFailure` chooses the kind of failure.
        """
        ...


AnySkill: TypeAlias = Skill | TransactionalSkill
"""What an engine can register."""


@attrs.frozen(kw_only=True)
class Enclosed:
    """What goes to the session in one transaction with a function's own rows."""

    records: Sequence[NewRecord]
    index: SessionIndex | None = None
    outbox: Sequence[OutboxItem] = ()


@runtime_checkable
class Transactions(Protocol):
    """Running functions of the driver's connection in the transaction of an append."""

    async def transact(
        self,
        session_id: str,
        work: Callable[[Any], Enclosed],
        *,
        expected: Head | None,
        fence: int | None = None,
        lease: LeaseChange | None = None,
        timeout_s: float,
    ) -> Appended:
        """Run `work` with a connection, in a thread, and append what it returns: all or nothing.

        `expected`, `fence` and `lease` mean what they do to `Ledger.append`, and are judged after
        `work` has run, by the session as it stands then. `timeout_s` bounds statements and `work`
        as a whole, not the wait for its turn. A cancellation is delivered only after the fate of
        the transaction is known.

        What `work` raises rolls everything back and is raised here as it is. Further, with
        nothing stored unless it says so, whatever `Ledger.append` raises, and

        - `TransactionTimeout`: it took too long
        - `TransactionMisused`: `work` ended the transaction, wrote to the ledger's own tables, or
          left what the database refuses to commit
        """
        ...
