"""HTTP requests as a server has read them, and the replies it gives."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import attrs

from rainengine.core.records import JsonValue
from rainengine.model_servers._moves import Move, Send

_NO_HEADERS: Mapping[str, str] = MappingProxyType({})


@attrs.frozen(kw_only=True)
class Request:
    """A request. Names of headers are in lower case; the target is a path with its query."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def path(self) -> str:
        """The target without its query."""
        return urlsplit(self.target).path

    @property
    def query(self) -> dict[str, str]:
        """What the query sets."""
        return dict(parse_qsl(urlsplit(self.target).query, keep_blank_values=True))

    @property
    def json(self) -> Any:  # noqa: ANN401  # tests look into it
        """The body, parsed. Raises `ValueError` where it is no JSON."""
        return json.loads(self.body)


@attrs.frozen(kw_only=True)
class Reply:
    """A response as it is given: a head, and moves.

    Without a `content-length` among the headers the body goes out in chunks, a `Send` a chunk.
    """

    status: int = 200
    headers: Mapping[str, str] = _NO_HEADERS
    moves: Iterable[Move] = ()

    @classmethod
    def of_json(
        cls, value: JsonValue, *, status: int = 200, headers: Mapping[str, str] = _NO_HEADERS
    ) -> Reply:
        """Return a whole JSON document."""
        data = json.dumps(value, ensure_ascii=False).encode()
        whole = {"content-type": "application/json", "content-length": str(len(data)), **headers}
        return cls(status=status, headers=whole, moves=(Send(data),))

    @classmethod
    def of_events(cls, events: Iterable[str], *, headers: Mapping[str, str] = _NO_HEADERS) -> Reply:
        """Return server-sent events, each given as its text without the blank line at its end."""
        moves = tuple(Send(f"{event}\n\n".encode()) for event in events)
        return cls(headers={"content-type": "text/event-stream", **headers}, moves=moves)
