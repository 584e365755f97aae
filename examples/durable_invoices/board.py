"""Live progress: a row of marks a skill on a terminal, a line an event anywhere else."""

from __future__ import annotations

import os
import shutil
import sys
from typing import Any

BOLD, DIM, RED, GREEN, YELLOW = "1", "2", "31", "32", "33"

_MARKS = {"began": "○", "done": "●", "failed": "✗", "waiting": "◍", "found": "◆"}
_PLAIN = {"began": ".", "done": "#", "failed": "x", "waiting": "?", "found": "="}
_COLOURS = {"began": DIM, "done": GREEN, "failed": RED, "waiting": YELLOW, "found": GREEN}


def paint(text: str, colour: str) -> str:
    """Colour a text where somebody looks at it on a terminal that wants colours."""
    if not is_live() or "NO_COLOR" in os.environ:
        return text
    return f"\x1b[{colour}m{text}\x1b[0m"


def is_live() -> bool:
    """Whether somebody looks at it on a terminal that can move its cursor."""
    return sys.stdout.isatty() and os.environ.get("TERM") != "dumb"


def legend() -> str:
    """What the marks mean."""
    return paint("  ".join(f"{mark} {event}" for event, mark in _marks().items()), DIM)


class Board:
    """What the calls of one process are doing."""

    def __init__(self) -> None:
        self._live = is_live()
        self._marks = _marks()
        self._calls: dict[str, dict[str, list[str]]] = {}
        self._last: dict[str, str] = {}
        self._height = 0

    def show(self, event: dict[str, Any]) -> None:
        """Take in what a skill noted."""
        if self._live:
            self._take_in(event)
            self._draw()
        elif event["event"] != "began":
            attempt = f" (attempt {event['attempt']})" if event["attempt"] > 1 else ""
            print(
                f"  {event['pid']:>7}  {event['skill']:<17}{event['event']:<8} {event['text']}"
                f"{attempt}",
                flush=True,
            )

    def _take_in(self, event: dict[str, Any]) -> None:
        states = self._calls.setdefault(event["skill"], {}).setdefault(event["call_id"], [])
        if states and states[-1] in {"began", "waiting"}:
            states.pop()
        states.append(event["event"])
        self._last[event["skill"]] = event["text"]

    def _draw(self) -> None:
        up = f"\x1b[{self._height}A" if self._height else ""
        rows = [self._row(skill) for skill in self._calls]
        sys.stdout.write(up + "".join(f"\r\x1b[2K{row}\n" for row in rows))
        sys.stdout.flush()
        self._height = len(rows)

    def _row(self, skill: str) -> str:
        states = [state for states in self._calls[skill].values() for state in states]
        marks = "".join(paint(self._marks[state], _COLOURS[state]) for state in states)
        room = shutil.get_terminal_size().columns - 38
        text = self._last[skill][: max(room, 0)]
        return f"    {skill:<17}{marks}{' ' * (15 - len(states))} {paint(text, DIM)}"


def _marks() -> dict[str, str]:
    return _MARKS if (sys.stdout.encoding or "").lower().startswith("utf") else _PLAIN
