"""Workload C: one session that gets long. A late turn has to cost what an early one does."""

from __future__ import annotations

import statistics
import time
import uuid
from collections import defaultdict
from pathlib import Path
from typing import Any

from measuring import Usage
from stores import Store
from turn import Subject, open_engine

AROUND = 10
"""A mark is measured by the turns from 9 before it to 10 after it."""

WARM_TURNS = 50


async def one_long_session(job: dict[str, Any], store: Store) -> dict[str, Any]:
    """C."""
    place, session_id = Path(job["place"]), uuid.uuid4().hex
    async with open_engine(store, place, job["variant"]) as subject:
        for number in range(WARM_TURNS):
            await subject.turn("warm", number)
        began = time.perf_counter()
        points = {}
        measured_to, measured_bytes = 0, await _stored(store, place)
        for mark in job["marks"]:
            for number in range(measured_to, mark - AROUND):
                await subject.turn(session_id, number)
            points[str(mark)] = await _point(subject, session_id, mark)
            size = await _stored(store, place)
            if size is not None and measured_bytes is not None:
                turns = mark + AROUND - measured_to
                points[str(mark)]["db_bytes_per_turn"] = (size - measured_bytes) / turns
                points[str(mark)]["db_size"] = size
            measured_to, measured_bytes = mark + AROUND, size
        seconds = time.perf_counter() - began
        sizes = await _record_sizes(subject.ledger, session_id)
    for mark in job["marks"]:
        points[str(mark)]["records_per_turn"] = len(sizes[mark - 1])
        points[str(mark)]["record_bytes_per_turn"] = sum(sizes[mark - 1])
    return {"n": measured_to, "total_s": seconds, "points": points, **_growth(points, job["marks"])}


async def _point(subject: Subject, session_id: str, mark: int) -> dict[str, Any]:
    """Measure the turns around a mark."""
    turns = range(mark - AROUND, mark + AROUND)
    counted, used = subject.counts(), Usage.now()
    latencies: list[float] = []
    for number in turns:
        began = time.perf_counter()
        await subject.turn(session_id, number)
        latencies.append(time.perf_counter() - began)
    after, counts = Usage.now(), subject.counts()
    return {
        "ms_per_turn": 1000 * statistics.median(latencies),
        "cpu_ms_per_turn": 1000 * (after.cpu_s - used.cpu_s) / len(turns),
        "bytes_written_per_turn": (after.written_bytes - used.written_bytes) / len(turns),
        "commits_per_turn": (counts["commits"] - counted["commits"]) / len(turns),
        "appends_per_turn": (counts["appends"] - counted["appends"]) / len(turns),
    }


def _growth(points: dict[str, dict[str, Any]], marks: list[int]) -> dict[str, Any]:
    first, last = points[str(marks[0])], points[str(marks[-1])]
    return {
        "growth": last["ms_per_turn"] / first["ms_per_turn"],
        "cpu_growth": last["cpu_ms_per_turn"] / first["cpu_ms_per_turn"],
        "record_bytes_per_turn": last["record_bytes_per_turn"],
        "record_bytes_growth": last["record_bytes_per_turn"] / first["record_bytes_per_turn"],
        "db_bytes_per_turn": last.get("db_bytes_per_turn"),
    }


async def _stored(store: Store, place: Path) -> int | None:
    return None if store.stored_bytes is None else await store.stored_bytes(place)


async def _record_sizes(ledger: Any, session_id: str) -> list[list[int]]:
    """The bytes of each record, turn by turn: what is hashed, and the hash."""
    turns: defaultdict[str, list[int]] = defaultdict(list)
    after = 0
    while page := await ledger.read_encoded(session_id, after=after):
        for entry in page:
            texts = (entry.kind, entry.payload, entry.trigger_id, entry.idempotency_key)
            size = sum(len(text.encode()) for text in texts if text is not None)
            turns[entry.trigger_id].append(size + len(entry.hash) + 8 + 8 + 4)
        after = page[-1].sequence
    return list(turns.values())
