"""The example stops at once and tells what was done before."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest


def test_it_stops(capsys: pytest.CaptureFixture[str]) -> None:
    """The outcome names the reason, and the call that was made before it."""
    runpy.run_path(str(Path(__file__).with_name("main.py")), run_name="__main__")
    assert sorted(capsys.readouterr().out.splitlines()) == [
        "already done: book in step 1",
        "asked it to stop",
        "cancelled: we stay at home",
    ]
