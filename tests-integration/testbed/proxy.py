"""A proxy before PostgreSQL that loses connections, requests and answers on purpose.

It knows so much of the protocol as to see round trips: what a client sends up to a `Sync` or a
simple `Query`, and the answer up to `ReadyForQuery`. A fault is an async function of a round trip
that does part of what is usual: `forward`, `answered`, `reply`; or cuts the connection.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeAlias

import attrs
import trio

from testbed.wire import LENGTH, Wire, connect, serving, socket_folder, url_by_way_of

_NOTHING_ASKED = (LENGTH.pack(0), LENGTH.pack(12))
"""Messages about the login that the client does not answer: it is in, or soon will be."""


@attrs.define(eq=False)
class RoundTrip:
    """A request, of which the server knows nothing yet.

    `text` is the SQL in it, `backend` the process id of the server's process for it.
    """

    number: int
    backend: int
    text: str
    request: bytes
    _client: Wire
    _server: Wire
    _answer: bytearray = attrs.field(factory=bytearray, init=False)
    _answered: trio.Event = attrs.field(factory=trio.Event, init=False)

    async def forward(self) -> None:
        """Let the server have the request."""
        await self._server.send(self.request)

    async def answered(self) -> bytes:
        """Return the server's whole answer, or what there was of it when the server went."""
        await self._answered.wait()
        return bytes(self._answer)

    async def reply(self, data: bytes) -> None:
        """Let the client have it."""
        await self._client.send(data)

    def cut(self) -> None:
        """Close the connection to the client. The server's stays until this round trip is over."""
        self._client.cut()

    def take(self, message: bytes) -> bool:
        """Take in a part of the answer; return whether it was the last."""
        self._answer += message
        if message[:1] == b"Z":
            self._answered.set()
        return self._answered.is_set()

    def give_up(self) -> None:
        """There will be no more of the answer."""
        self._answered.set()


Fault: TypeAlias = Callable[[RoundTrip], Awaitable[None]]


async def no_fault(trip: RoundTrip) -> None:
    """What is usual."""
    await trip.forward()
    await trip.reply(await trip.answered())


async def lose_request(trip: RoundTrip) -> None:
    """Cut the connection; the server never gets the request."""
    trip.cut()


async def lose_answer(trip: RoundTrip) -> None:
    """Cut the connection once the server has done what was asked."""
    await trip.forward()
    await trip.answered()
    trip.cut()


async def cut_answer(trip: RoundTrip) -> None:
    """Cut the connection in the middle of the answer."""
    await trip.forward()
    answer = await trip.answered()
    await trip.reply(answer[: len(answer) // 2])
    trip.cut()


async def black_hole(trip: RoundTrip) -> None:
    """Swallow the request, and keep the connection open."""
    await trio.sleep_forever()


async def swallow_answer(trip: RoundTrip) -> None:
    """Have the server do it, tell the client nothing, and keep the connection open."""
    await trip.forward()
    await trio.sleep_forever()


def held_answer(until: trio.Event) -> Fault:
    """Have the server do it; the client waits for its answer."""

    async def hold(trip: RoundTrip) -> None:
        await trip.forward()
        answer = await trip.answered()
        await until.wait()
        await trip.reply(answer)

    return hold


def late_request(until: trio.Event, *, done: trio.Event) -> Fault:
    """Cut the connection; the server gets the request much later, and does what was asked."""

    async def hold(trip: RoundTrip) -> None:
        trip.cut()
        await until.wait()
        await trip.forward()
        await trip.answered()
        done.set()

    return hold


@attrs.define(eq=False)
class Proxy:
    """Stands before a server. Faults come one by one, in the order in which they were armed."""

    server_url: str
    folder: Path
    trips: int = 0
    _armed: list[tuple[Callable[[RoundTrip], bool], Fault]] = attrs.field(factory=list)
    _open: set[Wire] = attrs.field(factory=set)
    _struck: trio.Event = attrs.field(factory=trio.Event)
    _away: bool = False

    @property
    def url(self) -> str:
        """The database's URL by way of the proxy."""
        return url_by_way_of(self.folder, self.server_url)

    def arm(self, fault: Fault, on: str | int = "") -> None:
        """Have a fault happen to the next round trip with this text, or of this number."""
        self._struck = trio.Event()
        if isinstance(on, int):
            self._armed.append((lambda trip: trip.number == on, fault))
        else:
            self._armed.append((lambda trip: on in trip.text, fault))

    @property
    def armed(self) -> bool:
        """Whether a fault has yet to happen."""
        return bool(self._armed)

    async def struck(self) -> None:
        """Wait until all faults have begun."""
        await self._struck.wait()

    def refuse(self) -> None:
        """Cut off everybody, and whoever comes from now on, as if the server were gone."""
        self._away = True
        self.cut_all()

    def accept(self) -> None:
        """Take clients again."""
        self._away = False

    def cut_all(self) -> None:
        """Cut every connection that is open now."""
        for wire in list(self._open):
            wire.cut()

    async def serve(self, stream: trio.SocketStream) -> None:
        """Serve one client."""
        client = Wire(stream)
        if self._away:
            client.cut()
            return
        self._open.add(client)
        try:
            async with await connect(self.server_url) as connected:
                await self._session(client, Wire(connected))
        except OSError:
            pass  # there is no server: the client is told by being cut off
        finally:
            self._open.discard(client)
            client.cut()

    async def _session(self, client: Wire, server: Wire) -> None:
        await server.send(await client.startup())
        backend = await self._log_in(client, server)
        if backend is None:
            return
        session = _Session(self, backend, client, server)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(session.hear, nursery)
            await session.ask()
            nursery.cancel_scope.cancel()

    async def _log_in(self, client: Wire, server: Wire) -> int | None:
        """Pass on what is said until the server is ready; return its process id."""
        backend = 0
        while message := await server.message():
            await client.send(message)
            kind, body = message[:1], message[5:]
            if kind == b"K":
                (backend,) = LENGTH.unpack_from(body)
            elif kind == b"Z":
                return backend
            elif kind == b"R" and body[:4] not in _NOTHING_ASKED:
                await server.send(await client.message())
        return None

    def fault_for(self, trip: RoundTrip) -> Fault:
        """Take the fault that is meant for this round trip."""
        for number, (meant, fault) in enumerate(self._armed):
            if meant(trip):
                del self._armed[number]
                if not self._armed:
                    self._struck.set()
                return fault
        return no_fault


@attrs.define(eq=False)
class _Session:
    """One connection after its login."""

    proxy: Proxy
    backend: int
    client: Wire
    server: Wire
    _trip: RoundTrip | None = attrs.field(default=None, init=False)
    _prepared: dict[bytes, str] = attrs.field(factory=dict, init=False)

    async def ask(self) -> None:
        """Pass on requests until the client leaves."""
        request, texts = b"", list[str]()
        while message := await self.client.message():
            request += message
            texts.append(self._text(message))
            if message[:1] == b"X":
                await self.server.send(request)
                return
            if message[:1] in b"SQ":
                await self._travel(request, "; ".join(dict.fromkeys(filter(None, texts))))
                request, texts = b"", []

    async def _travel(self, request: bytes, text: str) -> None:
        self.proxy.trips += 1
        trip = RoundTrip(self.proxy.trips, self.backend, text, request, self.client, self.server)
        self._trip = trip
        await self.proxy.fault_for(trip)(trip)
        self._trip = None

    async def hear(self, nursery: trio.Nursery) -> None:
        """Take in what the server says: answers, and what comes unasked."""
        while message := await self.server.message():
            if self._trip is None:
                await self.client.send(message)
            else:
                self._trip.take(message)
        if self._trip is not None:
            self._trip.give_up()
        self.client.cut()

    def _text(self, message: bytes) -> str:
        """Return the SQL that a message is about."""
        kind, body = message[:1], message[5:]
        if kind == b"Q":
            return body.rstrip(b"\0").decode()
        if kind == b"P":
            name, text = body.split(b"\0")[:2]
            self._prepared[name] = text.decode()
        if kind == b"B":
            return self._prepared.get(body.split(b"\0")[1], "")
        return ""


@asynccontextmanager
async def open_proxy(server_url: str) -> AsyncGenerator[Proxy]:
    """Run a proxy before the server of this URL."""
    with socket_folder() as folder:
        proxy = Proxy(server_url, folder)
        async with serving(folder, proxy.serve):
            yield proxy
