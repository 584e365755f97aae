"""What the benchmarks count holds, and the whole of them runs. Timings are never asserted."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

RUN = Path(__file__).parent / "benchmarks" / "run.py"
DURABLE = ["sqlite", "postgres"]
STORES = ["memory", *DURABLE]


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, list[dict[str, Any]]]:
    """A quick run of everything: what it printed, and its results."""
    results = tmp_path_factory.mktemp("benchmarks") / "results.jsonl"
    command = [sys.executable, str(RUN), "--quick", "--jsonl", str(results)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert (done.returncode, done.stderr.count("Traceback")) == (0, 0), done.stderr
    return done.stdout, [json.loads(line) for line in results.read_text().splitlines()]


def _measured(
    quick: tuple[str, list[dict[str, Any]]], workload: str, store: str
) -> list[dict[str, Any]]:
    found = [
        line
        for line in quick[1]
        if (line["workload"], line["backend"], line["peer"]) == (workload, store, "rainengine")
    ]
    assert found
    return found


@pytest.mark.parametrize("store", STORES)
def test_a_turn_is_four_commits_and_two_provider_calls(quick: Any, store: str) -> None:
    """One turn at a time, nothing shares a commit with anything, and nothing is asked twice."""
    counted = [
        (line["commits_per_turn"], line["appends_per_turn"], line["provider_calls_per_turn"])
        for line in _measured(quick, "A", store)
    ]
    assert counted == [(4, 4, 2)] * 2


@pytest.mark.parametrize("store", DURABLE)
def test_sessions_in_flight_share_commits(quick: Any, store: str) -> None:
    """With many sessions at once, the same four appends take less than four commits."""
    (line,) = _measured(quick, "B", store)
    assert line["appends_per_turn"] == 4
    assert line["commits_per_turn"] < 4


@pytest.mark.parametrize("store", STORES)
def test_a_late_turn_stores_what_an_early_one_does(quick: Any, store: str) -> None:
    """Turn 60 has the records of turn 10, as large but for some digits, and 10 KB at most."""
    (line,) = _measured(quick, "C", store)
    early, late = line["points"]["10"], line["points"]["60"]
    assert late["records_per_turn"] == early["records_per_turn"]
    assert late["appends_per_turn"] == early["appends_per_turn"] == 4
    assert (
        max(early["commits_per_turn"], late["commits_per_turn"]) <= 4.25
    )  # now and then a snapshot
    assert late["record_bytes_per_turn"] == pytest.approx(early["record_bytes_per_turn"], abs=64)
    assert late["record_bytes_per_turn"] <= 10 * 1024


@pytest.mark.parametrize("store", DURABLE)
def test_a_killed_process_repeats_nothing_that_was_finished(quick: Any, store: str) -> None:
    """Only the tool that was running when the process was killed runs again."""
    (line,) = _measured(quick, "D", store)
    assert line["calls"] == {"model_1": 1, "model_2": 1, "tool_a": 1, "tool_b": 2, "tool_c": 1}


def test_the_report_shows_every_workload(quick: Any) -> None:
    """Each workload has a table, and there is one of the targets."""
    titles = [line[:4] for line in quick[0].splitlines() if line.startswith("## ")]
    assert titles == ["## A", "## B", "## C", "## D", "## E", "## L", "## T"]
