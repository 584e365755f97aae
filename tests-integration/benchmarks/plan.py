"""Which processes a benchmark runs, and in which order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import attrs
from stores import Store

WORKLOADS = {
    "A": "one session at a time, a new one each turn",
    "B": "64 sessions in flight in one process, a new one each turn",
    "C": "one session that gets long",
    "D": "SIGKILL inside the second tool, its siblings finished; then a new process",
    "E": "import and installation",
    "L": "cold load of a long session",
}


@attrs.frozen(kw_only=True)
class Size:
    """How much is measured: processes a workload, and what each of them does."""

    repeats: int
    turns_a: int
    turns_b: int
    turns_b_floor: int
    marks: tuple[int, ...]
    crashes: int
    imports: int
    records: int
    loads: int


FULL = Size(
    repeats=5,
    turns_a=300,
    turns_b=2000,
    turns_b_floor=4000,
    marks=(10, 100, 500, 1000, 2000),
    crashes=5,
    imports=9,
    records=10_000,
    loads=9,
)
QUICK = Size(
    repeats=1,
    turns_a=10,
    turns_b=64,
    turns_b_floor=64,
    marks=(10, 60),
    crashes=1,
    imports=1,
    records=320,
    loads=1,
)
_PROCESSES = {"C": 3, "D": 1, "E": 1, "L": 3}
"""At most so many; D and E start processes of their own, again and again."""


def jobs(workloads: Sequence[str], stores: Sequence[Store], size: Size) -> Iterator[dict[str, Any]]:
    """Yield the jobs; what is compared takes turns, so that a slow minute slows down both."""
    for workload in workloads:
        for store in stores:
            if workload == "D" and not store.durable:
                continue
            for _ in range(min(size.repeats, _PROCESSES.get(workload, size.repeats))):
                yield from _round(workload, store, size)


def _round(workload: str, store: Store, size: Size) -> Iterator[dict[str, Any]]:
    job: dict[str, Any] = {
        "peer": "rainengine",
        "variant": "idempotent",
        "backend": store.name,
        "workload": workload,
    }
    if workload == "A":
        yield from _floor(job | {"n": size.turns_a}, store)
        yield job | {"n": size.turns_a}
        yield job | {"n": size.turns_a, "variant": "pure"}
    elif workload == "B":
        yield from _floor(job | {"n": size.turns_b_floor, "concurrency": 64}, store)
        yield job | {"n": size.turns_b, "concurrency": 64}
    elif workload == "C":
        yield job | {"marks": size.marks}
    elif workload == "L":
        yield job | {"n": size.loads, "records": size.records}
    else:
        yield job | {"n": size.crashes if workload == "D" else size.imports}


def _floor(job: dict[str, Any], store: Store) -> Iterator[dict[str, Any]]:
    if store.open_floor is not None:
        yield job | {"peer": "floor", "variant": "group"}
