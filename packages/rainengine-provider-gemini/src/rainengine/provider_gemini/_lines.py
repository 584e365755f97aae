"""Connections of `requests` that another thread can end.

A thread that waits for a server cannot be cancelled. What can be done is to shut the socket down
that it waits on: it wakes up at once, fails, and is gone, and so is the connection.

A `Line` is the way from a call to its socket. The call's thread finds its line in a context
variable, and the connection tells the line of its socket when it is used. A connection that has
gone on to serve another call no longer belongs to the first one.
"""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from contextvars import ContextVar
from http import HTTPStatus
from typing import Any, cast

import requests.adapters
import urllib3.connection
import urllib3.connectionpool


class HungUp(ConnectionError):
    """The line of a call was hung up before it had a connection."""


class Line:
    """What ends a call from another thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        self.over = False
        """Whether it was hung up."""

    def hang_up(self) -> None:
        """Shut down the connection that the call uses now, or the next one that it would."""
        with self._lock:
            self.over = True
            if self._socket is not None:
                with suppress(OSError):  # the other side was faster
                    self._socket.shutdown(socket.SHUT_RDWR)

    def take(self, given: socket.socket) -> None:
        """Learn of the call's connection. Raises `HungUp`."""
        with self._lock:
            if self.over:
                raise HungUp("the call was cancelled")
            self._socket = given

    def let_go(self) -> None:
        """Forget the connection, which belongs to another call now."""
        with self._lock:
            self._socket = None


current_line: ContextVar[Line | None] = ContextVar("current_line", default=None)
"""The line of the call that this thread makes."""


class _OnLine:
    """Tells the current line of this connection whenever a request goes out over it."""

    sock: Any
    _line: Line | None = None

    def send(self, data: Any) -> None:  # noqa: ANN401  # as its base has it
        line = current_line.get()
        if line is not None and line is not self._line:
            self._go_over_to(line)
        super().send(data)  # type: ignore[misc]

    def _go_over_to(self, line: Line) -> None:
        if self._line is not None:
            self._line.let_go()
        self._line = line
        if self.sock is None:
            self.connect()  # type: ignore[attr-defined]  # its base has it
        line.take(cast(Any, self.sock))


class _Http(_OnLine, urllib3.connection.HTTPConnection):
    pass


class _Https(_OnLine, urllib3.connection.HTTPSConnection):
    pass


class _HttpPool(urllib3.connectionpool.HTTPConnectionPool):
    ConnectionCls = cast(Any, _Http)


class _HttpsPool(urllib3.connectionpool.HTTPSConnectionPool):
    ConnectionCls = cast(Any, _Https)


_POOLS = {"http": _HttpPool, "https": _HttpsPool}


class LineAdapter(requests.adapters.HTTPAdapter):
    """Connections on lines, on which nothing is tried twice."""

    def __init__(self, connections: int) -> None:
        super().__init__(pool_maxsize=connections, max_retries=0)

    def init_poolmanager(self, *args: Any, **options: Any) -> None:  # noqa: ANN401
        """Have pools whose connections are on lines."""
        super().init_poolmanager(*args, **options)
        self.poolmanager.pool_classes_by_scheme = _POOLS

    def proxy_manager_for(self, *args: Any, **options: Any) -> Any:  # noqa: ANN401
        """Have such pools through a proxy, too."""
        manager = super().proxy_manager_for(*args, **options)
        manager.pool_classes_by_scheme = _POOLS
        return manager

    def send(self, *args: Any, **options: Any) -> requests.Response:  # noqa: ANN401
        """Send a request. Of errors in a list, which the SDK cannot read, give the one in it."""
        response: Any = super().send(*args, **options)
        if response.status_code >= HTTPStatus.BAD_REQUEST:
            content = response.content.strip()
            if content.startswith(b"[") and content.endswith(b"]"):
                response._content = content[1:-1]  # noqa: SLF001  # there is no other way
        return cast(requests.Response, response)
