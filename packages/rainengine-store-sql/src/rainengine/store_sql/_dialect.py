"""The seam between what all SQL stores share and what each database does in its own way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol, TypeVar

from rainengine.core.errors import LedgerError
from rainengine.store_sql._drafts import Draft
from rainengine.store_sql._judgement import Verdict
from rainengine.store_sql._rows import SnapshotRow, Value

Parameters = Sequence[Value] | Mapping[str, Value]


class Cursor(Protocol):
    """What the shared code needs of a driver's cursor."""

    def fetchone(self) -> Sequence[Value] | None:
        """Return the next row, if there is one."""
        ...

    def fetchall(self) -> Sequence[Sequence[Value]]:
        """Return all rows that are left."""
        ...


class Connection(Protocol):
    """What the shared code needs of a driver's connection; in autocommit mode."""

    def execute(self, sql: str, parameters: Parameters = ..., /) -> Cursor:
        """Run one statement."""
        ...

    def close(self) -> None:
        """Give the connection back, rolling back what is under way."""
        ...


ConnectionT = TypeVar("ConnectionT", bound=Connection)
_ConnectionT_contra = TypeVar("_ConnectionT_contra", bound=Connection, contravariant=True)


class Batch(NamedTuple):
    """What goes into one transaction: appends to different sessions, and snapshots."""

    drafts: Sequence[Draft]
    snapshots: Sequence[SnapshotRow] = ()


class Committed(NamedTuple):
    """What became of a batch: a verdict a draft, and whether there was anything to commit.

    None stands for a draft that was not got to, and is to be tried alone; in a batch of one, for
    a session that somebody else is busy with, to be tried again soon. The dialect sees by the
    draft's `submitted_s` (monotonic) when to give up.
    """

    verdicts: Sequence[Verdict | None]
    commits: int


class CommitUnknown(Exception):
    """COMMIT was sent and failed without saying whether it took effect.

    `verdicts` are those of the batch that was about to become durable.
    The connection is not used again.
    """

    def __init__(self, verdicts: Sequence[Verdict | None] = ()) -> None:
        super().__init__("the commit's outcome is unknown")
        self.verdicts = verdicts


class Loan(Protocol):
    """A connection in the hands of code that is not ours, in a transaction that is."""

    def end(self, *, returned: bool) -> None:
        """Take the connection back. `returned` is False where the code raised.

        Raises `TransactionMisused` where the transaction is not what it was, or was tampered
        with; where it raised, what the database itself has rolled back is no misuse.
        """
        ...


class Dialect(Protocol[_ConnectionT_contra]):
    """How one database takes a batch.

    `commit_batch` is called by the writer's thread alone, everything else by any thread.
    """

    def begin(self, connection: _ConnectionT_contra, timeout_s: float | None = None) -> None:
        """Begin a transaction that is going to write.

        What is asked of the database in it may take `timeout_s` seconds, in all or a statement,
        as the database counts; after that it fails with what means `TransactionTimeout`.
        """
        ...

    def commit(self, connection: _ConnectionT_contra) -> None:
        """Commit what `begin` began. Raises what `commit_batch` does."""
        ...

    def append_within(self, connection: _ConnectionT_contra, draft: Draft) -> Verdict:
        """Judge a draft, and write it if it is accepted, in a transaction that `begin` began.

        From here to the transaction's end the session's row is locked. Nothing is committed.
        """
        ...

    def lend(self, connection: _ConnectionT_contra) -> Loan:
        """Lend a connection, in a transaction that `begin` began, to code that is not ours.

        As far as the database can, it is kept from ending the transaction, and from writing to
        the ledger's tables. Where it does not `end` well, the connection is closed.
        """
        ...

    def commit_batch(self, connection: _ConnectionT_contra, batch: Batch) -> Committed:
        """Judge every draft by its session's row (`judge`) and store what is accepted, durably.

        A draft that is refused, or cannot be stored, must not keep back the others.
        Raises `CommitUnknown`, or the driver's error where nothing was stored, now or later.
        After either the connection is closed and a new one opened.
        """
        ...

    def translate_error(self, error: Exception) -> LedgerError | None:
        """Say what a driver's error means; None for what is not the driver's.

        A `LedgerUnavailable` concerns the whole batch; after any other error
        each of its appends is tried alone.
        """
        ...

    def lost(self, connection: _ConnectionT_contra) -> bool:
        """Whether a connection on which something failed leads nowhere any more."""
        ...
