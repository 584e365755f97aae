"""What can be proved afterwards: the ledger, beside the log that the skills kept without it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import attrs
import office
from worker import LEDGER, SESSION

from rainengine.core.records import CoordinationClaim, StoredRecord, ToolCalls, ToolResult
from rainengine.core.verification import Verification, verify_session
from rainengine.store_sqlite import open_sqlite_ledger


@attrs.frozen(kw_only=True)
class Evidence:
    """The ledger's records and its verification, and what the skills left behind."""

    records: list[StoredRecord]
    verification: Verification
    log: list[dict[str, object]]
    book: list[dict[str, object]]
    sent: list[dict[str, object]]

    @classmethod
    async def collect(cls, folder: Path) -> Evidence:
        """Read everything that the processes left in the folder."""
        async with open_sqlite_ledger(folder / LEDGER) as ledger:
            records: list[StoredRecord] = []
            while page := await ledger.read(SESSION, after=len(records)):
                records += page
            verification = await verify_session(ledger, SESSION)
        return cls(
            records=records,
            verification=verification,
            log=office.rows(folder / office.EXECUTION),
            book=office.rows(folder / office.BOOK),
            sent=office.rows(folder / office.SENT),
        )

    @property
    def takeover(self) -> StoredRecord:
        """The record by which the second process took the session over."""
        return next(entry for entry in self.records if isinstance(entry.record, CoordinationClaim))

    def issued(self) -> dict[tuple[str, str], str]:
        """The idempotency key of each call, by its graph and its id."""
        return {
            (entry.record.graph_id, call.call_id): call.idempotency_key
            for entry in self.records
            if isinstance(entry.record, ToolCalls)
            for call in entry.record.calls
        }

    def results(self, *, after_takeover: bool) -> dict[object, ToolResult]:
        """The results that one of the processes stored, by their calls' keys."""
        takeover, issued = self.takeover.sequence, self.issued()
        return {
            issued.get((entry.record.graph_id, entry.record.call_id)): entry.record
            for entry in self.records
            if isinstance(entry.record, ToolResult)
            and (entry.sequence > takeover) == after_takeover
        }

    def noted(self, pid: int, event: str) -> set[object]:
        """The keys of the calls of which a process noted an event."""
        return {line["key"] for line in self.log if (line["pid"], line["event"]) == (pid, event)}

    def repeated(self, second: int) -> set[object]:
        """Calls that the second process began, although the ledger had their result."""
        return self.noted(second, "began") & self.results(after_takeover=False).keys()

    def cut_off(self, first: int) -> set[object]:
        """Calls that the first process began, and of which the ledger got no result from it."""
        return self.noted(first, "began") - self.results(after_takeover=False).keys()

    def keys_agree(self) -> bool:
        """Whether each call ran under the one key that the ledger gave it, whoever ran it."""
        issued = {key: call_id for (_, call_id), key in self.issued().items()}
        return all(issued.get(str(line["key"])) == line["call_id"] for line in self.log)

    def doubles(self) -> list[object]:
        """Idempotency keys that stand twice in the accounting book or among the letters sent."""
        keys = [entry["key"] for entry in self.book]
        keys += [letter["message_id"] for letter in self.sent]
        return [key for key, times in Counter(keys).items() if times > 1]
