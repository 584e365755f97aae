"""The example learns a fifth step, explains it, and has it taken back."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

RUNS = [
    "monday: max_steps_reached after 4 steps",
    "tuesday: max_steps_reached after 4 steps",
    "wednesday: responded after 5 steps",
    "the server is down: provider_failure after 1 steps",
    "thursday: max_steps_reached after 4 steps",
]


@pytest.fixture
def printed(capsys: pytest.CaptureFixture[str]) -> list[str]:
    """The lines that the example prints."""
    runpy.run_path(str(Path(__file__).with_name("main.py")), run_name="__main__")
    return capsys.readouterr().out.splitlines()


def test_a_fifth_step_is_learned_and_taken_back(printed: list[str]) -> None:
    """Two runs without enough steps earn a third, and a failure under it ends that."""
    assert [line for line in printed if line in RUNS] == RUNS


def test_it_explains_itself(printed: list[str]) -> None:
    """What was learned is shown with its grounds, and afterwards that it was taken back."""
    learned, taken_back = (line for line in printed if line.startswith("max_steps "))
    assert learned.split()[:5] == ["max_steps", "4", "5", "5", "5"]
    assert "max_steps ended 2 of 2 runs (applied, record" in learned
    assert taken_back.split() == ["max_steps", "4", "-", "5", "4"]
    assert "ended with provider_failure under it (rolled_back, record" in printed[-3]
