"""The contract of a ledger, one promise a function.

A store's tests run every function in `LEDGER_CHECKS` with a `LedgerMaker`, and those in
`WORK_CHECKS` where workers can ask it for what is due and for what is to be delivered.
A check that does not hold raises `CheckFailed` and says what it saw.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeAlias

from rainengine.core.testing._ledger_checks import (
    _admission,
    _appends,
    _capabilities,
    _deliveries,
    _endings,
    _leases,
    _outbox,
    _precedence,
    _queue,
    _races,
    _reads,
    _sessions,
)
from rainengine.core.testing._maker import LedgerMaker

LedgerCheck: TypeAlias = Callable[[LedgerMaker], Awaitable[None]]

LEDGER_CHECKS: tuple[LedgerCheck, ...] = (
    *_appends.CHECKS,
    *_precedence.CHECKS,
    *_leases.CHECKS,
    *_reads.CHECKS,
    *_sessions.CHECKS,
    *_capabilities.CHECKS,
    *_admission.CHECKS,
    *_races.CHECKS,
)

WORK_CHECKS: tuple[LedgerCheck, ...] = (
    *_queue.CHECKS,
    *_outbox.CHECKS,
    *_endings.CHECKS,
    *_deliveries.CHECKS,
)
