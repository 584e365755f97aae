"""The example waits for a person, does what was allowed, and once."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest


def test_it_asks_first(capsys: pytest.CaptureFixture[str]) -> None:
    """The run waits; half of the sum is refunded; the token cannot be used again."""
    runpy.run_path(str(Path(__file__).with_name("main.py")), run_name="__main__")
    waits, answer, again = capsys.readouterr().out.splitlines()
    assert waits == "suspended: 9900 cents is a lot"
    assert answer == "Done: 4950 cents for A-7"
    assert again.startswith("it is resolved already")
