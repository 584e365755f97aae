"""Processes are killed where they can die, and nothing of promise is lost.

The sweep itself is a script, because it forks, which only a process without threads may do.
A plain run of these tests takes a slice: every n-th point of some workloads.
`RAINENGINE_SWEEP=full` sweeps every workload, step by step; a workflow does so once a week.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
import pytest

from rainengine.core.testing import (
    TRANSACTIONAL,
    VARIANTS,
    WORKLOADS,
    Workload,
    differential,
)
from rainengine.store_sql import SqlLedgerStore
from rainengine.store_sqlite import open_sqlite_ledger

FULL = os.environ.get("RAINENGINE_SWEEP") == "full"
SCRIPT = Path(__file__).parent / "crash_sweep" / "run.py"
ALL_BUT_A_FEW = 0.95
KINDS = ("step", "statement", "size", "time")


@pytest.fixture(scope="module")
def reports() -> list[dict[str, Any]]:
    """What the script says of each sweep."""
    command = [sys.executable, str(SCRIPT), *(["--full"] if FULL else [])]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    told = [json.loads(line) for line in ended.stdout.splitlines()]
    texts = [text for report in told for text in report["texts"]]
    assert ended.returncode == 0, "\n".join([*texts, ended.stderr])
    return told


@pytest.mark.parametrize("kind", KINDS)
def test_killed_anywhere_it_ends_as_the_twin(reports: list[dict[str, Any]], kind: str) -> None:
    """Killed at scheduler steps, statements, bytes written or times, every run ends as its twin.

    The slice takes every n-th step and statement of four workloads, the full sweep each one of
    all workloads; sizes and times are samples in both.
    Nothing acknowledged is lost, nothing finished is done again, keyed effects happen once,
    and unsafe ones at most once, with an unknown outcome where it is not known.
    """
    swept = [report for report in reports if report["kind"] == kind]
    for report in swept:
        assert (report["lost"], report["repeated"], report["failed"]) == (0, 0, 0), report
        assert report["kills"] > 0


def test_the_kills_hit_tools(reports: list[dict[str, Any]]) -> None:
    """The sweep does interrupt calls, and leaves some of them in doubt."""
    assert sum(report["interrupted"] for report in reports) > 20
    assert sum(report["doubts"] for report in reports) > 0


def test_transactions_are_never_in_doubt(reports: list[dict[str, Any]]) -> None:
    """Calls that run in the ledger's transactions are interrupted, and end with their value."""
    swept = [report for report in reports if report["workload"] == TRANSACTIONAL.name]
    assert sum(report["interrupted"] for report in swept) > 5
    assert sum(report["doubts"] for report in swept) == 0


def test_the_steps_are_swept_to_their_end(reports: list[dict[str, Any]]) -> None:
    """The points of a sweep, a slice too, reach to a whole run's last step and statement.

    How many there are depends on what happens at the same time, and varies by a few.
    """
    for report in reports:
        reach = report["points"] * report["every"] + report["every"]
        if report["kind"] == "step":
            assert reach >= ALL_BUT_A_FEW * report["steps"]
        elif report["kind"] == "statement":
            assert reach >= ALL_BUT_A_FEW * 2 * report["statements"]


@attrs.define
class OneFile:
    """Opens handles on one database."""

    path: Path

    @asynccontextmanager
    async def open(self) -> AsyncIterator[SqlLedgerStore]:
        async with open_sqlite_ledger(self.path) as store:
            yield store

    async def let_pass(self, ms: int) -> None:
        raise NotImplementedError


SLICE = [w for w in WORKLOADS if w.name in {"mixed effects", "max steps"}]


@pytest.mark.parametrize(
    "workload",
    [*(WORKLOADS if FULL else SLICE), TRANSACTIONAL],
    ids=lambda workload: workload.name,
)
async def test_a_crash_at_any_append_on_sqlite(workload: Workload, tmp_path: Path) -> None:
    """Crashed before and after each append, a run on SQLite ends as its uncrashed twin.

    The slice has three workloads and one crash a run. The full sweep has all workloads and
    variants, and crashes twice at every pair of appends.
    """
    numbers = iter(range(1_000_000))
    report = await differential(
        workload,
        lambda: OneFile(tmp_path / f"{next(numbers)}.db"),
        variants=VARIANTS if FULL else ("crash",),
    )
    report.check()
    assert report.trials >= 2 * report.appends
    assert report.blows >= report.appends
