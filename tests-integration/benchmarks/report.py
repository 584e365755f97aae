"""The tables that are printed, as Markdown."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator, Sequence
from datetime import datetime

from plan import WORKLOADS
from results import Key, Results, Spread
from targets import judged

_COLUMNS = {
    "A": {
        "turns_per_s": "turns/s",
        "vs_floor": "of the floor",
        "p50_ms": "p50 ms",
        "p99_ms": "p99 ms",
        "cpu_ms_per_turn": "CPU ms a turn",
        "commits_per_turn": "commits a turn",
        "db_bytes_per_turn": "bytes kept a turn",
    },
    "B": {
        "turns_per_s": "turns/s",
        "vs_floor": "of the floor",
        "p50_ms": "p50 ms",
        "p99_ms": "p99 ms",
        "cpu_ms_per_turn": "CPU ms a turn",
        "commits_per_turn": "commits a turn",
        "peak_rss_mb": "peak RSS MB",
        "loop_gap_ms": "longest loop gap ms",
    },
    "D": {
        "recover_ms": "restart to completed, ms",
        "cold_turn_ms": "cold turn without a crash, ms",
        "import_ms": "of it imports",
        "open_ms": "of it opening",
        "finished_tools_repeated": "finished tools repeated",
        "model_1_repeated": "first model call repeated",
    },
    "E": {
        "import_ms": "import ms",
        "baseline_ms": "baseline ms",
        "vs_baseline": "to baseline",
        "modules": "modules",
        "import_rss_mb": "RSS MB",
        "site_packages_mb": "installed MB",
        "distributions": "distributions",
    },
    "L": {
        "records": "records",
        "snapshot_ms": "from a snapshot, ms",
        "replay_ms": "by full replay, ms",
    },
}
_POINT_ROWS = {
    "ms_per_turn": "ms a turn",
    "cpu_ms_per_turn": "CPU ms a turn",
    "records_per_turn": "records a turn",
    "record_bytes_per_turn": "bytes of records a turn",
    "db_bytes_per_turn": "bytes of database a turn, since the mark before",
}


def report(results: Results, workloads: Sequence[str], marks: Sequence[int]) -> Iterator[str]:
    """Yield the lines of the whole report."""
    yield from _machine(results)
    for workload in workloads:
        keys = results.keys(workload)
        if keys:
            yield f"\n## {workload}: {WORKLOADS[workload]}\n"
            yield from _growth(results, keys, marks) if workload == "C" else _rows(results, keys)
    yield from _targets(results)


def _machine(results: Results) -> Iterator[str]:
    now = datetime.now().astimezone()
    yield f"# RainEngine benchmarks, {now:%Y-%m-%d %H:%M}\n"
    yield f"{os.cpu_count()} cores, Python {platform.python_version()}, {platform.system()}."
    yield "Medians of all processes, with the smallest and the largest in brackets."
    for name, title in (
        ("fsync_per_s_before", "4 KiB appends with fdatasync, a second"),
        ("cpu_ref_s", "a fixed Python loop, seconds"),
    ):
        spread = results.machine(name)
        if spread is not None:
            yield f"- {title}: {_cell(spread)}"


def _rows(results: Results, keys: list[Key]) -> Iterator[str]:
    columns = _COLUMNS[keys[0][0]]
    yield from _header(["store", "what", *columns.values()])
    for key in keys:
        _, backend, peer, variant = key
        figures = [_cell(results.figure(key, name)) for name in columns]
        yield _row([backend, f"{peer} {variant}", *figures])


def _growth(results: Results, keys: list[Key], marks: Sequence[int]) -> Iterator[str]:
    yield from _header(["store", "figure", *(f"turn {mark}" for mark in marks)])
    for key in keys:
        for name, title in _POINT_ROWS.items():
            figures = [results.figure(key, f"points.{mark}.{name}") for mark in marks]
            if any(figures):
                yield _row([key[1], title, *map(_cell, figures)])


def _targets(results: Results) -> Iterator[str]:
    yield "\n## Targets\n"
    yield from _header(["target", "store", "measured", "wanted", ""])
    for target, backend, spread in judged(results):
        verdict = "met" if target.met(spread) else "NOT MET"
        yield _row([target.title, backend, _cell(spread), target.wanted, verdict])


def _header(titles: Sequence[str]) -> Iterator[str]:
    yield _row(titles)
    yield "|" + "---|" * len(titles)


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(spread: Spread | None) -> str:
    if spread is None:
        return ""
    if spread.low == spread.high:
        return _number(spread.median)
    return f"{_number(spread.median)} ({_number(spread.low)}..{_number(spread.high)})"


def _number(value: float) -> str:
    if abs(value) >= 100:
        return f"{value:.0f}"
    return f"{value:.3g}"
