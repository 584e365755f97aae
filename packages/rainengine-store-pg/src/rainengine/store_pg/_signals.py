"""How processes tell each other that sessions have moved: NOTIFY and LISTEN.

A notification within the appending transaction would make all commits of the database wait for
one another (measured with eight writers: half as many). So it follows after the commit, on a
connection of its own, one for all sessions that have moved meanwhile. It may be lost when a
process dies or a connection breaks: whoever waits keeps polling too.

Sessions are named by short marks, so that many fit into one notification, and nobody who may
only listen learns the names of tenants and sessions.
"""

from __future__ import annotations

import logging
import os
import selectors
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from hashlib import blake2b
from queue import SimpleQueue

import attrs
import trio

from rainengine.store_pg._connect import PgConnection
from rainengine.store_sql import Heard, Key

CHANNEL = "rainengine_moved"
GATHER_S = 0.02
"""For how long moves are gathered into one notification."""

_RETRY_S = 1.0
_MARKS = 400
"""In one notification, whose payload Postgres limits to 8,000 bytes."""

_NOTIFY = b"SELECT pg_notify(%s, %s)"
_NO_WAITING = b"SET synchronous_commit = off"
_log = logging.getLogger("rainengine.store_pg")


def mark_of(key: Key) -> str:
    """Return a session's name in notifications: 64 bits of a digest, in hexadecimal."""
    tenant, session_id = key
    return blake2b(f"{len(tenant)}:{tenant}{session_id}".encode(), digest_size=8).hexdigest()


@attrs.define(eq=False)
class Notifier:
    """A thread that tells the other processes which sessions have moved."""

    _connect: Callable[[], PgConnection]
    _moved: SimpleQueue[Key | None] = attrs.field(factory=SimpleQueue[Key | None])
    _thread: threading.Thread | None = None

    def send(self, key: Key) -> None:
        """Tell of a session, soon."""
        if self._thread is None:
            self._thread = _start(self._run, "rainengine-notifier")
        self._moved.put(key)

    def stop(self) -> None:
        """Tell what is left to tell and stop; blocks."""
        if self._thread is not None:
            self._moved.put(None)
            self._thread.join(_RETRY_S)

    def _run(self) -> None:
        connection: PgConnection | None = None
        for payload in self._payloads():
            try:
                if connection is None:
                    connection = self._connect()
                    connection.execute(_NO_WAITING)
                connection.execute(_NOTIFY, (CHANNEL, payload))
            except Exception:  # noqa: BLE001 - a thread that ends would never send again
                _log.warning("a notification was not sent; others poll", exc_info=True)
                _close(connection)
                connection = None
        _close(connection)

    def _payloads(self) -> Iterator[str]:
        while True:
            gathered = {self._moved.get(): None}
            if None not in gathered:
                time.sleep(GATHER_S)
            while not self._moved.empty():
                gathered[self._moved.get()] = None
            marks = [mark_of(key) for key in gathered if key is not None]
            for start in range(0, len(marks), _MARKS):
                yield " ".join(marks[start : start + _MARKS])
            if None in gathered:
                return


@attrs.define(eq=False)
class Listener:
    """A thread that hears which sessions have moved.

    `heard` is called in that thread with their marks, or with None after a gap: then any may
    have moved.
    """

    _connect: Callable[[], PgConnection]
    _heard: Callable[[frozenset[str] | None], None]
    _wake: tuple[int, int] = attrs.field(factory=os.pipe)
    _stopping: bool = False
    _thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to listen, if it has not begun."""
        if self._thread is None:
            self._thread = _start(self._run, "rainengine-listener")

    def stop(self) -> None:
        """Stop listening; blocks, but not for a server that does not answer."""
        self._stopping = True
        os.write(self._wake[1], b"x")
        if self._thread is not None:
            self._thread.join(_RETRY_S)
            if self._thread.is_alive():
                return  # it is connecting, and ends when that does
        for end in self._wake:
            os.close(end)

    def _run(self) -> None:
        while not self._stopping:
            try:
                self._listen()
            except Exception:  # noqa: BLE001 - a thread that ends would never listen again
                _log.warning("the connection that listens was lost; polling goes on", exc_info=True)
                self._wait(None, _RETRY_S)

    def _listen(self) -> None:
        with self._connect() as connection:
            connection.execute(f"LISTEN {CHANNEL}".encode())
            self._heard(None)  # what moved before this was not heard
            while not self._stopping:
                self._wait(connection, None)
                for notification in connection.notifies(timeout=0):
                    self._heard(frozenset(notification.payload.split()))

    def _wait(self, connection: PgConnection | None, timeout_s: float | None) -> None:
        with selectors.DefaultSelector() as selector:
            for source in (self._wake[0], *([] if connection is None else [connection.fileno()])):
                selector.register(source, selectors.EVENT_READ)
            selector.select(timeout_s)


@attrs.define(eq=False)
class NotifySignals:
    """Implements `Signals` by a notifier and, once somebody waits, a listener."""

    _connect: Callable[[], PgConnection]
    _notifier: Notifier = attrs.field(init=False)
    _listener: Listener | None = None

    def __attrs_post_init__(self) -> None:
        self._notifier = Notifier(self._connect)

    def send(self, key: Key) -> None:
        """Tell the others that a session has moved."""
        self._notifier.send(key)

    def listen(self, heard: Heard) -> None:
        """Begin to listen, if it has not begun."""
        if self._listener is None:
            self._listener = Listener(self._connect, _in_trio(heard))
            self._listener.start()

    def stop(self) -> None:
        """Stop both; blocks."""
        self._notifier.stop()
        if self._listener is not None:
            self._listener.stop()


def _in_trio(heard: Heard) -> Callable[[frozenset[str] | None], None]:
    """Return what hands the marks that were heard over to trio's thread."""
    token = trio.lowlevel.current_trio_token()

    def hand_over(marks: frozenset[str] | None) -> None:
        def concerns(key: Key) -> bool:
            return marks is None or mark_of(key) in marks

        with suppress(trio.RunFinishedError):
            token.run_sync_soon(heard, concerns)

    return hand_over


def _start(work: Callable[[], None], name: str) -> threading.Thread:
    thread = threading.Thread(target=work, name=name, daemon=True)
    thread.start()
    return thread


def _close(connection: PgConnection | None) -> None:
    if connection is not None:
        with suppress(Exception):  # it is given up either way
            connection.close()
