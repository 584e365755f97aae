"""Assertions that hold outside a test framework and under `python -O`."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from rainengine.core.errors import RainEngineError
from rainengine.core.testing._maker import FullLedger, picture


class CheckFailed(AssertionError):
    """A contract check found a promise broken."""


def expect_equal(expected: object, actual: object, what: str) -> None:
    """Raise `CheckFailed` where the two differ."""
    if expected != actual:
        raise CheckFailed(f"{what}:\n  expected {expected!r:.2000}\n  actual   {actual!r:.2000}")


def expect(condition: object, what: str) -> None:
    """Raise `CheckFailed` unless the condition holds."""
    if not condition:
        raise CheckFailed(what)


@asynccontextmanager
async def refusal(
    ledger: FullLedger, session_id: str, error: type[RainEngineError], what: str
) -> AsyncGenerator[None]:
    """Expect exactly this error from the block, and that the session is as it was before."""
    before = await picture(ledger, session_id)
    try:
        yield
    except RainEngineError as raised:
        if type(raised) is not error:
            raise CheckFailed(f"{what}: expected {error.__name__}, got {raised!r}") from raised
    else:
        raise CheckFailed(f"{what}: expected {error.__name__}, but nothing was raised")
    expect_equal(before, await picture(ledger, session_id), f"{what}: the session changed")
