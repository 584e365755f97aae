"""Processes that work on one database, and can be killed, stopped and started again.

A foreman imports everything once and then forks: a member starts in milliseconds.
It runs no thread, so that forking is safe, and kills all members when the test is gone.

A role is a function in `testbed.roles`, called with its job and with a function that reports.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from typing import Any

import attrs
import trio

from testbed.processes import environment

_BUFFER = 1 << 16
_MANY = 1 << 20


@attrs.define(eq=False)
class Member:
    """A process of the fleet."""

    name: str
    pid: int = 0
    status: int | None = None
    _started: trio.Event = attrs.field(factory=trio.Event, init=False)
    _over: trio.Event = attrs.field(factory=trio.Event, init=False)
    _send: trio.MemorySendChannel[Any] = attrs.field(init=False)
    _reports: trio.MemoryReceiveChannel[Any] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._send, self._reports = trio.open_memory_channel[Any](_MANY)

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal; it may have ended already."""
        if self.status is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    async def kill(self) -> None:
        """Kill it by SIGKILL, and return once it is gone."""
        self.signal(signal.SIGKILL)
        await self._over.wait()

    async def report(self) -> Any:
        """Return its next report. Raises `AssertionError` where it ended without one."""
        try:
            return await self._reports.receive()
        except trio.EndOfChannel:
            raise AssertionError(f"{self.name} ended with {self.status}") from None

    def reports(self) -> list[Any]:
        """Return the reports that have come and not been taken."""
        taken = []
        with suppress(trio.WouldBlock, trio.EndOfChannel):
            while True:
                taken.append(self._reports.receive_nowait())
        return taken

    async def ended(self) -> int:
        """Wait for its end; return its exit status, negative for a signal."""
        await self._over.wait()
        assert self.status is not None
        return self.status

    async def result(self) -> Any:
        """Wait for its end; return its last report. Raises `AssertionError` where it failed."""
        status = await self.ended()
        reports = self.reports()
        assert status == 0, (self.name, status, reports[-1:])
        return reports[-1]

    def take(self, said: dict[str, Any]) -> None:
        """Take in what the foreman said of it."""
        if "pid" in said:
            self.pid = said["pid"]
            self._started.set()
        elif "status" in said:
            self.status = said["status"]
            self._send.close()
            self._over.set()
        else:
            self._send.send_nowait(said["report"])

    async def running(self) -> None:
        """Wait until it has a process id."""
        await self._started.wait()


@attrs.define(eq=False)
class Fleet:
    """All members."""

    _process: trio.Process
    _members: dict[str, Member] = attrs.field(factory=dict, init=False)

    async def start(self, role: str, **job: Any) -> Member:
        """Start a process in a role."""
        name = f"{role}-{len(self._members) + 1}"
        member = self._members[name] = Member(name)
        order = json.dumps({"name": name, "role": role, "job": job})
        assert self._process.stdin is not None
        await self._process.stdin.send_all(order.encode() + b"\n")
        await member.running()
        return member

    async def listen(self) -> None:
        """Take in what the foreman says."""
        assert self._process.stdout is not None
        data = b""
        async for more in self._process.stdout:
            *lines, data = (data + more).split(b"\n")
            for line in lines:
                said = json.loads(line)
                self._members[said.pop("name")].take(said)


@asynccontextmanager
async def open_fleet() -> AsyncGenerator[Fleet]:
    """Start a foreman; leaving the block kills every member that still runs."""
    command = [sys.executable, "-m", "testbed.foreman"]
    process = await trio.lowlevel.open_process(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment()
    )
    fleet = Fleet(process)
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(fleet.listen)
            yield fleet
            nursery.cancel_scope.cancel()
    finally:
        with trio.CancelScope(shield=True):
            assert process.stdin is not None
            await process.stdin.aclose()
            await process.wait()
            assert process.stdout is not None
            await process.stdout.aclose()
