"""One HTTP/1.1 connection, from the server's side."""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, suppress
from typing import TypeAlias

import attrs
import h11
import trio

from rainengine.model_servers._messages import Reply, Request
from rainengine.model_servers._moves import (
    Cut,
    Hang,
    Move,
    Pause,
    Reset,
    Send,
    SendUnframed,
    Until,
)

Respond: TypeAlias = Callable[[Request], AbstractAsyncContextManager[Reply]]

_BUFFER = 65_536
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class _OverError(Exception):
    """A move ends the connection."""


@attrs.define(eq=False)
class Connection:
    """Reads requests and makes the moves of their replies until either side hangs up."""

    _stream: trio.SocketStream
    _respond: Respond
    _protocol: h11.Connection = attrs.field(factory=lambda: h11.Connection(h11.SERVER), init=False)

    async def serve(self) -> None:
        """Serve requests one after the other."""
        with suppress(trio.BrokenResourceError, h11.RemoteProtocolError):
            while (request := await self._request()) is not None:
                if not await self._replied(request) or self._protocol.our_state is not h11.DONE:
                    return
                self._protocol.start_next_cycle()

    # Reading.

    async def _request(self) -> Request | None:
        head = await self._next_event()
        if not isinstance(head, h11.Request):
            return None
        body = b""
        while isinstance(data := await self._next_event(), h11.Data):
            body += bytes(data.data)
        return Request(
            method=head.method.decode(),
            target=head.target.decode(),
            headers={name.decode().lower(): value.decode() for name, value in head.headers},
            body=body,
        )

    async def _next_event(self) -> object:
        while True:
            event = self._protocol.next_event()
            if event is not h11.NEED_DATA:
                return event
            await self._receive()

    async def _receive(self) -> bytes:
        data = bytes(await self._stream.receive_some(_BUFFER))
        self._protocol.receive_data(data)
        return data

    # Writing.

    async def _replied(self, request: Request) -> bool:
        """Reply, unless the client hangs up first or the moves end the connection."""
        done = False
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._watch, nursery.cancel_scope)
            with suppress(_OverError, trio.BrokenResourceError):
                async with self._respond(request) as reply:
                    await self._make_moves(reply)
                done = True
            nursery.cancel_scope.cancel()
        return done

    async def _watch(self, replying: trio.CancelScope) -> None:
        with suppress(trio.BrokenResourceError):
            while await self._receive():
                pass  # a request that follows waits for its turn
        replying.cancel()

    async def _make_moves(self, reply: Reply) -> None:
        begun = False
        for move in reply.moves:
            if isinstance(move, Send | SendUnframed) and not begun:
                begun = True
                await self._send_head(reply)
            await self._make(move)
        if not begun:
            await self._send_head(reply)
        await self._send(h11.EndOfMessage())

    async def _send_head(self, reply: Reply) -> None:
        headers = list(reply.headers.items())
        await self._send(h11.Response(status_code=reply.status, headers=headers))

    async def _make(self, move: Move) -> None:
        match move:
            case Send(data):
                await self._send(h11.Data(data=data))
            case SendUnframed(data):
                await self._stream.send_all(data)
            case Pause(seconds):
                await trio.sleep(seconds)
            case Until(event):
                await event.wait()
            case Hang():
                await trio.sleep_forever()
            case Cut():
                raise _OverError
            case Reset():
                linger = socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE
                self._stream.socket.setsockopt(*linger)
                raise _OverError

    async def _send(self, event: h11.Response | h11.Data | h11.EndOfMessage) -> None:
        data = self._protocol.send(event)
        if data:
            await self._stream.send_all(data)
