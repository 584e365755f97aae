"""A process that measures one thing: takes a job as JSON, prints its result as a JSON line."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any


def measure(job: dict[str, Any]) -> dict[str, Any]:
    """Do the job. Only what it needs is imported, so that it is not measured along."""
    if job["workload"] == "D":
        from crash import crashes

        return crashes(job)
    from stores import find_store

    store = find_store(job["backend"])
    if job["workload"] == "E":
        from footprint import footprint

        return footprint(job, store)
    import trio

    return trio.run(_workload(job["workload"]), job, store)


def _workload(name: str) -> Any:
    import growth
    import loading
    import throughput

    return {
        "A": throughput.one_at_a_time,
        "B": throughput.many_at_once,
        "C": growth.one_long_session,
        "L": loading.cold_loads,
    }[name]


def with_references(job: dict[str, Any]) -> dict[str, Any]:
    """Measure the machine before and after, so that its moods can be told from ours."""
    from measuring import cpu_reference_s, fsyncs_per_s

    place = Path(job["place"])
    machine = {"fsync_per_s_before": fsyncs_per_s(place), "cpu_ref_s": cpu_reference_s()}
    result = measure(job)
    return machine | result | {"fsync_per_s_after": fsyncs_per_s(place)}


if __name__ == "__main__":
    the_job = json.loads(sys.argv[1])
    outcome = measure(the_job) if the_job["workload"] == "E" else with_references(the_job)
    print(json.dumps(outcome), flush=True)
