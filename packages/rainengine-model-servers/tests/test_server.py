"""The base: HTTP on the loopback interface, and every way of breaking it."""

from __future__ import annotations

import httpx2
import pytest
import trio

from rainengine.model_servers import (
    Cut,
    Hang,
    Move,
    Pause,
    Reply,
    Request,
    Reset,
    Send,
    Sending,
    SendUnframed,
    Until,
    broken_off,
    dribbled,
    held,
    open_server,
    paced,
)

EVENTS = ("data: one", "data: two", "data: three")
WHOLE = b"".join(event.encode() + b"\n\n" for event in EVENTS)


def _events(sending: Sending | None = None) -> Reply:
    reply = Reply.of_events(EVENTS)
    moves = tuple(reply.moves)
    return Reply(headers=reply.headers, moves=moves if sending is None else sending(moves))


async def _received(url: str) -> tuple[bytes, str]:
    """Read a stream; return what came, and how it ended."""
    came = b""
    try:
        async with httpx2.AsyncClient() as client, client.stream("GET", url) as response:
            async for piece in response.aiter_raw():
                came += piece
    except httpx2.TransportError as error:
        return came, type(error).__name__
    return came, "end"


async def test_a_request_is_recorded() -> None:
    """Method, path, query, headers and body of a request can be read afterwards."""
    async with open_server(lambda _: Reply.of_json({"a": 1})) as server:
        async with httpx2.AsyncClient() as client:
            response = await client.post(f"{server.url}/x/y?k=v", json=[1], headers={"X-Who": "me"})
        assert (response.status_code, response.json()) == (200, {"a": 1})
        (request,) = server.requests
    assert (request.method, request.path, request.query) == ("POST", "/x/y", {"k": "v"})
    assert (request.headers["x-who"], request.json) == ("me", [1])


async def test_connections_are_kept_and_counted() -> None:
    """Requests of one client share a connection, which counts until it is closed."""
    async with open_server(lambda _: Reply.of_json(None)) as server:
        async with httpx2.AsyncClient() as client:
            for _ in range(3):
                await client.get(server.url)
            assert (server.open_connections, len(server.requests)) == (1, 3)
        await server.until(lambda it: it.open_connections == 0)


async def test_a_handler_may_wait() -> None:
    """A handler may be asynchronous, and clients are served side by side meanwhile."""
    gate = trio.Event()

    async def handler(request: Request) -> Reply:
        if request.path == "/slow":
            await gate.wait()
        return Reply.of_json(request.path)

    async with (
        open_server(handler) as server,
        httpx2.AsyncClient() as client,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(client.get, f"{server.url}/slow")
        await server.until(lambda it: it.replying == 1)
        assert (await client.get(f"{server.url}/fast")).json() == "/fast"
        gate.set()


async def test_what_a_handler_raises_is_not_hidden() -> None:
    """A mistake in a handler ends the block of the server, and so the test."""

    def handler(request: Request) -> Reply:
        raise LookupError(request.path)

    with pytest.RaisesGroup(LookupError, flatten_subgroups=True, allow_unwrapped=True):
        async with open_server(handler) as server:
            await _received(server.url)


SENDINGS: dict[str, tuple[Sending, bytes, str]] = {
    "paced": (paced(0.001), WHOLE, "end"),
    "a byte at a time": (dribbled(), WHOLE, "end"),
    "cut": (broken_off(after=1), b"data: one\n\n", "RemoteProtocolError"),
    "cut within an event": (
        broken_off(Send(b"data: t"), Cut(), after=1),
        b"data: one\n\ndata: t",
        "RemoteProtocolError",
    ),
    "reset": (broken_off(Reset(), after=1), b"", "ReadError"),
    "a broken chunk": (
        broken_off(SendUnframed(b"zz\r\nno chunk"), Cut(), after=1),
        b"data: one\n\n",
        "RemoteProtocolError",
    ),
    "no answer": (broken_off(), b"", "RemoteProtocolError"),
}


@pytest.mark.parametrize(("sending", "wanted", "ending"), SENDINGS.values(), ids=SENDINGS)
async def test_ways_of_sending(sending: Sending, wanted: bytes, ending: str) -> None:
    """A stream arrives as it is sent: slowly, in part, or broken."""
    async with open_server(lambda _: _events(sending)) as server:
        came, end = await _received(server.url)
    assert end == ending
    # A reset may overtake what was sent before it.
    assert came == wanted or (ending == "ReadError" and WHOLE.startswith(came))


async def test_held() -> None:
    """A stream goes no further than its test allows."""
    gate, came = trio.Event(), b""
    async with (
        open_server(lambda _: _events(held(gate, after=2))) as server,
        httpx2.AsyncClient() as client,
        client.stream("GET", server.url) as response,
    ):
        async for piece in response.aiter_raw():
            came += piece
            assert gate.is_set() or b"three" not in came
            if came.endswith(b"two\n\n"):
                gate.set()
    assert came == WHOLE


WAITING: dict[str, Move] = {"hang": Hang(), "pause": Pause(3600), "until": Until(trio.Event())}


@pytest.mark.parametrize("move", WAITING.values(), ids=WAITING)
async def test_a_client_that_hangs_up_is_noticed(move: Move) -> None:
    """Whatever the server waits for, it ends the reply when its client is gone."""
    async with open_server(lambda _: Reply(moves=(Send(b"x"), move))) as server:
        with trio.CancelScope() as scope:
            async with httpx2.AsyncClient() as client, client.stream("GET", server.url):
                assert (server.replying, server.open_connections) == (1, 1)
                scope.cancel()
        await server.until(lambda it: (it.replying, it.open_connections) == (0, 0))


async def test_a_head_can_be_late() -> None:
    """Moves before the first bytes delay the head itself."""
    gate = trio.Event()
    reply = Reply(status=418, moves=(Until(gate), Send(b"x")))
    async with open_server(lambda _: reply) as server, httpx2.AsyncClient() as client:
        with trio.move_on_after(0.05):
            await client.get(server.url)
            pytest.fail("the head came too early")
        gate.set()
        assert (await client.get(server.url)).status_code == 418


async def test_leaving_the_block_ends_the_server() -> None:
    """After the block nobody answers, whatever was under way."""
    hanging = Reply(moves=(Hang(),))
    async with trio.open_nursery() as nursery, open_server(lambda _: hanging) as server:
        nursery.start_soon(_received, server.url)
        await server.until(lambda it: it.replying == 1)
    assert await _received(server.url) == (b"", "ConnectError")
