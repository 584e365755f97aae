"""Processes that live on one database, and die of a trap.

Each is forked from a parent that has imported everything and runs no thread, before `trio.run`.
It reports through a pipe, event by event, so that its parent knows what it had been told
when it died.
"""

from __future__ import annotations

import os
import pickle
import resource
import select
import signal
import sqlite3
import struct
import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Literal, TypeAlias

import attrs
import trio
from counter import RemoteReceiver

from rainengine.core import SystemClock
from rainengine.core.testing import Account, Event, Process, Witness, Workload, account_of
from rainengine.store_sqlite import open_sqlite_ledger

DEADLINE_S = 60.0
_LENGTH = struct.Struct(">I")

Kind: TypeAlias = Literal["step", "statement", "size", "time"]


@attrs.frozen
class Trap:
    """What a process dies of.

    `step`: SIGKILL before trio's scheduler takes its step number `at`.
    `statement`: SIGKILL before (even) or after (odd) the SQL statement number `at // 2`.
    `size`: SIGXFSZ as soon as a file grows beyond `at` bytes, which is in the middle of a write
    to the write-ahead log, whole up to that byte.
    `time`: SIGKILL after `at` microseconds.
    """

    kind: Kind
    at: int

    def __str__(self) -> str:
        return f"{self.kind} {self.at}"


@attrs.frozen
class Done:
    """A process got through: its answers, and what the ledger and its database tell in the end."""

    answers: Sequence[Any]
    accounts: Sequence[Account]
    effects: Mapping[str, int]
    steps: int
    statements: int
    largest: int


@attrs.frozen
class Life:
    """How one process lived: what it reported, how it ended, for how long it ran."""

    events: Sequence[Event]
    done: Done | None
    error: str | None
    killed: bool
    lasted_s: float


@attrs.define(eq=False)
class _Steps(trio.abc.Instrument):
    """Counts the scheduler's steps, and kills at one of them."""

    fatal: int
    taken: int = 0

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self.taken += 1
        if self.taken == self.fatal:
            _die()


class _Statements:
    """Counts the statements of all of sqlite3's connections, and kills at one of them."""

    def __init__(self, fatal: int | None) -> None:
        self.begun = 0
        self._lock = threading.Lock()
        before, after = (None, None) if fatal is None else divmod(fatal, 2)
        count = self._count
        connect = sqlite3.connect

        class Connection(sqlite3.Connection):
            def execute(self, *args: Any) -> sqlite3.Cursor:
                number = count()
                if number == before and not after:
                    _die()
                cursor = super().execute(*args)
                if number == before:
                    _die()
                return cursor

        def connecting(*args: Any, **kwargs: Any) -> sqlite3.Connection:
            return connect(*args, **{"factory": Connection, **kwargs})

        sqlite3.connect = connecting  # type: ignore[assignment] # in a forked child alone

    def _count(self) -> int:
        with self._lock:
            number = self.begun
            self.begun += 1
            return number


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
    threading.Event().wait()  # the signal is on its way


def live(workload: Workload, database: Path, counter: Path, trap: Trap | None) -> Life:
    """Let a process work until it is done or dead."""
    if threading.active_count() > 1:
        raise RuntimeError("this process runs threads and must not fork")
    reading, writing = os.pipe()
    pid = os.fork()
    if not pid:
        os.close(reading)
        _be(workload, database, counter, trap, writing)
    os.close(writing)
    began = time.monotonic()
    limit_s = trap.at / 1e6 if trap is not None and trap.kind == "time" else DEADLINE_S
    try:
        data, late = _read(reading, pid, began + limit_s)
    finally:
        os.close(reading)
    status = os.waitpid(pid, 0)[1]
    return _told(data, status, late=late and limit_s == DEADLINE_S, since=began)


def _read(reading: int, pid: int, until: float) -> tuple[bytes, bool]:
    data = bytearray()
    late = False
    while True:
        left = until - time.monotonic()
        if not late and not select.select([reading], [], [], max(left, 0))[0]:
            late = True
            os.kill(pid, signal.SIGKILL)
        more = os.read(reading, 1 << 20)
        if not more:
            return bytes(data), late
        data += more


def _told(data: bytes, status: int, *, late: bool, since: float) -> Life:
    events: list[Any] = []
    done: Done | None = None
    error = "it did not end by itself" if late else None
    while len(data) >= _LENGTH.size:
        (length,) = _LENGTH.unpack_from(data)
        if len(data) < _LENGTH.size + length:
            break  # it died while it was telling this
        told = pickle.loads(data[_LENGTH.size : _LENGTH.size + length])
        data = data[_LENGTH.size + length :]
        if isinstance(told, Done):
            done = told
        elif isinstance(told, str):
            error = told
        else:
            events.append(told)
    killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) in (signal.SIGKILL, signal.SIGXFSZ)
    if done is None and not killed and error is None:
        error = f"it ended with status {status}"
    return Life(events, done, error, killed, time.monotonic() - since)


# In the child.


def _be(workload: Workload, database: Path, counter: Path, trap: Trap | None, writing: int) -> None:
    one_at_a_time = threading.Lock()

    def send(told: object) -> None:
        message = pickle.dumps(told)
        data = memoryview(_LENGTH.pack(len(message)) + message)
        with one_at_a_time:
            while data:
                data = data[os.write(writing, data) :]

    try:
        _work(workload, database, counter, trap, send)
    except BaseException:  # noqa: BLE001 - nothing is above this
        send(traceback.format_exc())
        os._exit(1)
    os._exit(0)


def _work(
    workload: Workload,
    database: Path,
    counter: Path,
    trap: Trap | None,
    send: Callable[[object], None],
) -> None:
    kind, at = (None, 0) if trap is None else (trap.kind, trap.at)
    steps = _Steps(at if kind == "step" else 0)
    statements = _Statements(at if kind == "statement" else None)
    if kind == "size":
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_FSIZE, (at, resource.RLIM_INFINITY))
    done = trio.run(_live, workload, database, counter, send, instruments=[steps])
    if trap is None:
        _check_integrity(database)
    send(attrs.evolve(done, steps=steps.taken, statements=statements.begun))


async def _live(
    workload: Workload, database: Path, counter: Path, send: Callable[[object], None]
) -> Done:
    witness = Witness(send)
    async with open_sqlite_ledger(database) as store:
        await witness.look(store, workload.session_ids)
        process = Process(workload, store, witness, RemoteReceiver(counter), SystemClock())
        answers = await process.work()
        await witness.look(store, workload.session_ids)
        accounts = [await account_of(store, name) for name in workload.session_ids]
        effects = await workload.tally(store)
        largest = max(file.stat().st_size for file in database.parent.iterdir())
    return Done(answers, accounts, effects, 0, 0, largest)


def _check_integrity(database: Path) -> None:
    with closing(sqlite3.connect(database)) as connection:
        answers = connection.execute("PRAGMA integrity_check").fetchall()
    if answers != [("ok",)]:
        raise RuntimeError(f"the database is damaged: {answers!r:.500}")
