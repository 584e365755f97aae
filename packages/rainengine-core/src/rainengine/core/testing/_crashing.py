"""A ledger under which the process dies at a chosen append."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import attrs

from rainengine.core.abc import (
    Appended,
    Ledger,
)
from rainengine.core.errors import RainEngineError
from rainengine.core.records import NewRecord
from rainengine.core.testing._forwarding import Forwarding, Send


class SimulatedCrash(BaseException):
    """The process is dead; in a test this unwinds what a real crash would simply end.

    No `Exception`: a dead process handles no errors, so `except Exception` must not see it.
    """


@attrs.define
class _Fate:
    """What all handles of one process share."""

    crash_at: int | None
    when: Literal["before", "after"]
    appends: int = 0
    dead: bool = False

    def live(self) -> None:
        if self.dead:
            raise SimulatedCrash("the process that held this ledger has crashed")

    def die(self) -> SimulatedCrash:
        self.dead = True
        return SimulatedCrash(f"crashed {self.when} append {self.appends} was stored")


class CrashingLedger(Forwarding):
    """A ledger whose process dies at append `crash_at`, counted from 1 over all tenants.

    `when` says whether that append is stored: "before" loses it, "after" loses only its answer.
    From then on every call raises `SimulatedCrash`. Without `crash_at` it only counts.
    It can do whatever `inner` can: `isinstance` finds the same capabilities.
    """

    def __init__(
        self,
        inner: Ledger,
        crash_at: int | None = None,
        when: Literal["before", "after"] = "before",
        *,
        _fate: _Fate | None = None,
    ) -> None:
        super().__init__(inner)
        self._fate = _fate or _Fate(crash_at, when)

    @property
    def appends(self) -> int:
        """How many appends were begun, the fatal one included."""
        return self._fate.appends

    @property
    def crashed(self) -> bool:
        """Whether the process is dead."""
        return self._fate.dead

    def before_forwarding(self) -> None:
        """Raise `SimulatedCrash` in a dead process."""
        self._fate.live()

    def beside(self, inner: Ledger) -> CrashingLedger:
        """Return another tenant's ledger in the same process."""
        return CrashingLedger(inner, _fate=self._fate)

    async def around_append(
        self, session_id: str, records: Sequence[NewRecord], send: Send
    ) -> Appended:
        """Append, unless this is where the process dies."""
        fate = self._fate
        fate.live()
        fate.appends += 1
        fatal = fate.appends == fate.crash_at
        if fatal and fate.when == "before":
            raise fate.die()
        try:
            appended = await send()
        except RainEngineError as error:
            if fatal:
                raise fate.die() from error
            raise
        if fatal:
            raise fate.die()
        fate.live()  # somebody else died while this one waited
        return appended
