"""The example delegates, and ends with what its colleague found."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest


def test_the_researcher_answers(capsys: pytest.CaptureFixture[str]) -> None:
    """The run waits for its delegation, and goes on with the result."""
    runpy.run_path(str(Path(__file__).with_name("main.py")), run_name="__main__")
    assert capsys.readouterr().out.splitlines() == [
        "delegated: look up was delegated to researcher",
        "As our researcher found: nothing new about herons",
    ]
