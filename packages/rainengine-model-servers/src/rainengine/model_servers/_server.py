"""An HTTP server on the loopback interface."""

from __future__ import annotations

import inspect
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeAlias

import attrs
import trio

from rainengine.model_servers._connection import Connection
from rainengine.model_servers._messages import Reply, Request

Handler: TypeAlias = Callable[[Request], Reply | Awaitable[Reply]]
"""Says how a request is replied to. What it raises ends the server, and with it the test."""


@attrs.define(eq=False)
class Server:
    """A server that is running. `url` is its root, without a slash at the end."""

    url: str
    _handler: Handler
    requests: list[Request] = attrs.field(factory=list[Request], init=False)
    """What came in, oldest first."""
    open_connections: int = attrs.field(default=0, init=False)
    """How many clients are connected now."""
    replying: int = attrs.field(default=0, init=False)
    """How many replies are under way now."""
    _changed: trio.Event = attrs.field(factory=trio.Event, init=False)

    async def until(self, condition: Callable[[Server], bool]) -> None:
        """Wait until the condition holds: `await server.until(lambda it: not it.replying)`."""
        while not condition(self):
            await self._changed.wait()

    def _tell(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    async def serve(self, stream: trio.SocketStream) -> None:
        """Serve one client until it, or a move, ends the connection."""
        self.open_connections += 1
        self._tell()
        try:
            await Connection(stream, self._respond).serve()
        finally:
            stream.socket.close()  # without a checkpoint, which might lose an error on its way out
            self.open_connections -= 1
            self._tell()

    @asynccontextmanager
    async def _respond(self, request: Request) -> AsyncGenerator[Reply]:
        self.requests.append(request)
        self.replying += 1
        self._tell()
        try:
            reply = self._handler(request)
            yield await reply if inspect.isawaitable(reply) else reply
        finally:
            self.replying -= 1
            self._tell()


@asynccontextmanager
async def open_server(handler: Handler, *, port: int = 0) -> AsyncGenerator[Server]:
    """Serve HTTP on 127.0.0.1, on a free port by default, until the block is left."""
    (listener,) = await trio.open_tcp_listeners(port, host="127.0.0.1")
    number = listener.socket.getsockname()[1]
    server = Server(f"http://127.0.0.1:{number}", handler)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, server.serve, [listener])
        yield server
        nursery.cancel_scope.cancel()
