"""A ledger whose storage misbehaves at chosen appends."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

import attrs

from rainengine.core.abc import Appended, Ledger
from rainengine.core.errors import LedgerError
from rainengine.core.records import NewRecord
from rainengine.core.testing._forwarding import Forwarding, Send


@attrs.frozen
class FailBefore:
    """The append is not stored and raises `error`: `LedgerUnavailable`, or `AppendUnknown`."""

    error: LedgerError


@attrs.frozen
class FailAfter:
    """The append is stored and raises `error` all the same: `AppendUnknown`."""

    error: LedgerError


@attrs.frozen
class IntakeBefore:
    """Somebody's intake reaches the session just before the append, whose head is then stale."""

    records: tuple[NewRecord, ...]


Fault: TypeAlias = FailBefore | FailAfter | IntakeBefore


@attrs.define
class _Faults:
    """What all handles of one store share."""

    at: Mapping[int, Fault]
    appends: int = 0

    def next(self) -> Fault | None:
        self.appends += 1
        return self.at.get(self.appends)


class FaultyLedger(Forwarding):
    """A ledger with faults at chosen appends, which count from 1 over all tenants.

    It can do whatever `inner` can: `isinstance` finds the same capabilities.
    """

    def __init__(
        self,
        inner: Ledger,
        faults: Mapping[int, Fault] | None = None,
        *,
        _faults: _Faults | None = None,
    ) -> None:
        super().__init__(inner)
        self._faults = _faults or _Faults(faults or {})

    @property
    def appends(self) -> int:
        """How many appends were begun."""
        return self._faults.appends

    def beside(self, inner: Ledger) -> FaultyLedger:
        """Return another tenant's ledger on the same storage."""
        return FaultyLedger(inner, _faults=self._faults)

    async def around_append(
        self, session_id: str, records: Sequence[NewRecord], send: Send
    ) -> Appended:
        """Append, with the fault that was chosen for this one."""
        fault = self._faults.next()
        if isinstance(fault, FailBefore):
            raise fault.error
        if isinstance(fault, IntakeBefore):
            await self._inner.append(session_id, fault.records, expected=None)
        appended = await send()
        if isinstance(fault, FailAfter):
            raise fault.error
        return appended
