"""Connections that another thread can end."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import requests
import trio

from rainengine.model_servers import Hang, Reply, Request, Send, Until, open_server
from rainengine.provider_gemini._lines import HungUp, Line, LineAdapter, current_line


@pytest.fixture
def session() -> Iterator[requests.Session]:
    """A session whose connections are on lines."""
    with requests.Session() as made:
        made.mount("http://", LineAdapter(connections=1))
        yield made


def get(session: requests.Session, line: Line, url: str) -> bytes:
    """Make a call on a line."""
    current_line.set(line)
    return session.get(url, timeout=10).content


async def test_line_belongs_to_one_call_at_a_time(session: requests.Session) -> None:
    """A connection that serves another call now is not shut down for the one before it."""
    gate = trio.Event()

    def reply(request: Request) -> Reply:
        moves = [Send(b"a"), Until(gate), Send(b"b")] if request.path == "/slow" else [Send(b"x")]
        return Reply(moves=moves)

    first, second = Line(), Line()
    came: list[bytes] = []

    async def ask_slowly(url: str) -> None:
        came.append(await trio.to_thread.run_sync(get, session, second, f"{url}/slow"))

    async with open_server(reply) as server:
        await trio.to_thread.run_sync(get, session, first, server.url)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask_slowly, server.url)
            await server.until(lambda it: it.replying == 1)
            assert 1 == server.open_connections  # it is the same one
            first.hang_up()
            gate.set()
    assert [b"ab"] == came


async def test_hanging_up_wakes_the_thread(session: requests.Session) -> None:
    """A thread that waits for a server fails at once when its line is hung up."""
    line = Line()
    async with open_server(lambda _: Reply(moves=[Hang()])) as server:
        with trio.fail_after(2):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_refused, session, line, server.url)
                await server.until(lambda it: it.replying == 1)
                line.hang_up()
            await server.until(lambda it: it.open_connections == 0)


async def _refused(session: requests.Session, line: Line, url: str) -> None:
    with pytest.raises(requests.ConnectionError):
        await trio.to_thread.run_sync(get, session, line, url)


async def test_call_on_a_line_that_is_hung_up_sends_nothing(session: requests.Session) -> None:
    """Hung up before it was connected, a call sends no request."""
    line = Line()
    line.hang_up()
    async with open_server(lambda _: Reply()) as server:
        with pytest.raises(requests.ConnectionError) as caught:
            await trio.to_thread.run_sync(get, session, line, server.url)
    assert [] == server.requests
    assert HungUp.__name__ in repr(caught.value) or "cancelled" in str(caught.value)
