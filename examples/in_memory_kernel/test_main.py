"""The example prints the outcome."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest


def test_it_answers(capsys: pytest.CaptureFixture[str]) -> None:
    """One advance leads to the scripted answer."""
    runpy.run_path(str(Path(__file__).with_name("main.py")), run_name="__main__")
    printed = capsys.readouterr().out
    assert "stop_reason='responded'" in printed
    assert "response='hello from rainengine'" in printed
