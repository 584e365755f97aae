"""Streams of server-sent events, read before the SDK sees them.

https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation

google-genai takes comments, byte order marks and much else of the format for faulty JSON. So it
is given the events and nothing besides, each written as it knows them.

It reads a stream by generators within generators. When one of the outer ones fails over
an event, the inner ones are left for the garbage collector, and with them the connection. So an
event that it would fail over is found here, below all of them, where failing unwinds them all.
This is an iterator and no generator, since it would be one more of those.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncGenerator, Iterator
from contextvars import ContextVar
from http import HTTPStatus
from typing import Any, cast

import attrs
import httpx2
import trio

from rainengine.provider_gemini._values import as_object

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_LINE_END = re.compile(rb"\r\n|\r|\n")
_STREAMING = ":streamGenerateContent"
_AFTER_A_FAULT_S = 1.0


arrived: ContextVar[list[dict[str, Any]] | None] = ContextVar("arrived", default=None)
"""Where the events of the call that a task makes are put, once they are whole."""


class BadEvent(Exception):  # named for the fault
    """An event is no JSON object, or an error. `body` is the error, if it is one."""

    def __init__(self, message: str, body: dict[str, Any] | None = None) -> None:
        super().__init__(message)
        self.body = body


async def check_events(response: httpx2.Response) -> None:
    """Have the events of a response looked at while they come in; a hook of the HTTP client.

    Raises `BadEvent` where there should be events, and there is something else.
    """
    if response.status_code != HTTPStatus.OK or _STREAMING not in response.request.url.path:
        return
    if response.headers.get("content-type", "").startswith("text/event-stream"):
        response.stream = _Checked(response)
        response.headers.pop("content-encoding", None)
    else:
        await response.aread()
        raise BadEvent("the answer is no stream of events")


class _Checked(httpx2.AsyncByteStream):
    """The events of a response, decompressed."""

    def __init__(self, response: httpx2.Response) -> None:
        self._stream = cast(httpx2.AsyncByteStream, response.stream)
        self._raw = _Raw(self._stream)
        self._pieces = _decompressed(response, self._raw)
        self._reader = EventReader()
        self._arrived = arrived.get()

    def __aiter__(self) -> _Checked:
        return self

    async def __anext__(self) -> bytes:
        try:
            piece = await anext(self._pieces)
            return b"".join(map(self._take, self._reader.feed(piece)))
        except (BadEvent, httpx2.DecodingError):
            with trio.move_on_after(_AFTER_A_FAULT_S):
                async for _ in self._raw:
                    pass  # to its end, which is how such generators end by themselves
            await self._pieces.aclose()
            raise

    async def aclose(self) -> None:
        await self._stream.aclose()

    def _take(self, event: bytes) -> bytes:
        """Return an event as the SDK knows it, or nothing if there is nothing in it."""
        if not event.strip():
            return b""
        body = _parsed(event)
        if self._arrived is not None:
            self._arrived.append(body)
        return b"data: " + event.replace(b"\n", b" ") + b"\n\n"


class _Raw(httpx2.AsyncByteStream):
    """A stream that can be read on when a reader of it has failed."""

    def __init__(self, stream: httpx2.AsyncByteStream) -> None:
        self._pieces = aiter(stream)

    def __aiter__(self) -> _Raw:
        return self

    async def __anext__(self) -> bytes:
        return await anext(self._pieces)


def _decompressed(response: httpx2.Response, raw: _Raw) -> AsyncGenerator[bytes]:
    below = httpx2.Response(
        response.status_code, headers=response.headers, stream=raw, request=response.request
    )
    return below.aiter_bytes()


@attrs.define(eq=False)
class EventReader:
    """Takes bytes in, and gives the data of each event that they complete."""

    _line: list[bytes] = attrs.field(factory=list[bytes], init=False)
    _data: list[bytes] = attrs.field(factory=list[bytes], init=False)
    _after_cr: bool = attrs.field(default=False, init=False)
    _at_start: bool = attrs.field(default=True, init=False)

    def feed(self, piece: bytes) -> Iterator[bytes]:
        """Take in bytes. An event that is never ended by a blank line is never given."""
        if not piece:
            return
        if self._after_cr:
            piece = piece.removeprefix(b"\n")  # the other half of a line's end
        self._after_cr = piece.endswith(b"\r")
        *ended, rest = _LINE_END.split(piece)
        for end in ended:
            line = b"".join((*self._line, end))
            self._line = []
            yield from self._take(line)
        self._line.append(rest)

    def _take(self, line: bytes) -> Iterator[bytes]:
        if self._at_start:
            line, self._at_start = line.removeprefix(_BYTE_ORDER_MARK), False
        field, _, value = line.partition(b":")
        if field == b"data":
            self._data.append(value.removeprefix(b" "))
        elif not line and self._data:
            event, self._data = b"\n".join(self._data), []
            yield event


def _parsed(event: bytes) -> dict[str, Any]:
    try:
        body = as_object(json.loads(event))
    except (ValueError, RecursionError) as error:
        raise BadEvent(f"an event is no JSON: {error}") from error
    if body is None:
        raise BadEvent("an event is no JSON object")
    if "error" in body:
        raise BadEvent("an event is an error", body)
    return body
