"""A connection pooler in transaction mode: whoever begins a transaction gets any connection.

Each transaction gets the connection that was given back longest ago, so that a client that
relies on anything of its session is found out at once. Like others of its kind it takes no
`options` at the login. Logins are by trust.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import attrs
import trio
from psycopg.conninfo import conninfo_to_dict

from testbed.wire import LENGTH, Wire, connect, serving, socket_folder, url_by_way_of

_PROTOCOL = LENGTH.pack(3 << 16)
_IDLE = b"I"


def _message(kind: bytes, body: bytes) -> bytes:
    return kind + LENGTH.pack(LENGTH.size + len(body)) + body


_READY = _message(b"Z", _IDLE)
_ROLLBACK = _message(b"Q", b"ROLLBACK\0")


def _refusal(text: str) -> bytes:
    fields = (b"SFATAL", b"C08P01", b"M" + text.encode())
    return _message(b"E", b"\0".join(fields) + b"\0\0")


@attrs.define(eq=False)
class Pooler:
    """Stands before a server, with a few connections to it. `transactions` is how many it saw."""

    server_url: str
    folder: Path
    greeting: bytes = b""
    _idle: deque[Wire] = attrs.field(factory=deque[Wire])
    _limit: trio.CapacityLimiter = attrs.field(init=False)
    transactions: int = 0

    @property
    def url(self) -> str:
        """The database's URL by way of the pooler."""
        return url_by_way_of(self.folder, self.server_url)

    async def add(self, server: Wire) -> None:
        """Log in on a connection and keep it."""
        where = conninfo_to_dict(self.server_url)
        names = f"user\0{where['user']}\0database\0{where['dbname']}\0\0".encode()
        await server.send(LENGTH.pack(2 * LENGTH.size + len(names)) + _PROTOCOL + names)
        said = b""
        while not said.endswith(_READY):
            message = await server.message()
            if message[:1] in b"E":
                raise ConnectionError(f"the pooler was refused: {message!r}")
            said += message
        self.greeting = said
        self._idle.append(server)

    def open(self) -> None:
        """Take clients, with the connections there are."""
        self._limit = trio.CapacityLimiter(len(self._idle))

    async def serve(self, stream: trio.SocketStream) -> None:
        """Serve one client."""
        client = Wire(stream)
        if b"options\0" in await client.startup():
            await client.send(_refusal("unsupported startup parameter: options"))
            return
        await client.send(self.greeting)
        while request := await self._request(client):
            async with self._limit:
                server = self._idle.popleft()
                await self._transaction(client, server, request)
                self._idle.append(server)
        client.cut()

    async def _transaction(self, client: Wire, server: Wire, request: bytes) -> None:
        """Pass on round trips until the transaction is over; end it where the client leaves it."""
        self.transactions += 1
        while await self._travel(client, server, request) != _IDLE:
            request = await self._request(client) or _ROLLBACK

    async def _travel(self, client: Wire, server: Wire, request: bytes) -> bytes:
        """Pass on a round trip; return the state of the transaction after it."""
        await server.send(request)
        while message := await server.message():
            await client.send(message)
            if message[:1] == b"Z":
                return message[5:]
        raise ConnectionError("the server has closed the connection")

    async def _request(self, client: Wire) -> bytes:
        """Return what the client sends up to the end of a round trip; nothing when it leaves."""
        request = b""
        while message := await client.message():
            if message[:1] == b"X":
                return b""
            request += message
            if message[:1] in b"SQ":
                return request
        return b""


@asynccontextmanager
async def open_pooler(server_url: str, *, size: int) -> AsyncGenerator[Pooler]:
    """Run a pooler before the server of this URL."""
    async with AsyncExitStack() as stack:
        pooler = Pooler(server_url, stack.enter_context(socket_folder()))
        for _ in range(size):
            server = await stack.enter_async_context(await connect(server_url))
            await pooler.add(Wire(server))
        pooler.open()
        await stack.enter_async_context(serving(pooler.folder, pooler.serve))
        yield pooler
