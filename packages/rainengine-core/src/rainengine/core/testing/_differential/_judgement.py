"""Judging what a witness reported, process by process, against the promises of the engine.

The judge knows nothing of the twin: these rules hold for every history.

1. Lost: what was acknowledged is in the ledger whenever somebody looks, with the same hash.
2. Repeated: a call with a result is not called again; an unsafe call is called again only
   after it ended without harm, or after its skill said that it had not been started.
3. Early: a call starts only after its start is stored; a step is decided once.
4. Invented: a result with a value was returned by the skill, or told by its reconciliation or by
   a person.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Literal, TypeAlias

import attrs

from rainengine.core.testing._differential._witness import (
    Acknowledged,
    Asked,
    Began,
    Ended,
    Event,
    Facts,
    Found,
    Reconciled,
)

Fault: TypeAlias = Literal[
    "lost", "repeated", "early", "invented", "asked", "effect", "different", "stuck", "broken"
]
"""What kind of promise was broken."""


@attrs.frozen
class Finding:
    """A broken promise, in words."""

    fault: Fault
    text: str

    def __str__(self) -> str:
        return f"{self.fault}: {self.text}"


@attrs.define
class Judge:
    """Takes events in the order in which they happened and collects findings.

    `asked` and `begun` count requests to the model and calls of skills; `values` are the calls
    that brought a value, `interrupted` those that a process found started and without a result,
    `told` those that happened, as a person said.
    """

    findings: list[Finding] = attrs.field(factory=list[Finding])
    asked: int = 0
    begun: int = 0
    values: set[str] = attrs.field(factory=set[str])
    interrupted: set[str] = attrs.field(factory=set[str])
    told: set[str] = attrs.field(factory=set[str])
    _heads: dict[str, dict[int, str]] = attrs.field(factory=dict[str, dict[int, str]])
    _started: dict[str, int] = attrs.field(factory=dict[str, int])
    _settled: set[str] = attrs.field(factory=set[str])
    _decided: set[str] = attrs.field(factory=set[str])
    _doubtful: set[str] = attrs.field(factory=set[str])

    def hear(self, events: Iterable[Event]) -> None:
        """Take in what was reported."""
        hearing: dict[type[Event], Callable[[Any], None]] = {
            Acknowledged: self._hear_acknowledged,
            Found: self._hear_found,
            Asked: self._hear_asked,
            Began: self._hear_began,
            Ended: self._hear_ended,
            Reconciled: self._hear_reconciled,
        }
        for event in events:
            hearing[type(event)](event)

    def _find(self, fault: Fault, text: str) -> None:
        self.findings.append(Finding(fault, text))

    def _learn(self, facts: Facts) -> None:
        self._started.update(facts.started)
        self._settled.update(facts.settled)
        self._decided.update(facts.decided)
        self.values.update(facts.told)
        self.told.update(facts.told)

    def _hear_acknowledged(self, event: Acknowledged) -> None:
        self._heads.setdefault(event.session_id, {})[event.sequence] = event.hash
        self._learn(event.facts)

    def _hear_found(self, event: Found) -> None:
        for sequence, digest in self._heads.get(event.session_id, {}).items():
            if sequence == 0:
                continue
            stored = event.hashes[sequence - 1] if sequence <= len(event.hashes) else "nothing"
            if stored != digest:
                where = f"{event.session_id!r}, sequence {sequence}"
                self._find("lost", f"{where} was acknowledged as {digest}, there is {stored}")
        self._learn(event.facts)
        self.interrupted |= event.facts.started.keys() - set(event.facts.settled)

    def _hear_asked(self, event: Asked) -> None:
        self.asked += 1
        if event.step in self._decided:
            self._find("repeated", f"the model was asked again about decided step {event.step}")

    def _hear_began(self, event: Began) -> None:
        self.begun += 1
        call = event.call
        if call in self._settled:
            self._find("repeated", f"{call} was called again although its result is stored")
        allowed = self._started.get(call, 0)
        if not allowed or (event.effects != "pure" and event.attempt > allowed):
            started = f"attempt {allowed}" if allowed else "nothing"
            self._find(
                "early", f"{call} was called as attempt {event.attempt}, stored is {started}"
            )
        if event.effects == "unsafe":
            if call in self._doubtful:
                self._find("repeated", f"{call} is unsafe, in doubt, and was called again")
            self._doubtful.add(call)

    def _hear_ended(self, event: Ended) -> None:
        if event.how == "harmless":
            self._doubtful.discard(event.call)
        elif event.how == "value":
            self.values.add(event.call)

    def _hear_reconciled(self, event: Reconciled) -> None:
        if event.answer == "not_started":
            self._doubtful.discard(event.call)
        elif event.answer == "settled":
            self.values.add(event.call)
