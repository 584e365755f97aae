r"""Patterns matched in linear time.

A pattern becomes Thompson's nondeterministic automaton, which is run as a deterministic one
whose states are made when they are first met (R. Cox, "Regular Expression Matching Can Be
Simple And Fast", https://swtch.com/~rsc/regexp/regexp1.html). A character costs one look-up
once its step is known, and at most the size of the automaton before.

Places (`^`, `$`, `\b`) look one character back and one ahead, so a state keeps what came
before it and follows empty steps only when the next character is known.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import attrs

from rainengine.core.tools._characters import Chars
from rainengine.core.tools._patterns import (
    Assertion,
    Choice,
    Node,
    PatternRefused,
    Repeat,
    Sequence,
    parse_pattern,
)

MAX_STATES = 5_000
MAX_KNOWN_STEPS = 2_048
CHARS_A_UNIT = 16

Spend: TypeAlias = Callable[[int], None]
"""Takes units of work out of a budget; raises when it is used up."""


@attrs.define(eq=False)
class _State:
    places: frozenset[int]
    before: str  # "" at the start, else "w" or "-"
    steps: dict[str, _State] = attrs.field(factory=dict[str, "_State"])


_MATCHED = _State(frozenset(), "")
_FAILED = _State(frozenset(), "")


@attrs.define
class _Program:
    """Instructions: (chars, next), (assertion, next), (None, next, other); 0 is the match."""

    code: list[tuple[Chars | Assertion | None, int, int]] = attrs.field(
        factory=lambda: [(None, -1, -1)]
    )

    def add(self, what: Chars | Assertion | None, following: int, other: int = -1) -> int:
        if len(self.code) >= MAX_STATES:
            raise PatternRefused(
                f"needs more than {MAX_STATES} states: use maxLength instead of large repetitions"
            )
        self.code.append((what, following, other))
        return len(self.code) - 1

    def build(self, node: Node, following: int) -> int:
        """Add what matches `node` and then goes on at `following`; return where it begins."""
        if isinstance(node, Sequence):
            for part in reversed(node.parts):
                following = self.build(part, following)
            return following
        if isinstance(node, Choice):
            begin = self.build(node.options[-1], following)
            for option in reversed(node.options[:-1]):
                begin = self.add(None, self.build(option, following), begin)
            return begin
        if isinstance(node, Repeat):
            return self._build_repeat(node, following)
        return self.add(node, following)

    def _build_repeat(self, node: Repeat, following: int) -> int:
        begin = following
        if node.most is None:
            loop = self.add(None, -1, following)
            self.code[loop] = (None, self.build(node.part, loop), following)
            begin = loop
        else:
            for _ in range(node.most - node.least):
                begin = self.add(None, self.build(node.part, begin), following)
        for _ in range(node.least):
            begin = self.build(node.part, begin)
            self.add(None, begin)  # even an empty part counts against the bound
        return begin


class Automaton:
    """A compiled pattern. Raises `PatternRefused` where it cannot be one."""

    def __init__(self, pattern: str) -> None:
        program = _Program()
        self._begin = program.build(parse_pattern(pattern), 0)
        self._code = program.code
        self.size = len(program.code)
        self._known: dict[tuple[frozenset[int], str], _State] = {}
        self._steps_known = 0
        self._start = self._state(frozenset((self._begin,)), "")

    def found_in(self, text: str, spend: Spend) -> bool:
        """Whether the pattern matches anywhere in `text`. Work is taken from the budget."""
        spend(len(text) // CHARS_A_UNIT)
        state = self._start
        for char in text:
            step = state.steps.get(char)
            if step is None:
                step = self._step(state, char, spend)
            if step is _MATCHED:
                return True
            state = step
        end = state.steps.get("") or self._step(state, "", spend)
        return end is _MATCHED

    def _state(self, places: frozenset[int], before: str) -> _State:
        state = self._known.get((places, before))
        if state is None:
            state = self._known[places, before] = _State(places, before)
        return state

    def _step(self, state: _State, char: str, spend: Spend) -> _State:
        reached = self._reach(state, char)
        spend(1 + len(reached))
        if 0 in reached:
            step = _MATCHED
        elif not char:
            step = _FAILED
        else:
            step = self._state(self._moved(reached, char), _kind(char))
        self._remember(state, char, step)
        return step

    def _moved(self, places: set[int], char: str) -> frozenset[int]:
        moved = {self._begin}  # a match may begin anywhere
        for place in places:
            what, following, _ = self._code[place]
            if isinstance(what, Chars) and what.holds(char):
                moved.add(following)
        return frozenset(moved)

    def _remember(self, state: _State, char: str, step: _State) -> None:
        if self._steps_known >= MAX_KNOWN_STEPS:
            self._known.clear()
            self._start = self._state(frozenset((self._begin,)), "")
            self._steps_known = 0
        state.steps[char] = step
        self._steps_known += 1 + len(state.places) // 16

    def _reach(self, state: _State, char: str) -> set[int]:
        """All places that empty steps lead to, when `char` comes next."""
        pending = list(state.places)
        reached = set(pending)
        while pending:
            what, *targets = self._code[pending.pop()]
            if isinstance(what, Chars) or (
                what is not None and not _stands(what.kind, state.before, char)
            ):
                continue
            for target in targets:
                if target >= 0 and target not in reached:
                    reached.add(target)
                    pending.append(target)
        return reached


def _kind(char: str) -> str:
    return "w" if char == "_" or (char.isascii() and char.isalnum()) else "-"


def _stands(kind: str, before: str, char: str) -> bool:
    if kind == "^":
        return not before
    if kind == "$":
        return not char
    edge = (before == "w") != (bool(char) and _kind(char) == "w")
    return edge == (kind == "b")
