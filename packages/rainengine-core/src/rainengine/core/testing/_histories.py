"""Plausible random histories of a session, as the batches in which an engine appends them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, TypeAlias, get_args

import attrs
from hypothesis import strategies as st

from rainengine.core import records as r
from rainengine.core.testing import _strategies as any_

History: TypeAlias = list[list[r.NewRecord]]

Ending: TypeAlias = Literal["succeeded", "failed", "timed_out", "in_doubt"]

_START_MS = 1_700_000_000_000

_GOING_ON: st.SearchStrategy[r.Action] = st.one_of(
    any_.instances(r.Continue),
    any_.instances(r.Plan),
    any_.instances(r.MemorySearch),
    any_.instances(r.MemoryArchive),
)
_ENDINGS: st.SearchStrategy[Ending] = st.sampled_from(
    ("succeeded", "failed", "timed_out", "in_doubt")
)
_EVENTS = st.lists(any_.kernel_events(), max_size=2)
_UNKNOWN = st.lists(any_.unknown_records(), max_size=1)
_SCOPES = st.lists(any_.texts(), max_size=2)


@attrs.define
class _Narrator:
    """Draws one history. Time goes on by itself, identifiers count."""

    draw: st.DrawFn
    now_ms: int = _START_MS
    runs: int = 0

    def history(self, max_runs: int) -> History:
        batches = [batch for _ in range(self._number(1, max_runs)) for batch in self.run()]
        return [self._stamp(batch) for batch in batches]

    def run(self) -> Iterator[tuple[str, list[r.Record]]]:
        """One run from its trigger to its outcome, or as far as it got before a crash."""
        self.runs += 1
        run = f"run{self.runs}"
        yield run, self._opening(run)
        steps = self._number(0, 3)
        for step in range(1, steps + 1):
            yield from ((run, batch) for batch in self._step(run, step))
            if self.draw(st.integers(0, 9)) == 0:
                yield "", [r.CancelRequest(reason=self.draw(any_.texts()))]
        if self.draw(st.integers(0, 4)) > 0:
            yield run, self._closing(run, steps + 1)

    def _opening(self, run: str) -> list[r.Record]:
        trigger = r.TriggerRecord(
            trigger_id=run,
            trigger=self.draw(any_.triggers()),
            body_hash=run,
            granted_scopes=tuple(self.draw(_SCOPES)),
        )
        intent = r.TriggerIntent(trigger_id=run, intent=self.draw(any_.texts()))
        return [trigger, intent, *self._world()]

    def _step(self, run: str, step: int) -> Iterator[list[r.Record]]:
        if self.draw(st.booleans()):
            action = self.draw(_GOING_ON)
            decision = r.ModelDecision(step=step, action=action)
            yield [self._usage(step), decision, *self._world()]
        else:
            yield from self._graph(f"{run}.{step}", step)

    def _graph(self, graph_id: str, step: int) -> Iterator[list[r.Record]]:
        calls = tuple(self._call(n) for n in range(self._number(1, 3)))
        decision = r.ModelDecision(step=step, action=r.CallSkills(calls))
        graph = r.ToolExecutionGraph(graph_id=graph_id, step=step, calls=calls)
        issued = r.ToolCalls(graph_id=graph_id, calls=tuple(map(self._issue, calls)))
        nodes = tuple(_node(call, "queued", "validated", "started") for call in calls)
        started = r.ToolNodeCheckpoint(graph_id=graph_id, step=step, nodes=nodes)
        yield [self._usage(step), decision, graph, issued, started]
        for call in self.draw(st.permutations(calls)):
            ending = self.draw(_ENDINGS)
            checkpoint = r.ToolNodeCheckpoint(
                graph_id=graph_id, step=step, nodes=(_node(call, ending),)
            )
            yield [checkpoint, self._result(graph_id, call, ending)]

    def _call(self, n: int) -> r.PlannedSkillCall:
        return r.PlannedSkillCall(
            call_id=f"call{n}",
            name=self.draw(st.sampled_from(("look_up", "write", "search"))),
            args=self.draw(any_.json_objects()),
            priority=self._number(0, 2),
        )

    def _issue(self, call: r.PlannedSkillCall) -> r.IssuedCall:
        return r.IssuedCall(
            call_id=call.call_id,
            name=call.name,
            skill_version="1",
            effects=self.draw(st.sampled_from(get_args(r.EffectClass))),
            idempotency_key=f"key of {call.call_id}",
        )

    def _result(self, graph_id: str, call: r.PlannedSkillCall, ending: Ending) -> r.ToolResult:
        failed = ending != "succeeded"
        return r.ToolResult(
            graph_id=graph_id,
            call_id=call.call_id,
            name=call.name,
            value=None if failed else self.draw(any_.json_values()),
            failure=self.draw(any_.instances(r.ToolFailure)) if failed else None,
        )

    def _usage(self, step: int) -> r.ProviderUsage:
        tokens = self._number(0, 1000)
        return r.ProviderUsage(step=step, status="settled", input_tokens=tokens, cost_micros=tokens)

    def _closing(self, run: str, step: int) -> list[r.Record]:
        answer = self.draw(any_.texts())
        decision = r.ModelDecision(step=step, action=r.Respond(answer))
        outcome = r.OutcomeRecord(
            trigger_id=run, stop_reason="responded", steps_executed=step, response=answer
        )
        return [self._usage(step), decision, outcome]

    def _world(self) -> list[r.Record]:
        events = self.draw(_EVENTS)
        unknown = self.draw(_UNKNOWN)
        return [*map(r.KernelEventRecord, events), *unknown]

    def _stamp(self, batch: tuple[str, list[r.Record]]) -> list[r.NewRecord]:
        run, records = batch
        self.now_ms += self._number(0, 10_000)
        return [
            r.NewRecord(record, self.now_ms, run or None, _key_of(record)) for record in records
        ]

    def _number(self, low: int, high: int) -> int:
        return self.draw(st.integers(low, high))


@st.composite
def histories(draw: st.DrawFn, max_runs: int = 4) -> History:
    """Batches of a session's records: runs that answer, fail, are cancelled or break off."""
    return _Narrator(draw).history(max_runs)


def _node(call: r.PlannedSkillCall, *statuses: r.NodeStatus) -> r.NodeCheckpoint:
    return r.NodeCheckpoint(call_id=call.call_id, skill=call.name, statuses=statuses, attempt=1)


def _key_of(record: r.Record) -> str | None:
    return f"key of {record.trigger_id}" if isinstance(record, r.TriggerRecord) else None
