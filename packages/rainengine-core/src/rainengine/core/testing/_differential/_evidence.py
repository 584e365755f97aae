"""Everything that is known of a run in the end, and its comparison with the uncrashed twin."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import attrs

from rainengine.core.records import PAUSES
from rainengine.core.testing._differential._account import (
    Account,
    broken_promises,
    differences,
    doubts_in,
    failure_kind,
    skipped_for,
)
from rainengine.core.testing._differential._judgement import Finding, Judge
from rainengine.core.testing._differential._process import Answer


@attrs.frozen(kw_only=True)
class Evidence:
    """What a run left behind.

    `judge` has heard all its processes, `effects` is what the receiver counted for each call, and
    the workload's tally; `blows` how often a process died or was told nothing about an append.
    """

    answers: Sequence[Answer]
    accounts: Sequence[Account]
    judge: Judge
    effects: Mapping[str, int]
    blows: int = 0

    def findings(self, twin: Evidence) -> list[Finding]:
        """Every promise that this run broke."""
        return [*self.judge.findings, *_against(twin, self)]

    def doubts(self, twin: Evidence) -> set[str]:
        """Calls whose outcome is unknown in this run alone."""
        pairs = zip(twin.accounts, self.accounts, strict=True)
        return {call for expected, account in pairs for call in doubts_in(account, expected)}


def _against(twin: Evidence, run: Evidence) -> Iterator[Finding]:
    for text in broken_promises(run.accounts):
        yield Finding("broken", text)
    for one, other in zip(twin.accounts, run.accounts, strict=True):
        for text in differences(one, other):
            yield Finding("different", text)
        yield from _about_calls(twin, run, one, other)
    settled = {call for account in (*twin.accounts, *run.accounts) for call in account.results()}
    for name in sorted({*twin.effects, *run.effects} - settled):
        counted, normal = run.effects.get(name, 0), twin.effects.get(name, 0)
        if counted != normal:
            yield Finding("effect", f"{name} is there {counted} times, not {normal}")
    for number, (expected, actual) in enumerate(zip(twin.answers, run.answers, strict=True), 1):
        if expected != actual and not (_pauses(expected) and actual in twin.answers[number:]):
            text = f"the answer to step {number} is {actual!r:.500}, the twin's {expected!r:.500}"
            yield Finding("different", text)
    if run.judge.asked > twin.judge.asked + run.blows:
        text = f"the model was asked {run.judge.asked} times, by the twin {twin.judge.asked}"
        yield Finding("asked", f"{text}, with {run.blows} crashes")


def _pauses(answer: Answer) -> bool:
    """Whether it is the answer of a run that went on later, which a repetition may find ended."""
    outcome = answer[1]
    return outcome is not None and outcome.stop_reason in PAUSES


def _nobody_knows(run: Evidence, account: Account, call: str) -> bool:
    """Whether the call was interrupted, and only people say what became of it, or nobody does."""
    unknown = failure_kind(account.results().get(call)) == "unknown_outcome"
    return call in run.judge.interrupted and (unknown or call in run.judge.told)


def _about_calls(
    twin: Evidence, run: Evidence, expected: Account, actual: Account
) -> Iterator[Finding]:
    doubts = doubts_in(actual, expected)
    skipped = skipped_for(actual, doubts)
    effects = actual.effects()
    for call in sorted(doubts):
        if effects.get(call) != "unsafe":
            text = f"{call} is {effects.get(call)} and yet its outcome is called unknown"
            yield Finding("invented", text)
        elif call not in run.judge.interrupted:
            yield Finding("invented", f"{call} is called unknown and was never interrupted")
    for call, result in actual.results().items():
        if failure_kind(result) is None and call not in run.judge.values:
            yield Finding("invented", f"{call} has a value that no skill returned")
    for call in sorted({*expected.results(), *actual.results()}):
        counted, normal = run.effects.get(call, 0), twin.effects.get(call, 0)
        if counted <= 1 and (call in doubts or _nobody_knows(run, actual, call)):
            continue
        if counted != (0 if call in skipped else normal):
            text = f"{call} ({effects.get(call)}) took effect {counted} times, not {normal}"
            yield Finding("effect", text)
