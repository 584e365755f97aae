"""Scheduling of tool graphs, as pure functions: who is refused, who starts, what is recorded.

A node goes `queued → validated → started → succeeded | failed | skipped | timed_out | in_doubt`.
What changes together is recorded together: `progress` takes what came of the attempts that just
ended and gives back every record that follows from them, with the calls that start next.
Nothing starts before those records are stored.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import attrs

from rainengine.core.projection import Graph, Node
from rainengine.core.records import (
    FailureKind,
    IssuedCall,
    JsonValue,
    NodeCheckpoint,
    NodeStatus,
    Record,
    RetryPolicy,
    ToolCalls,
    ToolFailure,
    ToolNodeCheckpoint,
    ToolResult,
)


@attrs.frozen(kw_only=True)
class Ended:
    """What came of a call's last attempt, or of its refusal. `attempts` counts all of them."""

    call_id: str
    value: JsonValue = None
    failure: ToolFailure | None = None
    attempts: int = 0
    duration_ms: int = 0
    in_between: tuple[NodeStatus, ...] = ()


@attrs.frozen(kw_only=True)
class Retried:
    """An attempt failed and the next one, `attempt`, is to follow."""

    call_id: str
    attempt: int
    status: NodeStatus
    detail: str


@attrs.frozen(kw_only=True)
class Progress:
    """The records that follow, the calls that start once they are stored, and if that is all."""

    records: tuple[Record, ...]
    starts: tuple[str, ...]
    finished: bool


_STATUS: dict[FailureKind, NodeStatus] = {"timeout": "timed_out", "unknown_outcome": "in_doubt"}


def progress(
    graph: Graph,
    *,
    ended: Sequence[Ended] = (),
    doubted: Sequence[Ended] = (),
    retried: Sequence[Retried] = (),
    restarts: Sequence[str] = (),
    refusals: Mapping[str, ToolFailure] | None = None,
    issued: Mapping[str, IssuedCall] | None = None,
    classes: Mapping[str, int] | None = None,
    limit: int,
) -> Progress:
    """Work out everything that follows from attempts that ended, and what starts next.

    `refusals` are reasons why queued calls may not start, `issued` the calls as handed to skills;
    both are needed for calls that have not started yet. `restarts` are calls that were started
    before a crash and may run again. `doubted` are to be put to people: they get no result yet,
    and while there are such calls nothing starts. At most `limit` calls run at once. Of calls that
    are ready together the one of higher priority starts first, then that of the skill with the
    higher priority class (`classes`), then that which the provider named first.
    """
    scheduling = _Scheduling(graph, refusals or {}, issued or {}, classes or {}, limit)
    settled = {*(call.call_id for call in ended), *restarts}
    if doubted or any(call_id not in settled for call_id in graph.doubtful):
        return scheduling.hold(ended, doubted, retried)
    return scheduling.work_out(ended, retried, restarts)


def backoff_ceiling_ms(policy: RetryPolicy, failed_attempts: int) -> float:
    """The longest wait after so many failed attempts; never below 0, whatever the policy says."""
    try:
        grown = policy.initial_interval_ms * policy.backoff_multiplier ** (failed_attempts - 1)
    except OverflowError:
        grown = policy.max_interval_ms
    return max(min(policy.max_interval_ms, grown), 0)


@attrs.define(eq=False)
class _Scheduling:
    graph: Graph
    refusals: Mapping[str, ToolFailure]
    issued: Mapping[str, IssuedCall]
    classes: Mapping[str, int]
    limit: int
    _checkpoints: list[NodeCheckpoint] = attrs.field(factory=list[NodeCheckpoint], init=False)
    _results: list[ToolResult] = attrs.field(factory=list[ToolResult], init=False)
    _settled: dict[str, bool] = attrs.field(factory=dict[str, bool], init=False)
    _starts: list[str] = attrs.field(factory=list[str], init=False)

    def work_out(
        self, ended: Sequence[Ended], retried: Sequence[Retried], restarts: Sequence[str]
    ) -> Progress:
        nodes = self.graph.nodes
        self._take_in(ended, retried)
        for call_id in restarts:
            node = nodes[call_id]
            self._change(node, ("started",), node.attempt + 1, "again after an interruption")
            self._starts.append(call_id)
        return self._progress(self._start_what_is_ready())

    def hold(
        self, ended: Sequence[Ended], doubted: Sequence[Ended], retried: Sequence[Retried]
    ) -> Progress:
        self._take_in(ended, retried)
        for call in doubted:
            statuses: tuple[NodeStatus, ...] = (*call.in_between, "in_doubt")
            detail = None if call.failure is None else call.failure.message
            self._change(self.graph.nodes[call.call_id], statuses, call.attempts, detail)
        return self._progress([])

    def _take_in(self, ended: Sequence[Ended], retried: Sequence[Retried]) -> None:
        nodes = self.graph.nodes
        self._settled = {i: not node.failed for i, node in nodes.items() if node.settled}
        for call in ended:
            self._end(call)
        for retry in retried:
            node = nodes[retry.call_id]
            self._change(node, (retry.status, "started"), retry.attempt, retry.detail)
            self._starts.append(retry.call_id)

    def _progress(self, first: list[str]) -> Progress:
        return Progress(
            records=tuple(self._records(first)),
            starts=tuple(self._starts),
            finished=len(self._settled) == len(self.graph.nodes),
        )

    def _start_what_is_ready(self) -> list[str]:
        while any(self._settle_early(node) for node in self._waiting()):
            pass  # what was skipped may have others waiting for it
        running = sum(
            node.status == "started" and call_id not in self._settled
            for call_id, node in self.graph.nodes.items()
        )
        ready = [node for node in self._waiting() if self._is_free(node)]
        ready.sort(key=self._urgency, reverse=True)  # stable: then the provider's order
        first = [node.call.call_id for node in ready[: max(self.limit - running, 0)]]
        for call_id in first:
            self._change(self.graph.nodes[call_id], ("queued", "validated", "started"), 1)
        self._starts += first
        return first

    def _urgency(self, node: Node) -> tuple[int, int]:
        return node.call.priority, self.classes.get(node.call.call_id, 0)

    def _waiting(self) -> list[Node]:
        return [
            node
            for call_id, node in self.graph.nodes.items()
            if node.status == "queued" and call_id not in self._settled
        ]

    def _is_free(self, node: Node) -> bool:
        return all(self._settled.get(call_id) for call_id in node.call.depends_on)

    def _settle_early(self, node: Node) -> bool:
        """Settle a queued call that is refused or whose dependency failed; say whether it was."""
        call = node.call
        refusal = self.refusals.get(call.call_id)
        broken = [call_id for call_id in call.depends_on if self._settled.get(call_id) is False]
        if refusal is not None:
            self._end(Ended(call_id=call.call_id, failure=refusal))
        elif broken:
            message = f"skipped: {', '.join(broken)} did not succeed"
            failure = ToolFailure(kind="cancelled", message=message)
            self._end(Ended(call_id=call.call_id, failure=failure), skipped=True)
        return refusal is not None or bool(broken)

    def _end(self, call: Ended, *, skipped: bool = False) -> None:
        node = self.graph.nodes[call.call_id]
        status: NodeStatus = "succeeded"
        detail = None
        if call.failure is not None:
            status = "skipped" if skipped else _STATUS.get(call.failure.kind, "failed")
            detail = call.failure.kind
        before: tuple[NodeStatus, ...] = () if call.attempts else ("queued",)
        self._change(node, (*before, *call.in_between, status), call.attempts, detail)
        self._settled[call.call_id] = call.failure is None
        self._results.append(
            ToolResult(
                graph_id=self.graph.graph_id,
                call_id=call.call_id,
                name=node.call.name,
                value=call.value,
                failure=call.failure,
                attempts=call.attempts,
                duration_ms=call.duration_ms,
            )
        )

    def _change(
        self, node: Node, statuses: tuple[NodeStatus, ...], attempt: int, detail: str | None = None
    ) -> None:
        self._checkpoints.append(
            NodeCheckpoint(
                call_id=node.call.call_id,
                skill=node.call.name,
                statuses=statuses,
                attempt=attempt,
                detail=detail,
            )
        )

    def _records(self, first: list[str]) -> Iterable[Record]:
        graph_id, step = self.graph.graph_id, self.graph.step
        if first:
            calls = tuple(self.issued[call_id] for call_id in first)
            yield ToolCalls(graph_id=graph_id, calls=calls)
        order = {call_id: i for i, call_id in enumerate(self.graph.nodes)}
        if self._checkpoints:
            nodes = tuple(sorted(self._checkpoints, key=lambda change: order[change.call_id]))
            yield ToolNodeCheckpoint(graph_id=graph_id, step=step, nodes=nodes)
        yield from sorted(self._results, key=lambda result: order[result.call_id])
