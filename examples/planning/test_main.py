"""The example follows its plan, and asks the model where that breaks."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest


def test_it_plans(capsys: pytest.CaptureFixture[str]) -> None:
    """An order that can be met needs no model; one that cannot is answered by it."""
    runpy.run_path(str(Path(__file__).with_name("main.py")), run_name="__main__")
    assert capsys.readouterr().out.splitlines() == [
        "Your tea is on its way. (asked the model: 0, steps: 2)",
        "I am sorry, there are no cups left. (asked the model: 1, steps: 2)",
    ]
