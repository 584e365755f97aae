"""Forks the members of a fleet; see `testbed.fleet`.

Orders come as lines of JSON; what becomes of each member goes back in the same way:
its process id, its reports, its status. All of them write to one pipe, a line at a time.
"""

from __future__ import annotations

import json
import os
import select
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from testbed import roles

_BUFFER = 1 << 16


def say(**facts: Any) -> None:
    """Write a line, whole."""
    line = json.dumps(facts).encode() + b"\n"
    if len(line) > select.PIPE_BUF:
        raise ValueError(f"a report of {len(line)} bytes could be torn")
    os.write(1, line)


class Foreman:
    """Starts members and tells how they end."""

    def __init__(self) -> None:
        self._names: dict[int, str] = {}

    def start(self, order: dict[str, Any]) -> None:
        name = order["name"]
        if threading.active_count() > 1:
            raise RuntimeError("this process runs threads and must not fork")
        pid = os.fork()
        if not pid:
            _be(name, getattr(roles, order["role"]), order["job"])
        self._names[pid] = name
        say(name=name, pid=pid)

    def reap(self) -> None:
        while self._names:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if not pid:
                return
            say(name=self._names.pop(pid), status=os.waitstatus_to_exitcode(status))

    def end(self) -> None:
        for pid in self._names:
            os.kill(pid, signal.SIGKILL)
        for pid in self._names:
            os.waitpid(pid, 0)


def _be(name: str, role: Callable[..., None], job: dict[str, Any]) -> None:
    status = 1
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        role(lambda report: say(name=name, report=report), **job)
        status = 0
    except BaseException:  # noqa: BLE001 - nothing is above this
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)


def main() -> None:
    """Follow orders until there are no more."""
    foreman, data = Foreman(), b""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    signal.set_wakeup_fd(writing)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    try:
        while True:
            ready, _, _ = select.select([0, reading], [], [])
            if reading in ready:
                os.read(reading, _BUFFER)
                foreman.reap()
            if 0 in ready:
                more = os.read(0, _BUFFER)
                if not more:
                    return
                *lines, data = (data + more).split(b"\n")
                for line in lines:
                    foreman.start(json.loads(line))
    finally:
        with suppress(BrokenPipeError):
            foreman.end()


if __name__ == "__main__":
    main()
