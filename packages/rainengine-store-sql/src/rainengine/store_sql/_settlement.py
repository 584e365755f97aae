"""What became of a batch whose COMMIT failed without an answer.

Reading the heads is no way to find out: a statement that was lost on the network may still
commit after they were read, and frames of a failed SQLite commit may come back after a crash
until others are written over them.
So each append is sent again, alone, with the head that it was judged by:
either it is stored now, or it is refused, and then the session has moved past that head,
so the lost commit can no longer take effect, and what stands there says whether it has.
"""

from __future__ import annotations

from collections.abc import Callable

import attrs

from rainengine.core.errors import AppendUnknown, LedgerError
from rainengine.core.records import Head
from rainengine.store_sql._dialect import CommitUnknown
from rainengine.store_sql._drafts import Draft
from rainengine.store_sql._judgement import Change, Verdict
from rainengine.store_sql._rows import SessionRow


def settle(
    draft: Draft,
    lost: Change,
    *,
    send: Callable[[Draft], Verdict],
    stored: Callable[[Change], bool],
    wait: Callable[[Exception], bool],
) -> Verdict:
    """Return what became of `draft`, which was accepted as `lost`.

    `send` commits one draft by itself and may raise; `stored` looks whether the session
    holds what this change was to make of it. After an error, `wait` says whether to go on.
    Where it does not, as on a database that is gone, the answer is `AppendUnknown`.
    """
    while True:
        try:
            return _sent_again(draft, lost, send, stored)
        except Exception as error:  # noqa: BLE001 - whatever it is, the fate stays unknown
            lost = _newest(lost, error)
            if not wait(error):
                return _unknown(error)


def _sent_again(
    draft: Draft,
    lost: Change,
    send: Callable[[Draft], Verdict],
    stored: Callable[[Change], bool],
) -> Verdict:
    again = send(_pinned(draft, lost.before))
    if not isinstance(again, LedgerError):
        return again
    if stored(lost):
        return lost
    return send(draft) if draft.expected is None else again


def _newest(lost: Change, error: Exception) -> Change:
    """The commit to ask about next: one that was lost in turn is the only one still open."""
    if isinstance(error, CommitUnknown):
        (verdict,) = error.verdicts
        if isinstance(verdict, Change):
            return verdict
    return lost


def _pinned(draft: Draft, before: SessionRow) -> Draft:
    return attrs.evolve(draft, expected=Head(before.head, before.hash), rows=())


def _unknown(error: Exception) -> AppendUnknown:
    unknown = AppendUnknown(
        "the commit failed without saying whether it took effect, and sending the append again"
        f" did not tell ({error}): load the session again once the storage is back"
    )
    unknown.__cause__ = error
    return unknown
