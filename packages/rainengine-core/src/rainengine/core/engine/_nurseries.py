"""Nurseries whose exceptions come out as themselves."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import cast

import trio


async def in_nursery(work: Callable[[trio.Nursery], Awaitable[None]]) -> None:
    """Do work that has tasks of its own; raise the one exception that matters, in no group.

    An interpreter's exit goes before an error, and an error before a cancellation.
    """
    try:
        async with trio.open_nursery() as nursery:
            await work(nursery)
    except BaseExceptionGroup as group:
        raise _first(group) from group


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    for matters in (_is_exit, _is_error):
        found = group.subgroup(matters)
        if found is not None:
            return _leaf(found)
    return _leaf(group)


def _is_exit(error: BaseException) -> bool:
    return not isinstance(error, Exception | BaseExceptionGroup | trio.Cancelled)


def _is_error(error: BaseException) -> bool:
    return isinstance(error, Exception) and not isinstance(error, BaseExceptionGroup)


def _leaf(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = cast(BaseException, error.exceptions[0])
    return error
