"""Workload D: SIGKILL inside the second tool, its siblings finished; then another process.

Each phase is a process of its own, and this module imports nothing that a phase does not need.
"""

from __future__ import annotations

import json
import os
import signal
import statistics
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

SESSION = "crashed"
FINISHED = ("tool_a", "tool_c")


def crashes(job: dict[str, Any]) -> dict[str, Any]:
    """D."""
    runs = [_crash(job, Path(job["place"]) / str(number)) for number in range(job["n"])]

    def median(name: str) -> float:
        return statistics.median(run[name] for run in runs)

    return {
        "n": job["n"],
        "recover_ms": median("recover_ms"),
        "recover_ms_all": [run["recover_ms"] for run in runs],
        "cold_turn_ms": median("cold_turn_ms"),
        "import_ms": median("import_ms"),
        "open_ms": median("open_ms"),
        "finished_tools_repeated": max(_repeated(run["calls"], *FINISHED) for run in runs),
        "model_1_repeated": max(_repeated(run["calls"], "model_1") for run in runs),
        "calls": runs[-1]["calls"],
    }


def _repeated(calls: dict[str, int], *names: str) -> int:
    return sum(max(calls.get(name, 0) - 1, 0) for name in names)


def _crash(job: dict[str, Any], place: Path) -> dict[str, Any]:
    place.mkdir()
    trace = place / "trace"
    job = job | {"place": str(place)}
    _phase(job | {"phase": "open"})  # whatever is done once for a new database
    cold, _ = _phase(job | {"phase": "turn", "session": "another"})
    job |= {"session": SESSION, "trace": str(trace)}
    _phase(job | {"phase": "turn", "kill": True})
    before = Counter(trace.read_text().split())
    if any(before[name] != 1 for name in (*FINISHED, "tool_b")):
        raise AssertionError(f"before the crash there were other calls: {before}")
    recovery_ms, report = _phase(job | {"phase": "resume"})
    calls = dict(sorted(Counter(trace.read_text().split()).items()))
    return {"cold_turn_ms": cold, "recover_ms": recovery_ms, "calls": calls, **report}


def _phase(job: dict[str, Any]) -> tuple[float, dict[str, Any]]:
    """Run a process; return the ms from its start to its turn's end, and what it reports."""
    command = [sys.executable, __file__, json.dumps(job)]
    began = time.time()
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    if done.returncode != (-signal.SIGKILL if job.get("kill") else 0):
        raise RuntimeError(f"{job} ended with {done.returncode}: {done.stderr[-2000:]}")
    report = {} if job.get("kill") else json.loads(done.stdout)
    return 1000 * (report.pop("done_at", began) - began), report


async def _take_part(job: dict[str, Any], began: float) -> None:
    from stores import find_store
    from turn import Trace, make_engine, resume, run_turn

    imported = time.perf_counter()
    path = Path(job["trace"]) if "trace" in job else None
    trace = Trace(path, job.get("kill", False))
    async with find_store(job["backend"]).open_ledger(Path(job["place"])) as ledger:
        opened = time.perf_counter()
        engine, _ = make_engine(ledger, "idempotent", trace)
        if job["phase"] == "turn":
            await run_turn(engine, job["session"], 0)
        elif job["phase"] == "resume":
            await resume(engine, job["session"])
        report = {
            "done_at": time.time(),
            "import_ms": 1000 * (imported - began),
            "open_ms": 1000 * (opened - imported),
        }
    print(json.dumps(report), flush=True)


if __name__ == "__main__":
    beginning = time.perf_counter()
    import trio

    trio.run(_take_part, json.loads(sys.argv[1]), beginning)
    os._exit(0)
