"""Streams of server-sent events, looked at before the SDK sees them.

google-genai reads a stream by generators within generators. When one of the outer ones fails over
an event, the inner ones are left for the garbage collector, and with them the connection. So an
event that it would fail over is found here, below all of them, where failing unwinds them all.
This is an iterator and no generator, since it would be one more of those.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextvars import ContextVar
from http import HTTPStatus
from typing import Any, cast

import httpx2
import trio

from rainengine.provider_gemini._values import as_object

_DATA = b"data:"
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
        response.stream = _Checked(cast(httpx2.AsyncByteStream, response.stream))
    else:
        await response.aread()
        raise BadEvent("the answer is no stream of events")


class _Checked(httpx2.AsyncByteStream):
    def __init__(self, stream: httpx2.AsyncByteStream) -> None:
        self._stream = stream
        self._pieces = aiter(stream)
        self._rest = b""
        self._event: list[bytes] = []
        self._arrived = arrived.get()

    def __aiter__(self) -> _Checked:
        return self

    async def __anext__(self) -> bytes:
        try:
            piece = await anext(self._pieces)
        except StopAsyncIteration:
            self._end()
            raise
        try:
            for line in self._lines(piece):
                self._take(line)
        except BadEvent:
            with trio.move_on_after(_AFTER_A_FAULT_S):
                async for _ in self._pieces:
                    pass  # to its end, which is how such generators end by themselves
            raise
        return piece

    async def aclose(self) -> None:
        await self._stream.aclose()

    def _lines(self, piece: bytes) -> Iterator[bytes]:
        *lines, self._rest = (self._rest + piece).split(b"\n")
        yield from (line.rstrip(b"\r") for line in lines)

    def _end(self) -> None:
        self._take(self._rest.rstrip(b"\r"))
        self._take(b"")

    def _take(self, line: bytes) -> None:
        if line.startswith(_DATA):
            self._event.append(line.removeprefix(_DATA))
        elif not line and self._event:
            body = _parsed(b"\n".join(self._event))
            self._event = []
            if self._arrived is not None:
                self._arrived.append(body)


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
