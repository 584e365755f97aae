"""Checks of which error is raised where several apply, as `Ledger.append` orders them."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import combinations
from typing import TypedDict

from rainengine.core.abc import LeaseChange
from rainengine.core.errors import (
    DuplicateTrigger,
    FenceLost,
    InadmissibleValue,
    LeaseHeld,
    RainEngineError,
    SequenceConflict,
)
from rainengine.core.records import Head, NewRecord
from rainengine.core.testing._expect import refusal
from rainengine.core.testing._maker import FullLedger, LedgerMaker, one_ledger
from rainengine.core.testing._samples import OTHER_HEAD, note, trigger

HOUR_MS = 3_600_000

PRECEDENCE: tuple[type[RainEngineError], ...] = (
    InadmissibleValue,
    DuplicateTrigger,
    FenceLost,
    LeaseHeld,
    SequenceConflict,
)


class _Append(TypedDict, total=False):
    records: list[NewRecord]
    expected: Head | None
    fence: int
    lease: LeaseChange


async def check_the_first_of_two_errors_is_raised(maker: LedgerMaker) -> None:
    """Of any two errors that apply, the one that stands first in `Ledger.append` is raised."""
    async with one_ledger(maker) as ledger:
        await _hold(ledger)
        for pair in combinations(PRECEDENCE, 2):
            names = " and ".join(error.__name__ for error in pair)
            async with refusal(ledger, "s", pair[0], names):
                await ledger.append("s", **_wrong_in(pair))


async def check_the_first_of_all_errors_is_raised(maker: LedgerMaker) -> None:
    """An append that is wrong in every way raises the errors one by one as it is put right."""
    async with one_ledger(maker) as ledger:
        await _hold(ledger)
        for first in range(len(PRECEDENCE)):
            wrongs = PRECEDENCE[first:]
            async with refusal(ledger, "s", wrongs[0], f"{len(wrongs)} errors at once"):
                await ledger.append("s", **_wrong_in(wrongs))


async def check_unfenced_work_beside_a_holder_comes_before_conflicts(maker: LedgerMaker) -> None:
    """Records other than intake, unfenced beside a holder: `DuplicateTrigger`, `LeaseHeld`."""
    async with one_ledger(maker) as ledger:
        await _hold(ledger)
        async with refusal(ledger, "s", LeaseHeld, "unfenced with a wrong head"):
            await ledger.append("s", [note()], expected=OTHER_HEAD)
        async with refusal(ledger, "s", DuplicateTrigger, "unfenced with a used key"):
            await ledger.append("s", [trigger("key"), note()], expected=OTHER_HEAD)
        async with refusal(ledger, "s", InadmissibleValue, "unfenced with a NUL"):
            await ledger.append("s", [note("\0"), trigger("key")], expected=None)


async def _hold(ledger: FullLedger) -> None:
    """Let `holder` hold the session under fence 2, with a trigger of key `key` in it."""
    take = LeaseChange("take", "holder", HOUR_MS)
    for records in ([trigger("key")], [note()]):
        await ledger.append("s", records, expected=None, lease=take)


def _wrong_in(errors: Iterable[type[RainEngineError]]) -> _Append:
    append: _Append = {"records": [note()], "expected": None}
    if FenceLost not in errors and LeaseHeld not in errors:
        append["fence"] = 2
    for error in errors:
        if error is InadmissibleValue:
            append["records"] = [note("\0"), *append["records"]]
        elif error is DuplicateTrigger:
            append["records"] = [*append["records"], trigger("key")]
        elif error is FenceLost:
            append["fence"] = 1
        elif error is LeaseHeld:
            append["lease"] = LeaseChange("take", "somebody else", HOUR_MS)
        else:
            append["expected"] = OTHER_HEAD
    return append


CHECKS = (
    check_the_first_of_two_errors_is_raised,
    check_the_first_of_all_errors_is_raised,
    check_unfenced_work_beside_a_holder_comes_before_conflicts,
)
