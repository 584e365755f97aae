"""The world outside: a process of its own that counts effects and honours keys.

One request a connection, as lines of JSON over a Unix socket.
A process that is killed may leave requests that nobody has read yet. They still happen: before
the counter tells its tally it reads every other connection to its end.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import socket
from contextlib import suppress
from pathlib import Path
from typing import Any

import attrs
import trio

from rainengine.core.abc import NotStarted, Reconciliation, Settled, SkillInvocation
from rainengine.core.errors import EffectNotApplied
from rainengine.core.records import JsonValue
from rainengine.core.testing import Deeds

_BUFFER = 65_536


@attrs.define
class Counter:
    """Serves one connection's bytes at a time; it never returns."""

    deeds: Deeds = attrs.field(factory=Deeds)
    pending: dict[socket.socket, bytes] = attrs.field(factory=dict)

    def serve(self, listener: socket.socket) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(listener, selectors.EVENT_READ)
            while True:
                for key, _ in selector.select():
                    if key.fileobj is listener:
                        connection, _ = listener.accept()
                        self.pending[connection] = b""
                        selector.register(connection, selectors.EVENT_READ, connection)
                        continue
                    connection = key.data
                    if connection in self.pending and self._read(connection):
                        continue
                    selector.unregister(connection)
                    connection.close()

    def _read(self, connection: Any) -> bool:
        """Take in what came; False once the other side has gone."""
        try:
            data = connection.recv(_BUFFER)
        except ConnectionError:
            data = b""
        if not data:
            del self.pending[connection]
            return False
        *lines, self.pending[connection] = (self.pending[connection] + data).split(b"\n")
        for line in lines:
            answer = json.dumps(self._answer(json.loads(line), connection))
            with suppress(ConnectionError):  # it asked and died
                connection.sendall(answer.encode() + b"\n")
        return True

    def _answer(self, request: dict[str, Any], asking: socket.socket) -> JsonValue:
        act, deeds = request["act"], self.deeds
        if act in {"tally", "reset"}:
            self._finish_others(asking)
            tally: JsonValue = dict(deeds.counts)
            if act == "reset":
                self.deeds = Deeds()
            return tally
        call, key, age = request["call"], request["key"], tuple(request["age"])
        if act == "apply":
            deeds.apply(call, key)
            return True
        return deeds.strike(call, key, age) if act == "strike" else deeds.look_up(key, age)

    def _finish_others(self, asking: socket.socket) -> None:
        for connection in [other for other in self.pending if other is not asking]:
            while self._read(connection):
                pass


def start_counter(path: Path) -> int:
    """Start a counter in a process of its own, listening at `path`; return its process id."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen(64)
    pid = os.fork()
    if not pid:
        try:
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            Counter().serve(listener)
        finally:
            os._exit(1)
    listener.close()
    return pid


def ask_counter(path: Path, act: str) -> dict[str, int]:
    """Ask for the tally of effects; `reset` also begins a new one."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(path))
        connection.sendall(json.dumps({"act": act}).encode() + b"\n")
        data = b""
        while not data.endswith(b"\n"):
            data += connection.recv(_BUFFER)
    tally: dict[str, int] = json.loads(data)
    return tally


@attrs.frozen
class RemoteReceiver:
    """A `rainengine.core.testing.Receiver` that asks the counter."""

    path: Path

    async def apply(self, invocation: SkillInvocation) -> JsonValue:
        await self._ask("apply", invocation)
        return _answer_to(invocation)

    async def strike(self, invocation: SkillInvocation) -> JsonValue:
        if not await self._ask("strike", invocation):
            raise EffectNotApplied("a newer holder has shut out this attempt")
        return _answer_to(invocation)

    async def look_up(self, invocation: SkillInvocation) -> Reconciliation:
        done = await self._ask("look_up", invocation)
        return Settled(_answer_to(invocation)) if done else NotStarted()

    async def _ask(self, act: str, invocation: SkillInvocation) -> JsonValue:
        request = {
            "act": act,
            "call": f"{invocation.context.graph_id}/{invocation.call_id}",
            "key": invocation.idempotency_key,
            "age": [invocation.context.fence, invocation.attempt],
        }
        async with await trio.open_unix_socket(str(self.path)) as stream:
            await stream.send_all(json.dumps(request).encode() + b"\n")
            data = b""
            while not data.endswith(b"\n"):
                more = await stream.receive_some(_BUFFER)
                if not more:
                    raise ConnectionError("the counter hung up")
                data += more
        answer: JsonValue = json.loads(data)
        return answer


def _answer_to(invocation: SkillInvocation) -> JsonValue:
    return {"did": invocation.name, "args": invocation.args}
