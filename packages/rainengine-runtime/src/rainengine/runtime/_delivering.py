"""The outbox: rows are claimed, published in order, and settled.

- A row is claimed for longer than it may take: a publication begins only if its timeout ends
  before the claim does, by the worker's monotonic clock, which was read before the claim was made.
  What there is no time for is returned untried. So two workers publish one row at the same time
  only where a publisher outlives its cancellation.
- Within a topic rows go one after another, and a failure holds the later ones; topics of one
  session go side by side.
- What was published is settled even while the worker is being cancelled, and again if the ledger is
  away for a moment, as an unsettled row would go out again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from itertools import count

import attrs
import trio

from rainengine.core import codec
from rainengine.core.abc import (
    Clock,
    DueSession,
    Outbox,
    OutboxEntry,
    OutboxPublisher,
    OutboxReport,
)
from rainengine.core.errors import LedgerUnavailable, Undeliverable
from rainengine.runtime._lane import AWAY, Verdict
from rainengine.runtime._patience import full_jitter_s
from rainengine.runtime._shift import Shift

_CLAIM_IN_TIMEOUTS = 4
_SETTLE_S = 5.0
_DISCARDED_AT_ONCE = 1_000
_ERROR_CHARACTERS = 500


@attrs.frozen(eq=False, kw_only=True)
class Deliverer:
    """Hands the rows of the outbox to the publisher."""

    outbox: Outbox
    publisher: OutboxPublisher
    shift: Shift
    clock: Clock

    async def deliver(self, session: DueSession) -> Verdict:
        """Deliver what a session has to be delivered, up to a batch of it."""
        settings = self.shift.settings
        claim_s = settings.publish_timeout_s * _CLAIM_IN_TIMEOUTS
        last_begin = trio.current_time() + claim_s - settings.publish_timeout_s
        entries = await self.outbox.claim(
            session.tenant,
            session.session_id,
            claim_ms=round(claim_s * 1000),
            limit=settings.outbox_batch,
        )
        if not entries:
            return "nothing"
        reports = await self._publish_and_settle(entries, last_begin)
        full = len(entries) == settings.outbox_batch
        return "again" if full or _left(entries, reports) else "done"

    async def _publish_and_settle(
        self, entries: Sequence[OutboxEntry], last_begin: float
    ) -> Sequence[OutboxReport]:
        """Return reports on what was tried."""
        reports: list[OutboxReport] = []
        try:
            async with trio.open_nursery() as nursery:
                for rows in _by_topic(entries):
                    nursery.start_soon(self._publish_rows, rows, last_begin, reports)
        finally:
            untried = _untried(entries, reports)
            returned = [OutboxReport(entry=entry, outcome="returned") for entry in untried]
            await self._settle([*reports, *returned])
        self._count(reports)
        return reports

    async def _settle(self, reports: Sequence[OutboxReport]) -> None:
        """Record what became of rows. A ledger that is away for a moment is waited for."""
        settings, fraction = self.shift.settings, self.shift.fraction
        with trio.move_on_after(_SETTLE_S, shield=True):
            for times in count(1):
                with suppress(*AWAY):
                    return await self.outbox.settle(reports)
                await trio.sleep(full_jitter_s(settings.ledger_retry, times, fraction))
        raise LedgerUnavailable(f"what became of {len(reports)} outbox rows could not be recorded")

    async def _publish_rows(
        self, rows: Sequence[OutboxEntry], last_begin: float, reports: list[OutboxReport]
    ) -> None:
        for row in rows:
            if self.shift.ending or trio.current_time() > last_begin:
                return
            report = await self._publish(row)
            reports.append(report)
            if report.outcome == "failed":
                return

    async def _publish(self, row: OutboxEntry) -> OutboxReport:
        timeout_s = self.shift.settings.publish_timeout_s
        try:
            with trio.move_on_after(timeout_s) as scope:
                await self.publisher.publish(row)
        except Undeliverable as error:
            return OutboxReport(entry=row, outcome="dead", error=_told(error))
        except Exception as error:  # noqa: BLE001  # a publisher is somebody else's code
            return self._failed(row, _told(error))
        if scope.cancelled_caught:
            return self._failed(row, f"not published within {timeout_s:g} s")
        return OutboxReport(entry=row, outcome="delivered")

    def _failed(self, row: OutboxEntry, error: str) -> OutboxReport:
        policy = self.shift.settings.publish_retry
        if row.attempts >= policy.max_attempts:
            return OutboxReport(entry=row, outcome="dead", error=error)
        wait_s = full_jitter_s(policy, row.attempts, self.shift.fraction)
        return OutboxReport(
            entry=row, outcome="failed", error=error, retry_in_ms=round(wait_s * 1000)
        )

    def _count(self, reports: Sequence[OutboxReport]) -> None:
        outcomes = Counter(report.outcome for report in reports)
        self.shift.counts.delivered += outcomes["delivered"]
        self.shift.counts.failed += outcomes["failed"]
        self.shift.counts.dead += outcomes["dead"]

    async def discard(self) -> None:
        """Delete the rows that were delivered long enough ago."""
        before_ms = self.clock.now_ms() - self.shift.settings.keep_delivered_ms
        deleted = _DISCARDED_AT_ONCE
        while deleted == _DISCARDED_AT_ONCE and not self.shift.ending:
            deleted = await self.outbox.discard_delivered(
                before_ms=before_ms, limit=_DISCARDED_AT_ONCE
            )
            self.shift.counts.discarded += deleted


def _by_topic(entries: Sequence[OutboxEntry]) -> list[list[OutboxEntry]]:
    topics: dict[str, list[OutboxEntry]] = {}
    for entry in entries:
        topics.setdefault(entry.topic, []).append(entry)
    return list(topics.values())


def _untried(entries: Sequence[OutboxEntry], reports: Sequence[OutboxReport]) -> list[OutboxEntry]:
    tried = {report.entry.key for report in reports}
    return [entry for entry in entries if entry.key not in tried]


def _left(entries: Sequence[OutboxEntry], reports: Sequence[OutboxReport]) -> bool:
    """Whether there was no time for some; those behind a failure have to wait anyway."""
    held = {report.entry.topic for report in reports if report.outcome == "failed"}
    return any(entry.topic not in held for entry in _untried(entries, reports))


def _told(error: Exception) -> str:
    return f"{type(error).__name__}: {codec.shown(error, str)}"[:_ERROR_CHARACTERS]
