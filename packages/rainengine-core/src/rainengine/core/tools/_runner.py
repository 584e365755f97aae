"""Running one tool graph: who runs beside whom, retries, and a checkpoint of every change.

Rules:

- A call starts only after the record of its start is stored (`Progress.starts`).
- Attempts that end while a checkpoint is being stored share the next one.
- Calls that are pure are retried on the spot; their attempts are recorded with the result.
  Calls with an effect are retried only after the next attempt is recorded.
- A call that runs in a transaction is itself a checkpoint: its effect, its result and all that
  follows from it are one append. Appends of a session are serial, so it is done where the others
  are stored, one at a time; calls of other kinds go on meanwhile.

Rejected: starting a dependent call before its dependency's result is stored. It would save a
commit, and a crash in between would leave an effect whose cause was never recorded.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, Protocol, TypeAlias

import attrs
import trio

from rainengine.core.errors import TransactionMisused, TransactionTimeout
from rainengine.core.kernel import Ended, Progress, Retried, progress
from rainengine.core.projection import Graph, Node
from rainengine.core.records import FailureKind, NodeStatus, Record, ToolFailure
from rainengine.core.tools._attempts import Attempt, failure, timed_out, traced
from rainengine.core.tools._calls import Caller
from rainengine.core.tools._enclosing import Consequence, RolledBack
from rainengine.core.tools._inspection import Inspection

Commit: TypeAlias = Callable[[Sequence[Record]], Awaitable[None]]
"""Appends records durably and folds them into the projection that the graph is part of."""


class Transact(Protocol):
    """Commits what a function of the database's connection does together with what it returns."""

    async def __call__(
        self, work: Callable[[Any], Consequence], timeout_s: float, /, *, at_any_head: bool
    ) -> bool:
        """Run `work` in another thread; what it raises undoes it and is raised here.

        False: somebody's intake was taken in first, and nothing has happened. `at_any_head` does
        not mind intake, where that is safe.
        """
        ...


@attrs.define(eq=False)
class _Board:
    """Where attempts report; whoever runs the graph waits here.

    `due` are the calls whose turn has come to run in a transaction.
    """

    ended: list[Ended] = attrs.field(factory=list[Ended])
    retried: list[Retried] = attrs.field(factory=list[Retried])
    due: deque[Node] = attrs.field(factory=deque[Node])
    _news: trio.Event = attrs.field(factory=trio.Event)

    def post(self, report: Ended | Retried | Node) -> None:
        if isinstance(report, Ended):
            self.ended.append(report)
        elif isinstance(report, Retried):
            self.retried.append(report)
        else:
            self.due.append(report)
        self._news.set()

    async def take(self) -> tuple[list[Ended], list[Retried], Node | None]:
        if not self.due:
            await self._news.wait()
        taken = self.ended, self.retried, self.due.popleft() if self.due else None
        self.ended, self.retried, self._news = [], [], trio.Event()
        return taken


@attrs.define(kw_only=True, eq=False)
class GraphRunner:
    """Carries one graph to its end. `graph` is the projection's own, which `commit` keeps true."""

    graph: Graph
    caller: Caller
    commit: Commit
    transact: Transact
    _board: _Board = attrs.field(factory=_Board, init=False)
    _live: int = attrs.field(default=0, init=False)

    async def run(
        self, nursery: trio.Nursery, inspection: Inspection, starts: Sequence[str]
    ) -> None:
        """Run calls whose start is recorded, and all that follows, until each has a result.

        Where calls are in doubt and people are to say what became of them, it ends as soon as
        nothing runs any more.
        """
        self._spawn(nursery, starts, ())
        while any(not node.settled for node in self.graph.nodes.values()):
            if not self._live and self.graph.doubtful:
                return
            ended, retried, due = await self._board.take()
            self._live -= len(ended) + len(retried)
            if ended or retried:
                step = self._schedule(inspection, ended, retried=retried)
                await self.commit(step.records)
                self._spawn(nursery, step.starts, retried)
            if due is not None:
                await self._run_enclosed(nursery, inspection, due)

    async def resume(
        self, nursery: trio.Nursery, inspection: Inspection, begun: Sequence[str] = ()
    ) -> None:
        """Settle what an interruption left open, then run the graph to its end.

        `begun` are calls whose start is recorded, and that are made now for the first time.
        """
        interrupted = [
            node
            for call_id, node in self.graph.nodes.items()
            if node.status != "queued" and not node.settled and call_id not in begun
        ]
        if not interrupted and begun:
            await self.run(nursery, inspection, begun)
            return
        ended, restarts = await self._settle(interrupted)
        step = self._schedule(inspection, ended, restarts=restarts)
        if step.records:
            await self.commit(step.records)
        await self.run(nursery, inspection, (*begun, *step.starts))

    def _schedule(
        self,
        inspection: Inspection,
        ended: Sequence[Ended],
        *,
        retried: Sequence[Retried] = (),
        restarts: Sequence[str] = (),
    ) -> Progress:
        doubted = [call for call in ended if self.caller.asks_about(call)]
        known = [call for call in ended if call not in doubted]
        return self.scheduling(inspection)(
            ended=known, doubted=doubted, retried=retried, restarts=restarts
        )

    async def _settle(self, interrupted: Sequence[Node]) -> tuple[list[Ended], list[str]]:
        """Find out how interrupted calls ended, and which may run again."""
        ended: list[Ended] = []
        restarts: list[str] = []

        async def settle(node: Node) -> None:
            end = await self.caller.settle(node)
            if end is None:
                restarts.append(node.call.call_id)
            else:
                ended.append(end)

        async with trio.open_nursery() as nursery:
            for node in interrupted:
                nursery.start_soon(settle, node)
        return ended, restarts

    async def find_out(self, interrupted: Sequence[Node]) -> tuple[Ended, ...]:
        """Ask what became of interrupted calls that are not to run again; leave out the unknown."""
        found: dict[str, Ended | None] = {}

        async def find_out(node: Node) -> None:
            found[node.call.call_id] = await self.caller.find_out(node)

        async with trio.open_nursery() as nursery:
            for node in interrupted:
                nursery.start_soon(find_out, node)
        return tuple(end for end in found.values() if end is not None)

    def scheduling(self, inspection: Inspection) -> Callable[..., Progress]:
        """Return `kernel.progress` for this graph, with everything given but what came in."""
        return partial(
            progress,
            self.graph,
            refusals=self._never_started() or inspection.refusals,
            issued=inspection.issued,
            classes=inspection.classes,
            limit=max(self.caller.policy.max_parallel_skill_calls, 1),
        )

    def _following(self, inspection: Inspection) -> Callable[[Ended], Progress]:
        """Return what works out, in another thread, all that follows from a call's end."""
        schedule = self.scheduling(inspection)
        return lambda ended: schedule(ended=[ended])

    def _never_started(self) -> dict[str, ToolFailure] | None:
        reason = self.caller.halted()
        if reason is None:
            return None
        return {i: failure("cancelled", f"never started: {reason}") for i in self.graph.nodes}

    def _spawn(
        self, nursery: trio.Nursery, starts: Sequence[str], retried: Sequence[Retried]
    ) -> None:
        again = {call.call_id for call in retried}
        for call_id in starts:
            node = self.graph.nodes[call_id]
            self._live += 1
            failed_attempts = node.attempt - 1 if call_id in again else 0
            if not failed_attempts and self.caller.runs_in_transactions(node):
                self._board.post(node)  # in this order, which a nursery does not keep
            else:
                nursery.start_soon(self._work, node, failed_attempts)

    # One call.

    async def _work(self, node: Node, failed_attempts: int) -> None:
        if failed_attempts:
            await self.caller.back_off(node, failed_attempts)
        if self.caller.runs_in_transactions(node):
            self._board.post(node)
            return
        number, began_s = node.attempt, trio.current_time()
        in_between: tuple[NodeStatus, ...] = ()
        while True:
            outcome = await self.caller.attempt(node, number)
            if node.effects != "pure" or not self.caller.may_retry(node, outcome, number):
                break
            in_between = (*in_between, _status(outcome), "started")
            await self.caller.back_off(node, number)
            number += 1
        self._report(node, outcome, number, began_s, in_between)

    def _report(
        self,
        node: Node,
        outcome: Attempt,
        number: int,
        began_s: float,
        in_between: tuple[NodeStatus, ...] = (),
    ) -> None:
        """Post how a call ended, or that another attempt is to be recorded."""
        call_id = node.call.call_id
        if self.caller.may_retry(node, outcome, number):
            detail = outcome.failure.message if outcome.failure is not None else ""
            again = Retried(
                call_id=call_id, attempt=number + 1, status=_status(outcome), detail=detail
            )
            self._board.post(again)
            return
        self._board.post(
            Ended(
                call_id=call_id,
                value=outcome.value,
                failure=outcome.failure,
                attempts=number,
                duration_ms=round((trio.current_time() - began_s) * 1000),
                in_between=in_between,
            )
        )

    async def _run_enclosed(
        self, nursery: trio.Nursery, inspection: Inspection, node: Node
    ) -> None:
        began_s = trio.current_time()
        invocation = self.caller.invocation(node, node.attempt)
        commit = partial(self._commit_enclosed, nursery, inspection, node)
        outcome = await traced(invocation, commit)
        if node.settled:
            self._live -= 1
        else:
            self._report(node, outcome, node.attempt, began_s)

    async def _commit_enclosed(
        self, nursery: trio.Nursery, inspection: Inspection, node: Node
    ) -> Attempt:
        """Do a call and store what comes of it; what is returned remains to be stored."""
        overtaken = False
        while True:
            hindrance = self.caller.hindrance(node)
            if hindrance is not None:
                return hindrance
            call = self.caller.enclosed(node, self._following(inspection))
            try:
                stored = await self.transact(call, call.limits.timeout_s, at_any_head=overtaken)
            except RolledBack as rolled_back:
                return rolled_back.attempt
            except TransactionTimeout:
                return timed_out(call.limits, harmless=True)
            except TransactionMisused as error:
                kind: FailureKind = "trap" if error.undone else "unknown_outcome"
                return Attempt(failure=failure(kind, str(error)), harmless=error.undone)
            if stored and call.progress is not None:
                self._spawn(nursery, call.progress.starts, ())
                return Attempt()
            overtaken = True


def _status(outcome: Attempt) -> NodeStatus:
    timed_out = outcome.failure is not None and outcome.failure.kind == "timeout"
    return "timed_out" if timed_out else "failed"
