"""What the engine is to reach. A target that is missed is reported; it fails nothing."""

from __future__ import annotations

from collections.abc import Iterator
from operator import ge, le

import attrs
from results import Results, Spread


@attrs.frozen
class Target:
    """A bound on the median of a figure. `at_least` says on which side of it is good."""

    workload: str
    figure: str
    title: str
    bound: float
    at_least: bool = False
    backends: tuple[str, ...] | None = None

    def met(self, spread: Spread) -> bool:
        return (ge if self.at_least else le)(spread.median, self.bound)

    @property
    def wanted(self) -> str:
        return f"{'≥' if self.at_least else '≤'} {self.bound:g}"


_SQLITE, _POSTGRES = ("sqlite",), ("postgres",)

TARGETS = (
    Target("A", "vs_floor", "A: turns/s against the floor", 0.5, at_least=True),
    Target("A", "commits_per_turn", "A: commits a turn", 4),
    Target("A", "provider_calls_per_turn", "A: provider calls a turn", 2),
    Target("B", "vs_floor", "B: turns/s against the floor", 0.3, at_least=True, backends=_SQLITE),
    Target(
        "B", "vs_floor", "B: turns/s against the floor", 0.35, at_least=True, backends=_POSTGRES
    ),
    Target("B", "cpu_ms_per_turn", "B: CPU ms a turn", 0.7, backends=_SQLITE),
    Target("B", "peak_rss_mb", "B: peak RSS, MB", 100),
    Target("B", "loop_gap_ms", "B: longest gap in the event loop, ms", 50),
    Target("C", "growth", "C: last mark's ms against the first's", 1.1),
    Target("C", "record_bytes_growth", "C: last mark's record bytes against the first's", 1.1),
    Target("C", "record_bytes_per_turn", "C: bytes of records a turn", 10_240),
    Target("C", "db_bytes_per_turn", "C: bytes of database a turn", 10_240),
    Target("D", "recover_ms", "D: process start to turn completed, ms", 800),
    Target("D", "finished_tools_repeated", "D: finished tools repeated", 0),
    Target("E", "vs_baseline", "E: import against its baseline's", 1.3),
    Target("L", "snapshot_ms", "L: cold load from a snapshot, ms", 10),
    Target("L", "replay_ms", "L: cold load by full replay, ms", 60),
)


def judged(results: Results) -> Iterator[tuple[Target, str, Spread]]:
    """Yield each target with the backend and what was measured there."""
    for target in TARGETS:
        for key in results.keys(target.workload):
            _, backend, peer, variant = key
            if peer == "floor" or variant == "pure":
                continue
            spread = results.figure(key, target.figure)
            if spread is not None and (target.backends is None or backend in target.backends):
                yield target, backend, spread
