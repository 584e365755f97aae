"""Ends a server and removes its folder as soon as the process that started it is gone.

A script of its own, run beside each server: nobody else is left when a test run is killed.
Its standard input is a pipe whose other end closes with that process, whatever ended it.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path

PATIENCE_S = 5.0


def remove(folder: Path) -> None:
    """End the server in `folder`, at once, and delete everything."""
    data = (folder / "data").resolve()
    with suppress(FileNotFoundError, IndexError, ProcessLookupError):
        _end(data / "postmaster.pid")
    for place in (data, folder):
        shutil.rmtree(place, ignore_errors=True)


def _end(lock: Path) -> None:
    pid = int(lock.read_text().split()[0])
    os.kill(pid, signal.SIGQUIT)
    until = time.monotonic() + PATIENCE_S
    while lock.exists():
        if time.monotonic() > until:
            os.kill(pid, signal.SIGKILL)
            return
        time.sleep(0.01)


if __name__ == "__main__":
    sys.stdin.buffer.read()
    remove(Path(sys.argv[1]))
