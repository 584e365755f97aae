"""Results of many processes, brought together: medians, extremes, ratios."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from typing import Any, TypeAlias

import attrs

Key: TypeAlias = tuple[str, str, str, str]
"""Workload, backend, peer, variant."""


@attrs.frozen
class Spread:
    """The median of a figure over all processes, and its extremes."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: list[float]) -> Spread:
        return cls(statistics.median(values), min(values), max(values))


@attrs.define
class Results:
    """All that was measured, in order."""

    lines: list[dict[str, Any]] = attrs.field(factory=list)

    def add(self, line: dict[str, Any]) -> None:
        self.lines.append(line)

    def keys(self, workload: str) -> list[Key]:
        """What was measured with this workload."""
        return list(dict.fromkeys(_key(line) for line in self._of(workload)))

    def figure(self, key: Key, name: str) -> Spread | None:
        """A figure, such as `turns_per_s`, `points.10.ms_per_turn` or `vs_floor`."""
        if name == "vs_floor":
            return self._vs_floor(key)
        values = [_look_up(line, name) for line in self._of(key[0]) if _key(line) == key]
        numbers = [float(value) for value in values if isinstance(value, int | float)]
        return Spread.of(numbers) if numbers else None

    def machine(self, name: str) -> Spread | None:
        """A reference measurement of the machine, over everything that was run."""
        values = [line[name] for line in self.lines if name in line]
        return Spread.of(values) if values else None

    def _of(self, workload: str) -> Iterator[dict[str, Any]]:
        return (line for line in self.lines if line["workload"] == workload)

    def _vs_floor(self, key: Key) -> Spread | None:
        """Turns per second against those of the floor that ran just before."""
        ratios: list[float] = []
        floor = None
        for line in self._of(key[0]):
            if line["backend"] != key[1]:
                continue
            if line["peer"] == "floor":
                floor = line["turns_per_s"]
            if _key(line) == key and floor is not None:
                ratios.append(line["turns_per_s"] / floor)
        return Spread.of(ratios) if ratios else None


def _key(line: dict[str, Any]) -> Key:
    return line["workload"], line["backend"], line["peer"], line["variant"]


def _look_up(line: dict[str, Any], name: str) -> Any:
    value: Any = line
    for part in name.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value
