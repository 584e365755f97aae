"""A store that another process has opened: each call goes there and back through pipes.

It is as good as the store itself, cancellation included: that of a call is passed on, and
delivered here once the other process has seen to it.
The process outlives the store: to start one takes longer than most tests.
"""

from __future__ import annotations

import os
import pickle
import struct
import subprocess
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from itertools import count
from typing import Any

import attrs
import trio

from rainengine.core.abc import DEFAULT_TENANT
from rainengine.store_pg import PostgresSettings, open_postgres_ledger
from testbed.processes import environment

_LENGTH = struct.Struct(">I")
_BUFFER = 1 << 16


@attrs.define
class _Messages:
    """Pickled values, one after the other, in both directions."""

    outgoing: trio.abc.SendStream
    incoming: trio.abc.ReceiveStream
    _turn: trio.Lock = attrs.field(factory=trio.Lock, init=False)
    _received: bytearray = attrs.field(factory=bytearray, init=False)

    async def send(self, message: object) -> None:
        data = pickle.dumps(message)
        async with self._turn:
            with trio.CancelScope(shield=True):  # half a message would be the end of all others
                await self.outgoing.send_all(_LENGTH.pack(len(data)) + data)

    def __aiter__(self) -> _Messages:
        return self

    async def __anext__(self) -> Any:
        length = await self._take(_LENGTH.size)
        if not length:
            raise StopAsyncIteration
        return pickle.loads(await self._take(*_LENGTH.unpack(length)))

    async def _take(self, size: int) -> bytes:
        """Return so many bytes; none at the end."""
        while len(self._received) < size:
            more = await self.incoming.receive_some(_BUFFER)
            if not more:
                return b""
            self._received += more
        taken = bytes(self._received[:size])
        del self._received[:size]
        return taken


@attrs.define
class _Line:
    """Asks, and hears the answers."""

    messages: _Messages
    nursery: trio.Nursery
    _numbers: count[int] = attrs.field(factory=count, init=False)
    _asked: dict[int, trio.Event] = attrs.field(factory=dict, init=False)
    _answers: dict[int, Any] = attrs.field(factory=dict, init=False)

    async def ask(self, tenant: str, method: str, *args: Any, **options: Any) -> Any:
        number = next(self._numbers)
        answered = self._asked[number] = trio.Event()
        await self.messages.send((number, tenant, method, args, options))
        try:
            await answered.wait()
        except trio.Cancelled:
            with trio.CancelScope(shield=True):
                await self.messages.send((number, None))
                await answered.wait()
            raise
        value, error = self._answers.pop(number)
        if error is not None:
            raise _unpacked(*error)
        return value

    async def listen(self) -> None:
        """Hand out answers until the store is closed."""
        async for number, *answer in self.messages:
            if number is None:
                return
            self._answers[number] = answer
            self._asked.pop(number).set()
        raise ConnectionError("the other process is gone")


def _asked(method: str) -> Any:
    async def ask(self: RemoteLedger, *args: Any, **options: Any) -> Any:
        return await self.line.ask(self.tenant, method, *args, **options)

    return ask


@attrs.frozen
class RemoteLedger:
    """A tenant's ledger in the other process."""

    tenant: str
    max_payload_bytes: int
    line: _Line

    append = _asked("append")
    read = _asked("read")
    head = _asked("head")
    list_sessions = _asked("list_sessions")
    find_outcome = _asked("find_outcome")
    lease_of = _asked("lease_of")
    heartbeat = _asked("heartbeat")
    release = _asked("release")
    load_snapshot = _asked("load_snapshot")
    wait_past = _asked("wait_past")
    read_encoded = _asked("read_encoded")

    def offer_snapshot(self, *args: Any) -> None:
        self.line.nursery.start_soon(self.line.ask, self.tenant, "offer_snapshot", *args)


@attrs.frozen
class RemoteStore(RemoteLedger):
    """All tenants' ledgers in the other process."""

    _handles: dict[str, RemoteLedger] = attrs.field(factory=dict, init=False)

    due = _asked("due")
    claim = _asked("claim")
    settle = _asked("settle")
    dead_letters = _asked("dead_letters")
    redrive = _asked("redrive")
    discard_delivered = _asked("discard_delivered")

    def for_tenant(self, tenant: str) -> RemoteLedger:
        new = RemoteLedger(tenant, self.max_payload_bytes, self.line)
        return self._handles.setdefault(tenant, new)


@attrs.define
class OtherProcess:
    """A process that opens stores, one at a time."""

    _process: subprocess.Popen[bytes] | None = attrs.field(default=None, init=False)

    @asynccontextmanager
    async def open(self, url: str, settings: PostgresSettings) -> AsyncGenerator[RemoteStore]:
        """Open a PostgreSQL ledger there."""
        async with self._messages() as messages, trio.open_nursery() as nursery:
            await messages.send((url, settings))
            largest = await anext(messages)
            line = _Line(messages, nursery)
            nursery.start_soon(line.listen)
            try:
                yield RemoteStore(DEFAULT_TENANT, largest, line)
            finally:
                with trio.CancelScope(shield=True):
                    await messages.send(None)

    @asynccontextmanager
    async def _messages(self) -> AsyncGenerator[_Messages]:
        process = self._started()
        assert process.stdin is not None
        assert process.stdout is not None
        async with (
            trio.lowlevel.FdStream(os.dup(process.stdin.fileno())) as outgoing,
            trio.lowlevel.FdStream(os.dup(process.stdout.fileno())) as incoming,
        ):
            yield _Messages(outgoing, incoming)

    def _started(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            command = [sys.executable, "-m", "testbed.remote"]
            self._process = subprocess.Popen(command, stdin=-1, stdout=-1, env=environment())
        return self._process

    def end(self) -> None:
        """End it."""
        if self._process is not None:
            self._process.communicate()


# In the other process.


@attrs.define
class _Server:
    messages: _Messages
    store: Any
    under_way: dict[int, trio.CancelScope] = attrs.field(factory=dict)

    async def serve(self) -> None:
        async with trio.open_nursery() as nursery:
            async for request in self.messages:
                if request is None:
                    break
                number, tenant, *call = request
                if tenant is None:
                    self.under_way[number].cancel()
                    continue
                self.under_way[number] = trio.CancelScope()
                nursery.start_soon(self._answer, number, tenant, call)
            nursery.cancel_scope.cancel()
        await self.messages.send((None,))

    async def _answer(self, number: int, tenant: str, call: Any) -> None:
        answer: tuple[Any, Any] = (None, None)
        with self.under_way[number]:
            try:
                answer = await self._call(tenant, *call), None
            except Exception as error:  # noqa: BLE001 - whatever it is, the other side has it
                answer = None, (type(error), error.args, vars(error))
        await self.messages.send((number, *answer))

    async def _call(self, tenant: str, method: str, args: Any, options: Any) -> Any:
        target = self.store if hasattr(RemoteStore, method) else None
        if hasattr(RemoteLedger, method):
            target = self.store.for_tenant(tenant)
        found = getattr(target, method)(*args, **options)
        return await found if hasattr(found, "__await__") else found


def _unpacked(kind: type[Exception], args: tuple[Any, ...], facts: dict[str, Any]) -> Exception:
    error = kind.__new__(kind, *args)
    vars(error).update(facts)
    return error


async def _main() -> None:
    messages = _Messages(trio.lowlevel.FdStream(os.dup(1)), trio.lowlevel.FdStream(os.dup(0)))
    async for url, settings in messages:
        async with open_postgres_ledger(url, settings=settings) as store:
            await messages.send(store.max_payload_bytes)
            await _Server(messages, store).serve()


if __name__ == "__main__":
    trio.run(_main)
