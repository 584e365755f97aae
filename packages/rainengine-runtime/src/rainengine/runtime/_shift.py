"""What all the work of one worker shares: its counts, its patience, and whether it is to end."""

from __future__ import annotations

import logging
from collections.abc import Callable

import attrs
import trio

from rainengine.core.abc import DueSession
from rainengine.core.errors import LedgerClosed, LedgerError
from rainengine.runtime._patience import Outage
from rainengine.runtime._settings import WorkerSettings
from rainengine.runtime._stats import Counts

_KINDS_OF_ERRORS = 100
_log = logging.getLogger("rainengine.runtime")


@attrs.define(eq=False)
class Bell:
    """Wakes whoever listens; rung while nobody does, it is heard by the next."""

    _event: trio.Event = attrs.field(factory=trio.Event, init=False)

    def ring(self) -> None:
        """Have `heard` return."""
        self._event.set()

    async def heard(self, within_s: float = float("inf")) -> None:
        """Return once it rang, or after so many seconds."""
        with trio.move_on_after(within_s):
            await self._event.wait()
        if self._event.is_set():
            self._event = trio.Event()


@attrs.define(eq=False, kw_only=True)
class Shift:
    """One worker at work. `ending`: nothing more is begun. `fatal`: why it had to end.

    Without `patient`, a ledger that is away ends the shift.
    """

    settings: WorkerSettings
    fraction: Callable[[], float]
    counts: Counts
    patient: bool = True
    ending: bool = False
    fatal: LedgerError | None = None
    bells: list[Bell] = attrs.field(factory=list[Bell])
    outage: Outage = attrs.field(init=False)
    _kinds: set[tuple[type[Exception], str]] = attrs.field(
        factory=set[tuple[type[Exception], str]], init=False
    )

    def __attrs_post_init__(self) -> None:
        self.outage = Outage(self.settings.ledger_retry, self.fraction)

    def bell(self) -> Bell:
        """Return a new bell, which rings when the shift ends."""
        self.bells.append(Bell())
        return self.bells[-1]

    def end(self) -> None:
        """Begin nothing more."""
        self.ending = True
        for bell in self.bells:
            bell.ring()

    def notice(self, error: LedgerError, *, asking: bool = False) -> None:
        """The ledger is away: rest, or end where resting does not help.

        `asking`: it was only asked what is due.
        """
        self.counts.outages += not self.outage.left_s
        if isinstance(error, LedgerClosed) or not self.patient:
            self.fatal = self.fatal or error
            self.end()
        else:
            self.outage.noticed(error, asking=asking)

    def report(self, session: DueSession, error: Exception) -> None:
        """Log an error that a session raised, in full where it is the first of its kind."""
        kind = type(error), _origin(error)
        known = kind in self._kinds or len(self._kinds) >= _KINDS_OF_ERRORS
        if not known:
            self._kinds.add(kind)
        _log.log(
            logging.DEBUG if known else logging.ERROR,
            "session %r of tenant %r raised an error and is left alone for a while",
            session.session_id,
            session.tenant,
            exc_info=error,
        )


def _origin(error: Exception) -> str:
    """The line of code that raised the error."""
    traceback = error.__traceback__
    while traceback is not None and traceback.tb_next is not None:
        traceback = traceback.tb_next
    if traceback is None:
        return ""
    return f"{traceback.tb_frame.f_code.co_filename}:{traceback.tb_lineno}"
