"""The example sells once, however often its process is cut off."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

MAIN = runpy.run_path(str(Path(__file__).with_name("main.py")))


IN_THE_END = [
    "agent:  Here you are.",
    "stock:  [('rye bread', 10)]",
    "orders: [('ada', 'rye bread', 2)]",
    """outbox: [('oven', '{"bake":"rye bread","pieces":2}')]""",
]


async def test_one_sale(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two crashes around the commit leave one sale, one order and one message to the oven."""
    await MAIN["main"](tmp_path / "bakery.db")
    assert capsys.readouterr().out.splitlines() == [
        "... crashed before append 3 was stored",
        "... crashed after append 3 was stored",
        *IN_THE_END,
    ]


async def test_a_second_run_sells_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same visit again is known by its key: nothing is left to be cut off."""
    await MAIN["main"](tmp_path / "bakery.db")
    capsys.readouterr()
    await MAIN["main"](tmp_path / "bakery.db")
    assert capsys.readouterr().out.splitlines() == IN_THE_END
