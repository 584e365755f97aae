"""The admission rule for what workers ask of a store: the same on all of them."""

from __future__ import annotations

from collections.abc import Sequence
from operator import attrgetter
from typing import get_args

import attrs

from rainengine.core.abc import OutboxEntry, OutboxReport, WorkKind
from rainengine.core.codec import _admission as admission
from rainengine.core.codec._appends import MAX_TTL_MS
from rainengine.core.errors import InadmissibleValue

MAX_ERROR_CHARACTERS = 2000
"""Of the text that says why a row was not delivered."""

_KINDS = frozenset(get_args(WorkKind))
_OUTCOMES = frozenset(["delivered", "failed", "dead", "returned"])
_POSITION = attrgetter("entry.tenant", "entry.session_id", "entry.sequence", "entry.ordinal")


def check_kind(kind: str) -> None:
    """Raise `InadmissibleValue` where this is no kind of work."""
    if kind not in _KINDS:
        raise InadmissibleValue("kind", f"{kind!r} is none of {sorted(_KINDS)}")


def check_claim(tenant: str, session_id: str, claim_ms: int) -> None:
    """Raise `InadmissibleValue` for what no store can be asked."""
    admission.check_identifier("tenant", tenant)
    admission.check_identifier("session_id", session_id)
    admission.check_integer("claim_ms", claim_ms, 1, MAX_TTL_MS)


def check_entry(entry: OutboxEntry) -> None:
    """Raise `InadmissibleValue` for an entry that no store can have given out."""
    admission.check_identifier("entry.tenant", entry.tenant)
    admission.check_identifier("entry.session_id", entry.session_id)
    for name in ("sequence", "ordinal", "claim"):
        admission.check_integer(f"entry.{name}", getattr(entry, name), 0, 2**63 - 1)


def admit_reports(reports: Sequence[OutboxReport]) -> list[OutboxReport]:
    """Return the reports in the order of their rows, with errors that can be stored.

    Raises `InadmissibleValue`, also for reports on rows of several sessions.
    """
    for report in reports:
        check_entry(report.entry)
        admission.check_integer("retry_in_ms", report.retry_in_ms, 0, MAX_TTL_MS)
        if report.outcome not in _OUTCOMES:
            raise InadmissibleValue("outcome", f"{report.outcome!r} is none of {sorted(_OUTCOMES)}")
    if len({(report.entry.tenant, report.entry.session_id) for report in reports}) > 1:
        raise InadmissibleValue("reports", "they are on rows of several sessions")
    return [_told(report) for report in sorted(reports, key=_POSITION)]


def _told(report: OutboxReport) -> OutboxReport:
    if report.error is None:
        return report
    error = admission.clean_text(report.error)[:MAX_ERROR_CHARACTERS]
    return attrs.evolve(report, error=error)
