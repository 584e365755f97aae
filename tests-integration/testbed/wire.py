"""What proxies share: messages of PostgreSQL's protocol, and being a server at a Unix socket."""

from __future__ import annotations

import struct
import tempfile
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path

import attrs
import trio
from psycopg.conninfo import conninfo_to_dict, make_conninfo

LENGTH = struct.Struct(">I")
_BUFFER = 1 << 16
_LOST = (trio.BrokenResourceError, trio.ClosedResourceError)


@attrs.define(eq=False)
class Wire:
    """One side's stream, read message by message."""

    stream: trio.SocketStream
    _received: bytearray = attrs.field(factory=bytearray, init=False)

    async def startup(self) -> bytes:
        """Return the first message, which has no type; empty at the end."""
        return await self._message(0)

    async def message(self) -> bytes:
        """Return the next message; empty at the end."""
        return await self._message(1)

    async def _message(self, skipped: int) -> bytes:
        if not await self._has(skipped + LENGTH.size):
            return b""
        size = skipped + LENGTH.unpack_from(self._received, skipped)[0]
        if not await self._has(size):
            return b""
        message = bytes(self._received[:size])
        del self._received[:size]
        return message

    async def _has(self, size: int) -> bool:
        while len(self._received) < size:
            try:
                more = await self.stream.receive_some(_BUFFER)
            except _LOST:
                return False
            if not more:
                return False
            self._received += more
        return True

    async def send(self, data: bytes) -> None:
        with suppress(*_LOST):
            await self.stream.send_all(data)

    def cut(self) -> None:
        """Close it at once."""
        self.stream.socket.close()


async def connect(url: str) -> trio.SocketStream:
    """Connect to the server of a URL. Raises `OSError`."""
    where = conninfo_to_dict(url)
    host, port = str(where["host"]), int(where.get("port") or 5432)
    if host.startswith("/"):
        return await trio.open_unix_socket(f"{host}/.s.PGSQL.{port}")
    return await trio.open_tcp_stream(host, port)


def url_by_way_of(folder: Path, url: str) -> str:
    """The same database's URL at the Unix socket in a folder."""
    return make_conninfo(url, host=str(folder), port=5432, sslmode="disable")


@contextmanager
def socket_folder() -> Iterator[Path]:
    """A folder with a name short enough for a socket in it."""
    with tempfile.TemporaryDirectory(prefix="rain-") as folder:
        yield Path(folder)


@asynccontextmanager
async def serving(
    folder: Path, serve: Callable[[trio.SocketStream], Awaitable[object]]
) -> AsyncGenerator[trio.Nursery]:
    """Serve clients at the socket in the folder; leaving the block cuts them off."""
    listening = trio.socket.socket(trio.socket.AF_UNIX)
    await listening.bind(str(folder / ".s.PGSQL.5432"))
    listening.listen(64)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, serve, [trio.SocketListener(listening)])
        yield nursery
        nursery.cancel_scope.cancel()
