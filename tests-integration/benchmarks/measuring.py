"""Clocks and counters of this process, and how fast the machine is right now."""

from __future__ import annotations

import os
import resource
import sys
import time
from pathlib import Path

import attrs
import trio

REFERENCE_SECONDS = 0.3


@attrs.frozen
class Usage:
    """What this process, all its threads, has used up to now."""

    at_s: float
    cpu_s: float
    written_bytes: int

    @classmethod
    def now(cls) -> Usage:
        used = resource.getrusage(resource.RUSAGE_SELF)
        return cls(time.perf_counter(), used.ru_utime + used.ru_stime, _written_bytes())


def _written_bytes() -> int:
    try:
        lines = Path("/proc/self/io").read_text().splitlines()
    except OSError:
        return 0
    return next(int(line.split()[1]) for line in lines if line.startswith("write_bytes:"))


def peak_rss_mb() -> float:
    """The largest resident set of this process so far."""
    try:
        # Not `ru_maxrss`, which knows that of the process that started this one.
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) / 1024
    except OSError:
        unit = 2**20 if sys.platform == "darwin" else 2**10
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def percentile(values: list[float], share: float) -> float:
    """The value that this share of the values does not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


@attrs.define
class LoopGap:
    """The longest that the event loop kept a task waiting that was due to run."""

    longest_ms: float = 0.0

    async def watch(self, interval_s: float = 0.005) -> None:
        while True:
            due = trio.current_time() + interval_s
            await trio.sleep_until(due)
            self.longest_ms = max(self.longest_ms, (trio.current_time() - due) * 1000)


def fsyncs_per_s(directory: Path, seconds: float = REFERENCE_SECONDS) -> float:
    """How often 4 KiB can be appended to a file and made durable."""
    path = directory / f"fsync-{os.getpid()}.bin"
    sync = getattr(os, "fdatasync", os.fsync)
    count = 0
    with path.open("wb", buffering=0) as file:
        began = time.perf_counter()
        while (elapsed := time.perf_counter() - began) < seconds:
            file.write(b"x" * 4096)
            sync(file.fileno())
            count += 1
    path.unlink()
    return count / elapsed


def cpu_reference_s() -> float:
    """Seconds that a fixed loop takes, best of three: how fast the cores are right now."""
    return min(_loop_s() for _ in range(3))


def _loop_s() -> float:
    began, total = time.perf_counter(), 0
    for number in range(1_000_000):
        total += number & 7
    return time.perf_counter() - began
