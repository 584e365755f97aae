"""Bringing a session into memory."""

from __future__ import annotations

from rainengine.core import codec
from rainengine.core.abc import Clock
from rainengine.core.engine._ledgers import Backing
from rainengine.core.engine._session import OpenSession
from rainengine.core.engine._tenure import Holder, Tenure
from rainengine.core.errors import LedgerCorrupt
from rainengine.core.projection import PROJECTION_VERSION
from rainengine.core.records import Head


async def load(backing: Backing, session_id: str, holder: Holder, clock: Clock) -> OpenSession:
    """Load a session from its newest snapshot and the records after it."""
    session = _blank(backing, session_id, holder, clock)
    await _take_snapshot(session)
    if await session.refresh():
        return session
    session = _blank(backing, session_id, holder, clock)
    await session.refresh()
    return session


def take_for_new(backing: Backing, session_id: str, holder: Holder, clock: Clock) -> OpenSession:
    """Take a session for a new one without reading: its first append finds out.

    Good for triggers, which mostly come to new sessions or to those in memory.
    """
    session = _blank(backing, session_id, holder, clock)
    session.assumed_new = True
    return session


def _blank(backing: Backing, session_id: str, holder: Holder, clock: Clock) -> OpenSession:
    return OpenSession(
        backing=backing,
        session_id=session_id,
        tenure=Tenure(session_id=session_id, holder=holder, leases=backing.leases, clock=clock),
        head=Head(0, codec.genesis_hash(backing.ledger.tenant, session_id)),
    )


async def _take_snapshot(session: OpenSession) -> None:
    snapshots = session.backing.snapshots
    if snapshots is None:
        return
    try:
        snapshot = await snapshots.load_snapshot(session.session_id, PROJECTION_VERSION)
        if snapshot is None:
            return
        session.projection = codec.restore_projection(snapshot)
    except LedgerCorrupt:
        return  # a snapshot is disposable; the records are the truth
    session.head = Head(snapshot.sequence, snapshot.hash)
    session.snapshot_sequence = snapshot.sequence
