"""Workloads A and B: turns on new sessions, one after the other or many at once."""

from __future__ import annotations

import gc
import statistics
import time
import uuid
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import trio
from measuring import LoopGap, Usage, peak_rss_mb, percentile
from stores import Store
from turn import Subject, open_engine

WARM_TURNS = 20


def open_subject(job: dict[str, Any], store: Store) -> AbstractAsyncContextManager[Subject]:
    """Open what the job measures: the engine, or the floor."""
    place = Path(job["place"])
    if job["peer"] == "floor":
        from floor import open_floor

        return open_floor(store, place)
    return open_engine(store, place, job["variant"])


async def one_at_a_time(job: dict[str, Any], store: Store) -> dict[str, Any]:
    """A."""
    async with open_subject(job, store) as subject:
        for _ in range(WARM_TURNS):
            await subject.turn(f"warm-{uuid.uuid4().hex}", 0)
        return await _measure(job, store, subject, 1)


async def many_at_once(job: dict[str, Any], store: Store) -> dict[str, Any]:
    """B."""
    rss_before_mb = peak_rss_mb()
    workers = job["concurrency"]
    gap = LoopGap()
    async with open_subject(job, store) as subject:
        await _drive(subject, workers, workers)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(gap.watch)
            figures = await _measure(job, store, subject, workers)
            nursery.cancel_scope.cancel()
    return {
        "concurrency": workers,
        **figures,
        "loop_gap_ms": gap.longest_ms,
        "rss_before_mb": rss_before_mb,
        "peak_rss_mb": peak_rss_mb(),
    }


async def _measure(
    job: dict[str, Any], store: Store, subject: Subject, workers: int
) -> dict[str, Any]:
    turns = job["n"]
    gc.collect()
    counted, stored, used = subject.counts(), await _stored(job, store), Usage.now()
    latencies = await _drive(subject, turns, workers)
    after = Usage.now()
    figures = {
        "n": turns,
        "turns_per_s": turns / (after.at_s - used.at_s),
        "p50_ms": 1000 * statistics.median(latencies),
        "p95_ms": 1000 * percentile(latencies, 0.95),
        "p99_ms": 1000 * percentile(latencies, 0.99),
        "cpu_ms_per_turn": 1000 * (after.cpu_s - used.cpu_s) / turns,
        "bytes_written_per_turn": (after.written_bytes - used.written_bytes) / turns,
    }
    for name, count in subject.counts().items():
        figures[f"{name}_per_turn"] = (count - counted[name]) / turns
    if stored is not None:
        figures["db_bytes_per_turn"] = ((await _stored(job, store) or 0) - stored) / turns
    return figures


async def _stored(job: dict[str, Any], store: Store) -> int | None:
    if store.stored_bytes is None or job["peer"] == "floor":
        return None
    return await store.stored_bytes(Path(job["place"]))


async def _drive(subject: Subject, turns: int, workers: int) -> list[float]:
    """Take turns on new sessions, so many at once; return how long each took, in seconds."""
    latencies: list[float] = []
    remaining = iter(range(turns))

    async def work() -> None:
        for _ in remaining:
            began = time.perf_counter()
            await subject.turn(uuid.uuid4().hex, 0)
            latencies.append(time.perf_counter() - began)

    if workers == 1:
        await work()
        return latencies
    async with trio.open_nursery() as nursery:
        for _ in range(workers):
            nursery.start_soon(work)
    return latencies
