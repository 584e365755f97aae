"""The contract of `abc.Transactions`, one promise a function.

The tests of a store that has it run every function in `TRANSACTION_CHECKS` with a `LedgerMaker`.
A check that does not hold raises `CheckFailed` and says what it saw.
The statements are SQL that every database understands.
"""

from __future__ import annotations

from rainengine.core.testing._ledger_checks import LedgerCheck
from rainengine.core.testing._transaction_checks import _stored, _undone

TRANSACTION_CHECKS: tuple[LedgerCheck, ...] = (*_stored.CHECKS, *_undone.CHECKS)
