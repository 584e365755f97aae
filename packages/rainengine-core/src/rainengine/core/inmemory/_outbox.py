"""What one session has to deliver, and who has claimed it. Nothing in here awaits."""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterable
from itertools import islice, takewhile
from operator import attrgetter

import attrs

from rainengine.core.abc import DeadLetter, OutboxEntry, OutboxReport
from rainengine.core.codec import parse_json


@attrs.frozen(kw_only=True)
class OutboxRow:
    """Something to be delivered; `sequence` is the last one of its append."""

    session_id: str
    sequence: int
    ordinal: int
    topic: str
    payload: str


@attrs.define(eq=False)
class Delivery:
    """A row and what has become of it so far. Times are Unix milliseconds."""

    row: OutboxRow
    due_at_ms: int
    attempts: int = 0
    claim: int = 0
    claimed_until_ms: int | None = None
    delivered_at_ms: int | None = None
    dead_at_ms: int | None = None
    error: str | None = None

    @property
    def place(self) -> tuple[int, int]:
        """Where the row stands in its session."""
        return self.row.sequence, self.row.ordinal

    def free(self, now_ms: int) -> bool:
        """Whether it is due, and nobody has claimed it."""
        claimed = self.claimed_until_ms is not None and self.claimed_until_ms > now_ms
        return self.due_at_ms <= now_ms and not claimed

    def entry(self, tenant: str) -> OutboxEntry:
        """The row as workers know it."""
        return OutboxEntry(
            tenant=tenant,
            session_id=self.row.session_id,
            sequence=self.row.sequence,
            ordinal=self.row.ordinal,
            topic=self.row.topic,
            payload=parse_json(self.row.payload),
            attempts=self.attempts,
            claim=self.claim,
        )


_PLACE = attrgetter("place")


@attrs.define(eq=False)
class Deliveries:
    """The outbox of one session. `waiting` holds, by topic, what is neither delivered nor dead."""

    kept: dict[tuple[int, int], Delivery] = attrs.field(factory=dict[tuple[int, int], Delivery])
    waiting: dict[str, list[Delivery]] = attrs.field(factory=dict[str, list[Delivery]])

    def add(self, row: OutboxRow, now_ms: int) -> None:
        """Keep a new row, which is due at once."""
        delivery = Delivery(row, now_ms)
        self.kept[delivery.place] = delivery
        self.waiting.setdefault(row.topic, []).append(delivery)

    def is_due(self, now_ms: int) -> bool:
        """Whether there is a row that may be claimed."""
        return any(rows[0].free(now_ms) for rows in self.waiting.values())

    def claim(self, *, now_ms: int, until_ms: int, limit: int) -> list[Delivery]:
        """Claim rows as `Outbox.claim` says."""
        free: list[Delivery] = []
        for rows in self.waiting.values():
            free += islice(takewhile(lambda row: row.free(now_ms), rows), limit)
        claimed = sorted(free, key=_PLACE)[:limit]
        for row in claimed:
            row.attempts += 1
            row.claim += 1
            row.claimed_until_ms = until_ms
        return claimed

    def settle(self, report: OutboxReport, now_ms: int) -> None:
        """Record what became of a row, unless its claim is over."""
        row = self.kept.get((report.entry.sequence, report.entry.ordinal))
        if row is None or row.claimed_until_ms is None or row.claim != report.entry.claim:
            return
        row.claimed_until_ms = None
        if report.outcome == "returned":
            row.attempts -= 1
        elif report.outcome == "failed":
            row.due_at_ms, row.error = now_ms + report.retry_in_ms, report.error
        elif report.outcome == "dead":
            row.dead_at_ms, row.error = now_ms, report.error
            self._leave(row)
        else:
            row.delivered_at_ms = now_ms
            self._leave(row)

    def _leave(self, row: Delivery) -> None:
        rows = self.waiting[row.row.topic]
        rows.remove(row)
        if not rows:
            del self.waiting[row.row.topic]

    def dead_letters(self, tenant: str) -> Iterable[DeadLetter]:
        """The rows that were given up, in order."""
        return [
            DeadLetter(entry=row.entry(tenant), died_at_ms=row.dead_at_ms, error=row.error)
            for row in self.kept.values()
            if row.dead_at_ms is not None
        ]

    def redrive(self, entry: OutboxEntry, now_ms: int) -> bool:
        """Have a dead row tried again."""
        row = self.kept.get((entry.sequence, entry.ordinal))
        if row is None or row.dead_at_ms is None:
            return False
        row.due_at_ms, row.attempts, row.dead_at_ms, row.error = now_ms, 0, None, None
        insort(self.waiting.setdefault(row.row.topic, []), row, key=_PLACE)
        return True
