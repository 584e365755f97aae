r"""ECMA-262 patterns, read into a small tree that `_automata` can match in linear time.

JSON Schema's patterns are ECMA-262's, and they come from people we do not know.
Python's `re` speaks another dialect (`$` also matches before a last newline, `\d` takes any
script's digits) and backtracks: `^(a+)+$` needs 2^n steps. So patterns are parsed here and
run on an automaton.

What no automaton can do in bounded time is refused, with a reason: look-around and
back-references. What is not ECMA-262 is refused as well: inline flags, `\A`, `(?P<name>`.
"""

from __future__ import annotations

from typing import NoReturn, TypeAlias

import attrs

from rainengine.core.tools._characters import (
    CATEGORIES,
    CONTROLS,
    LAST,
    LINE_ENDS,
    NAMED,
    SHORT_CATEGORY,
    Chars,
    complement,
    merged,
)

MAX_PATTERN = 1_000
MAX_GROUPS_DEEP = 40

_HIGH_SURROGATES = range(0xD800, 0xDC00)
_LOW_SURROGATES = range(0xDC00, 0xE000)
_MAX_BOUND_DIGITS = 6


class PatternRefused(ValueError):
    """The pattern is not ECMA-262, or cannot be matched in bounded time."""


@attrs.frozen
class Assertion:
    """A place: `^`, `$`, `b` (a word's edge) or `B`."""

    kind: str


@attrs.frozen
class Sequence:
    """One part after another."""

    parts: tuple[Node, ...]


@attrs.frozen
class Choice:
    """One of several."""

    options: tuple[Node, ...]


@attrs.frozen
class Repeat:
    """A part `least` to `most` times; `None` is without end."""

    part: Node
    least: int
    most: int | None


Node: TypeAlias = Chars | Assertion | Sequence | Choice | Repeat


def parse_pattern(pattern: str) -> Node:
    """Read an ECMA-262 pattern. Raises `PatternRefused` with a reason."""
    if len(pattern) > MAX_PATTERN:
        raise PatternRefused(f"has {len(pattern)} characters, at most {MAX_PATTERN} are read")
    reader = _Reader(pattern)
    node = reader.choice(0)
    if reader.at < len(pattern):
        reader.refuse("has a ) without its (")
    return node


class _Reader:
    def __init__(self, pattern: str) -> None:
        self.pattern = pattern
        self.at = 0

    def refuse(self, reason: str) -> NoReturn:
        raise PatternRefused(f"{reason} (at character {self.at})")

    def peek(self, text: str) -> bool:
        return self.pattern.startswith(text, self.at)

    def take(self, text: str) -> bool:
        found = self.peek(text)
        self.at += len(text) * found
        return found

    def next(self) -> str:
        if self.at >= len(self.pattern):
            self.refuse("ends too early")
        self.at += 1
        return self.pattern[self.at - 1]

    def choice(self, depth: int) -> Node:
        if depth > MAX_GROUPS_DEEP:
            self.refuse(f"nests groups deeper than {MAX_GROUPS_DEEP}")
        options = [self.sequence(depth)]
        while self.take("|"):
            options.append(self.sequence(depth))
        return options[0] if len(options) == 1 else Choice(tuple(options))

    def sequence(self, depth: int) -> Node:
        parts: list[Node] = []
        while self.at < len(self.pattern) and not self.peek("|") and not self.peek(")"):
            parts.append(self.repeated(self.atom(depth)))
        return parts[0] if len(parts) == 1 else Sequence(tuple(parts))

    def atom(self, depth: int) -> Node:
        char = self.next()
        if char == "(":
            return self.group(depth)
        if char == "[":
            return self.char_class()
        if char in "^$":
            return Assertion(char)
        if char == ".":
            return Chars(LINE_ENDS, negated=True)
        if char == "\\":
            return Assertion(self.next()) if self.peek("b") or self.peek("B") else self.escape()
        if char in "*+?":
            self.refuse(f"has a {char} with nothing to repeat")
        return Chars(((ord(char), ord(char)),))

    def group(self, depth: int) -> Node:
        if self.take("?") and not self.take(":"):
            if self.peek("=") or self.peek("!") or self.peek("<=") or self.peek("<!"):
                self.refuse("looks around, which has no bounded time: say it with allOf and not")
            if not self.take("<"):
                self.refuse("has a group that ECMA-262 does not know: use (?:...) or (?<name>...)")
            while self.next() != ">":
                pass
        node = self.choice(depth + 1)
        if not self.take(")"):
            self.refuse("has a ( without its )")
        return Sequence((node,))  # so that `(?:^)*` is no repeated place

    def repeated(self, node: Node) -> Node:
        bounds = self.bounds()
        if bounds is None:
            return node
        if isinstance(node, Assertion):
            self.refuse("repeats a place, such as ^ or \\b")
        self.take("?")  # lazy or greedy: the same texts match
        return Repeat(node, *bounds)

    def bounds(self) -> tuple[int, int | None] | None:
        for sign, found in {"*": (0, None), "+": (1, None), "?": (0, 1)}.items():
            if self.take(sign):
                return found
        end = self.pattern.find("}", self.at)
        if not self.peek("{") or end < 0:
            return None
        low, comma, high = self.pattern[self.at + 1 : end].partition(",")
        if not _digits(low) or (high and not _digits(high)):
            return None
        self.at = end + 1
        most = (int(high) if high else None) if comma else int(low)
        if most is not None and most < int(low):
            self.refuse("repeats at most less often than at least")
        return int(low), most

    def char_class(self) -> Chars:
        negated = self.take("^")
        ranges: list[tuple[int, int]] = []
        categories: list[tuple[str, bool]] = []
        while not self.take("]"):
            member = self.member()
            if self.peek("-") and not self.peek("-]") and _single(member):
                self.at += 1
                member = self.span(member, self.member())
            ranges += member.ranges
            categories += member.categories
        return Chars(merged(ranges), tuple(categories), negated)

    def span(self, low: Chars, high: Chars) -> Chars:
        if not _single(high) or high.ranges[0][0] < low.ranges[0][0]:
            self.refuse("has a range that does not go from a character to a later one")
        return Chars(((low.ranges[0][0], high.ranges[0][0]),))

    def member(self) -> Chars:
        char = self.next()
        if char != "\\":
            return Chars(((ord(char), ord(char)),))
        return Chars(((8, 8),)) if self.take("b") else self.escape()

    def escape(self) -> Chars:
        char = self.next()
        if char.lower() in NAMED:
            ranges = NAMED[char.lower()]
            return Chars(ranges if char.islower() else complement(ranges))
        if char in "pP":
            return self.unicode_property(negated=char == "P")
        code = self.escaped_code(char)
        return Chars(((code, code),))

    def escaped_code(self, char: str) -> int:
        if char in CONTROLS:
            return CONTROLS[char]
        if char == "c":
            return ord(self.next()) % 32
        if char == "x":
            return self.hexadecimal(2)
        if char == "u":
            return self.unicode_escape()
        if char.isdigit() or char == "k":
            self.refuse("refers back to a group, which has no bounded time")
        if char.isalpha() or char == "_":
            self.refuse(f"has \\{char}, which ECMA-262 does not know")
        return ord(char)

    def unicode_escape(self) -> int:
        if self.take("{"):
            end = self.pattern.find("}", self.at)
            code = self.hexadecimal(max(end - self.at, 1))
            self.at += 1
            return code if code <= LAST else self.refuse("names no Unicode character")
        code = self.hexadecimal(4)
        if code in _HIGH_SURROGATES and self.take("\\u"):
            low = self.hexadecimal(4)
            if low not in _LOW_SURROGATES:
                self.refuse("has half of a surrogate pair")
            return 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00)
        return code

    def hexadecimal(self, length: int) -> int:
        text = self.pattern[self.at : self.at + length]
        if len(text) < length or not all(char in "0123456789abcdefABCDEF" for char in text):
            self.refuse("has an escape without its hexadecimal digits")
        self.at += length
        return int(text, 16)

    def unicode_property(self, *, negated: bool) -> Chars:
        end = self.pattern.find("}", self.at)
        if not self.take("{") or end < 0:
            self.refuse("has a \\p without its {...}")
        name = self.pattern[self.at : end].removeprefix("General_Category=").removeprefix("gc=")
        self.at = end + 1
        short = CATEGORIES.get(name, name)
        if not SHORT_CATEGORY.fullmatch(short):
            self.refuse(f"has \\p{{{name}}}: only general categories, such as L or Nd, are known")
        return Chars((), ((short, negated),))


def _digits(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= _MAX_BOUND_DIGITS


def _single(chars: Chars) -> bool:
    return len(chars.ranges) == 1 and chars.ranges[0][0] == chars.ranges[0][1]
