"""Workload L: a long session is opened by an engine that does not know it yet."""

from __future__ import annotations

import statistics
import time
from pathlib import Path
from typing import Any

from stores import Store
from turn import Trace, make_engine, open_engine

from rainengine.core import ContinueRequest

SESSION = "long"


class WithoutSnapshots:
    """A ledger that can do no more than it has to, and hold leases."""

    def __init__(self, ledger: Any) -> None:
        self.tenant = ledger.tenant
        names = "append read head list_sessions find_outcome lease_of heartbeat release"
        for name in names.split():
            setattr(self, name, getattr(ledger, name))


async def cold_loads(job: dict[str, Any], store: Store) -> dict[str, Any]:
    """L."""
    place = Path(job["place"])
    async with open_engine(store, place) as subject:
        turns = 0
        while (await subject.ledger.head(SESSION)).sequence < job["records"]:
            await subject.turn(SESSION, turns)
            turns += 1
        if not store.durable:
            return await _loads(job, subject.ledger)
    async with store.open_ledger(place) as ledger:
        return await _loads(job, ledger)


async def _loads(job: dict[str, Any], ledger: Any) -> dict[str, Any]:
    figures = {"n": job["n"], "records": (await ledger.head(SESSION)).sequence}
    for name, view in (("replay", WithoutSnapshots(ledger)), ("snapshot", ledger)):
        times = [await _load_ms(view) for _ in range(job["n"])]
        figures |= {f"{name}_ms": statistics.median(times), f"{name}_first_ms": times[0]}
    return figures


async def _load_ms(ledger: Any) -> float:
    engine, _ = make_engine(ledger, "idempotent", Trace())
    began = time.perf_counter()
    result = await engine.advance(ContinueRequest(session_id=SESSION))
    elapsed = time.perf_counter() - began
    if not result.idle:
        raise AssertionError(f"there was something left to do: {result}")
    return 1000 * elapsed
