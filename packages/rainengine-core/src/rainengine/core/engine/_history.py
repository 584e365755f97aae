"""What of a session's records is known in this process, and how it is brought up to date."""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from rainengine.core.abc import INTAKE_KINDS
from rainengine.core.engine._ledgers import Backing
from rainengine.core.engine._tenure import Tenure
from rainengine.core.errors import LedgerCorrupt, SequenceConflict
from rainengine.core.projection import SessionProjection, fold
from rainengine.core.records import Head, StoredRecord

_PAGE = 1000


@attrs.define(kw_only=True, eq=False)
class History:
    """A session's records up to `head`, as their projection.

    `stale` says that they are to be loaded again.
    """

    backing: Backing
    session_id: str
    tenure: Tenure
    head: Head
    projection: SessionProjection = attrs.field(factory=SessionProjection)
    stale: bool = False

    async def refresh(self) -> bool:
        """Take in what others appended, and learn who holds the session.

        False means that the ledger holds another history than the one known here
        (it was erased, or restored): the session has to be loaded from its start.
        """
        if await self.tenure.look() == self.head:
            return True
        if not await self._read_tail():
            return False
        await self._check_head()
        return True

    async def _check_head(self) -> None:
        """Raise `LedgerCorrupt` where the session's row and its records cannot both be right.

        A head is stored together with its records: those behind it must be there, and it must
        not be behind those that are. Without this, whoever appends would be refused for ever.
        """
        lease = self.tenure.lease
        head = None if lease is None else lease.head
        if head is not None and head.sequence < self.head.sequence:
            head = await self.tenure.look()  # others may have appended in between
        if head is None or head == self.head:
            return
        if head.sequence <= self.head.sequence or not await self._more_records():
            raise LedgerCorrupt(
                f"session {self.session_id!r} has its head at {head.sequence} and its last record"
                f" at {self.head.sequence}: verify it, and restore it from a backup or an export"
            )

    async def _more_records(self) -> bool:
        before = self.head.sequence
        await self._take_in_pages(await self._page(before))
        return self.head.sequence > before

    async def _read_tail(self) -> bool:
        known = self.head.sequence
        page = await self._page(max(known - 1, 0))
        if known and (not page or (page[0].sequence, page[0].hash) != (known, self.head.hash)):
            self.stale = True
            return False
        await self._take_in_pages(page, known=1 if known else 0)
        return True

    async def _take_in_pages(self, page: Sequence[StoredRecord], *, known: int = 0) -> None:
        """Take in a page, but for the first records that are `known`, and all pages after it."""
        while True:
            self.take_in(page[known:])
            if len(page) < _PAGE:
                return
            page, known = await self._page(page[-1].sequence), 0

    async def _page(self, after: int) -> Sequence[StoredRecord]:
        return await self.backing.ledger.read(self.session_id, after=after, limit=_PAGE)

    async def read_from(self, after: int) -> list[StoredRecord]:
        """Return the records behind sequence `after`. Raises `LedgerUnavailable`."""
        records: list[StoredRecord] = []
        while True:
            page = await self._page(after)
            records += page
            if len(page) < _PAGE:
                return records
            after = page[-1].sequence

    def take_in(self, records: Sequence[StoredRecord]) -> None:
        """Fold in records. Raises `LedgerCorrupt` where one does not fit those before it."""
        for record in records:
            try:
                fold(self.projection, record.sequence, record)
            except (LookupError, ValueError, TypeError, AttributeError) as error:
                self.stale = True
                raise LedgerCorrupt(
                    f"record {record.sequence} of session {self.session_id!r} does not fit those"
                    " before it: verify the session, and restore it from a backup or an export"
                ) from error
        if records:
            self.head = Head(records[-1].sequence, records[-1].hash)

    async def take_in_intake(self, conflict: SequenceConflict) -> None:
        """Take in what came before an append that was refused; raise where it is no intake."""
        tail = await self.read_from(self.head.sequence)
        if not tail or not all(stored.kind in INTAKE_KINDS for stored in tail):
            raise conflict
        self.take_in(tail)
