"""A transaction of a session: somebody's effect, and the append that records it.

It is an append like any other, but for two things: its records are known only once the effect has
happened, and a conflict undoes both. So a conflict with intake is taken in and told of, and whoever
began it decides anew.

Where a commit was lost and its fate is unknown, the session is stale. Whoever goes on loads it and
takes its lease before it does anything else, by an append upon the head that it has seen. That
append comes after the lost transaction, whose result is then seen, or before it, and then the new
fence refuses it. So the effect happens once, even if a later transaction asks for no certain head.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rainengine.core.abc import Enclosed
from rainengine.core.engine._session import OpenSession, Outdated
from rainengine.core.errors import (
    FenceLost,
    InadmissibleValue,
    LeaseHeld,
    LedgerUnavailable,
    SequenceConflict,
    TransactionMisused,
    TransactionTimeout,
)
from rainengine.core.records import NewRecord
from rainengine.core.tools import Consequence, RolledBack

_HARMLESS = (
    InadmissibleValue,
    LeaseHeld,
    Outdated,
    RolledBack,
    TransactionMisused,
    TransactionTimeout,
)
"""After these nothing was stored, and what is known of the session still holds."""


async def transact(
    session: OpenSession,
    work: Callable[[Any], Consequence],
    timeout_s: float,
    *,
    at_any_head: bool,
) -> bool:
    """Commit what `work` does together with the records that it returns, and fold these.

    False: intake came in between and was taken in; nothing else has happened. A holder of the
    session's lease may have it stored `at_any_head`, as intake can come without end.
    Raises what `Transactions.transact` does, and `Outdated`.
    """
    session.appending = True
    try:
        return await _transact(session, work, timeout_s, at_any_head=at_any_head)
    except _HARMLESS:
        raise
    except BaseException:
        session.stale = True
        raise
    finally:
        session.appending = False


async def _transact(
    session: OpenSession,
    work: Callable[[Any], Consequence],
    timeout_s: float,
    *,
    at_any_head: bool,
) -> bool:
    transactions, tenure = session.backing.transactions, session.tenure
    if transactions is None:
        raise LedgerUnavailable(f"{session.backing.ledger!r} has no transactions")
    lease, now_ms = tenure.change(final=False), tenure.clock.now_ms()
    trigger_id = None if session.projection.run is None else session.projection.run.trigger_id
    new: list[NewRecord] = []

    def enclose(connection: object) -> Enclosed:
        effect = work(connection)
        new[:] = [NewRecord(record, now_ms, trigger_id) for record in effect.records]
        return Enclosed(records=tuple(new), outbox=effect.outbox)

    fenced = lease is not None and tenure.holding
    try:
        appended = await transactions.transact(
            session.session_id,
            enclose,
            expected=None if at_any_head and fenced else session.head,
            fence=tenure.fence,
            lease=lease,
            timeout_s=timeout_s,
        )
    except (SequenceConflict, FenceLost) as error:
        if not tenure.holding:
            raise Outdated from error
        if isinstance(error, FenceLost):
            raise
        await session.take_in_intake(error)
        return False
    await session.catch_up_to(appended.first_sequence)
    tenure.changed(lease, appended.fence, now_ms, ends=False)
    session.fold_in(new, appended)
    return True
