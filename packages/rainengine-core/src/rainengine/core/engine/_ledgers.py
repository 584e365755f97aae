"""A ledger and what it can do beyond appending and reading."""

from __future__ import annotations

import attrs

from rainengine.core.abc import Ledger, SessionLeases, Snapshots, Transactions, Watch


@attrs.frozen(eq=False)
class Backing:
    """A ledger with its capabilities, found out once: asking a protocol is slow."""

    ledger: Ledger
    leases: SessionLeases | None
    snapshots: Snapshots | None
    watch: Watch | None
    transactions: Transactions | None

    @classmethod
    def of(cls, ledger: Ledger) -> Backing:
        """Find out what the ledger can do."""
        return cls(
            ledger,
            ledger if isinstance(ledger, SessionLeases) else None,
            ledger if isinstance(ledger, Snapshots) else None,
            ledger if isinstance(ledger, Watch) else None,
            ledger if isinstance(ledger, Transactions) else None,
        )
