"""The example remembers, in its file, what was said before."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

MAIN = runpy.run_path(str(Path(__file__).with_name("main.py")))


async def test_two_turns(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The second turn opens the file again and knows the first one's answer."""
    await MAIN["main"](tmp_path / "shop.db")
    assert capsys.readouterr().out.splitlines() == [
        "ada:   How many cinnamon rolls are left?",
        "agent: 3 are left.",
        "ada:   What did you say before?",
        'agent: You asked, and I said: "3 are left."',
    ]


def test_the_function_is_still_a_function() -> None:
    """A skill has a manifest, made of its hints and its docstring."""
    manifest = MAIN["count_stock"].manifest
    assert manifest.name == "count_stock"
    assert manifest.input_schema["required"] == ["product"]
