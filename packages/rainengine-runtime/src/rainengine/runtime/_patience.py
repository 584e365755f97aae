"""How long what went wrong is left alone: single sessions, or the ledger as a whole.

Times are trio's: patience is a matter of one process.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable
from typing import TypeAlias

import attrs
import trio

from rainengine.core.abc import DueSession
from rainengine.core.errors import LedgerError
from rainengine.core.kernel import backoff_ceiling_ms
from rainengine.core.records import RetryPolicy

Key: TypeAlias = tuple[str, str]
"""A session's tenant and id."""

_REMEMBERED = 10_000
_PAST_AFTER_S = 60.0
_log = logging.getLogger("rainengine.runtime")


def key_of(session: DueSession) -> Key:
    """What a session is known by."""
    return session.tenant, session.session_id


def full_jitter_s(policy: RetryPolicy, times: int, fraction: Callable[[], float]) -> float:
    """Draw the wait after so many failures, in seconds, as `RetryPolicy` says."""
    return backoff_ceiling_ms(policy, times) / 1000 * fraction()


@attrs.frozen(kw_only=True)
class _Rest:
    times: int
    until: float
    failed: bool
    agent: str | None


@attrs.define(eq=False)
class Resting:
    """Sessions that are left alone for a while, the longer the more often it happens in a row.

    Beyond `limit` of them the first is forgotten, which only has it tried again too early.
    """

    fraction: Callable[[], float]
    limit: int = _REMEMBERED
    _rests: OrderedDict[Key, _Rest] = attrs.field(factory=OrderedDict[Key, _Rest], init=False)

    def rest(
        self, key: Key, policy: RetryPolicy, *, failed: bool = False, agent: str | None = None
    ) -> None:
        """Leave a session alone for as long as the policy says; `agent` is one that is missing."""
        before = self._rests.pop(key, None)
        times = 1 if before is None or _is_past(before) else before.times + 1
        wait_s = backoff_ceiling_ms(policy, times) / 1000 * (1 + self.fraction()) / 2
        until = trio.current_time() + wait_s
        self._rests[key] = _Rest(times=times, until=until, failed=failed, agent=agent)
        while len(self._rests) > self.limit:
            self._rests.popitem(last=False)

    def clear(self) -> None:
        """Forget all sessions."""
        self._rests.clear()

    def settled(self, key: Key) -> None:
        """Forget a session: all is well with it."""
        self._rests.pop(key, None)

    def has(self, key: Key) -> bool:
        """Whether a session is to be left alone for now."""
        rest = self._rests.get(key)
        return rest is not None and trio.current_time() < rest.until

    @property
    def failed(self) -> set[Key]:
        """The sessions that had an error and have not got over it."""
        return {key for key, rest in self._rests.items() if rest.failed and not _is_past(rest)}

    @property
    def waiting(self) -> dict[Key, str]:
        """The sessions that wait for an agent, and for which."""
        rests = {key: rest for key, rest in self._rests.items() if not _is_past(rest)}
        return {key: rest.agent for key, rest in rests.items() if rest.agent is not None}


def _is_past(rest: _Rest) -> bool:
    """Whether a session was not seen again when it could have been: others have seen to it."""
    # Numbers may be asked for from anywhere, and outside of trio there is no time.
    return trio.lowlevel.in_trio_run() and trio.current_time() > rest.until + _PAST_AFTER_S


@attrs.define(eq=False)
class Outage:
    """Whether the ledger is away, and until when it is left alone.

    Full jitter: each time it is drawn evenly from nothing up to a ceiling that doubles.
    A ledger may answer questions and take no appends, as when its disk is full; so an answer ends
    only an outage that was noticed by asking.
    """

    policy: RetryPolicy
    fraction: Callable[[], float]
    error: LedgerError | None = None
    _times: int = attrs.field(default=0, init=False)
    _asking: bool = attrs.field(default=True, init=False)
    _until: float = attrs.field(default=0.0, init=False)

    @property
    def left_s(self) -> float:
        """For how much longer to leave the ledger alone, in seconds."""
        return 0.0 if self.error is None else max(self._until - trio.current_time(), 0.0)

    def noticed(self, error: LedgerError, *, asking: bool) -> None:
        """The ledger failed. Several who notice it at one time count once."""
        self._asking &= asking
        if self.left_s:
            return
        if self.error is None:
            _log.warning("the ledger is away, and is asked again until it answers: %r", error)
        self.error = error
        self._times += 1
        wait_s = full_jitter_s(self.policy, self._times, self.fraction)
        self._until = trio.current_time() + wait_s

    def over(self, *, asking: bool) -> None:
        """The ledger answered, or did what it was to do."""
        if self.error is None or (asking and not self._asking):
            return
        _log.info("the ledger is back")
        self.error = None
        self._times, self._asking = 0, True
