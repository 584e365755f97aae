"""Server-sent events, read off the bytes of an answer.

https://html.spec.whatwg.org/multipage/server-sent-events.html#parsing-an-event-stream

The SDK has a reader of its own, which is not used: it leaves its asynchronous generators
suspended when it sees the end of an answer, for the garbage collector to close, about which trio
warns each time. Here the bytes are always read to where the connection ends them, or the reading
is cancelled, which unwinds the generators of the HTTP client from the inside.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, cast

import attrs

from rainengine.provider_openai._failing import unreadable
from rainengine.provider_openai._values import as_object

DONE = "[DONE]"

_BOM = b"\xef\xbb\xbf"
_LINE_END = re.compile(rb"\r\n|\n|\r")


@attrs.define(eq=False)
class EventReader:
    """Takes bytes in, and gives the data of each event that they complete."""

    _line: list[bytes] = attrs.field(factory=list[bytes], init=False)
    _data: list[bytes] = attrs.field(factory=list[bytes], init=False)
    _after_cr: bool = attrs.field(default=False, init=False)
    _begun: bool = attrs.field(default=False, init=False)

    def feed(self, data: bytes) -> Iterator[str]:
        """Take in bytes; yield the data of events."""
        if self._after_cr and data:
            data, self._after_cr = data.removeprefix(b"\n"), False
        if data:
            self._after_cr = data.endswith(b"\r")
            first, *following = _LINE_END.split(data)
            self._line.append(first)
            for start in following:
                yield from self._end_line()
                self._line.append(start)

    def finish(self) -> Iterator[str]:
        """Take it that nothing more comes; yield the data of an event that was not ended."""
        yield from self.feed(b"\n\n")

    def _end_line(self) -> Iterator[str]:
        line = b"".join(self._line)
        if not self._begun:
            line, self._begun = line.removeprefix(_BOM), True
        self._line = []
        if line:
            self._take_in(line)
        elif self._data:
            yield b"\n".join(self._data).decode(errors="replace")
            self._data = []

    def _take_in(self, line: bytes) -> None:
        field, _, value = line.partition(b":")
        if field == b"data":
            self._data.append(value.removeprefix(b" "))


def parsed(data: str) -> dict[str, Any]:
    """Return the JSON object of an event. Raises `ProviderError` where it is none."""
    try:
        value: object = json.loads(data)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise unreadable(f"an event of the stream is no JSON object: {data}")
    return as_object(cast(object, value))
