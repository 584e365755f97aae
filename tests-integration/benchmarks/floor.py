"""The floor: the same turn on a bare table of events, with no engine.

It stores what a durable turn cannot do without, in three commits: the message, the model's
decision and the three intents before a tool starts; the three results; the answer.
All sessions' appends go through one writer, which commits together what is waiting together.
Each advance begins by reading the session. There are no leases, hashes, checks, retries,
timeouts or validation, so an engine cannot get there; the ratio says what it adds.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeAlias

import attrs
import trio
from stores import Row, Store, Table
from turn import ANSWER, TOOLS, Subject, tool_args, tool_result, user_text

Event: TypeAlias = tuple[int, str, dict[str, Any]]


@attrs.define
class Batch:
    """What goes into one commit."""

    rows: list[Row] = attrs.field(factory=list)
    appends: int = 0
    begun: trio.Event = attrs.field(factory=trio.Event)
    stored: trio.Event = attrs.field(factory=trio.Event)


@attrs.define
class Writer:
    """The one that writes: whatever waits goes into the next commit."""

    table: Table
    commits: int = 0
    appends: int = 0
    records: int = 0
    _batch: Batch = attrs.field(factory=Batch)

    async def append(self, rows: list[Row]) -> None:
        batch = self._batch
        batch.rows += rows
        batch.appends += 1
        batch.begun.set()
        await batch.stored.wait()

    async def run(self) -> None:
        while True:
            await self._batch.begun.wait()
            await trio.lowlevel.checkpoint()
            batch, self._batch = self._batch, Batch()
            await self.table.append(batch.rows)
            self.commits += 1
            self.appends += batch.appends
            self.records += len(batch.rows)
            batch.stored.set()

    def counts(self) -> dict[str, int]:
        return {"commits": self.commits, "appends": self.appends, "records": self.records}


@attrs.frozen
class Floor:
    """Takes turns by hand."""

    table: Table
    writer: Writer

    async def turn(self, session_id: str, number: int) -> str:
        history = await self._load(session_id)
        calls = [
            {"id": f"{number}-{name}", "name": name, "args": tool_args(session_id, name)}
            for name in TOOLS
        ]
        await self._store(
            session_id,
            history,
            ("user", {"text": user_text(number)}),
            ("model", {"calls": calls}),
            *(("started", {"id": call["id"]}) for call in calls),
        )
        finished = [await self._call(call) for call in calls]
        await self._store(session_id, history, *finished)
        history = await self._load(session_id)
        await self._store(session_id, history, ("model", {"text": ANSWER}), ("ended", {}))
        return ANSWER

    async def _call(self, call: dict[str, Any]) -> tuple[str, dict[str, Any]]:
        # In this task: tools that do nothing need none of their own, which trio would take
        # a quarter of the whole turn to start. This makes it no slower than asyncio with tasks.
        result = tool_result(call["name"], call["args"]["key"])
        return "finished", {"id": call["id"], "result": result}

    async def _load(self, session_id: str) -> list[Event]:
        rows = await self.table.load(session_id)
        return [(sequence, kind, json.loads(body)) for sequence, kind, body in rows]

    async def _store(
        self, session_id: str, history: list[Event], *events: tuple[str, dict[str, Any]]
    ) -> None:
        rows: list[Row] = []
        for kind, body in events:
            history.append((len(history) + 1, kind, body))
            rows.append((session_id, len(history), kind, json.dumps(body)))
        await self.writer.append(rows)


@asynccontextmanager
async def open_floor(store: Store, place: Path) -> AsyncIterator[Subject]:
    """Open the store's table at `place` with a writer for it."""
    if store.open_floor is None:
        raise ValueError(f"there is no floor under {store.name}")
    async with store.open_floor(place) as table, trio.open_nursery() as nursery:
        writer = Writer(table)
        nursery.start_soon(writer.run)
        yield Subject(Floor(table, writer).turn, writer.counts)
        nursery.cancel_scope.cancel()
