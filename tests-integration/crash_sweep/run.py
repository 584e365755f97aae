"""Kill processes at every place where they can die, and see that nothing of promise is lost.

Prints one JSON object a sweep, then exits with 1 if any run broke a promise.
Run it by hand with `--full` for every point, or `--workloads`, `--kinds` and `--every` for some.
"""

from __future__ import annotations

import argparse
import json
import os
import pickle
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, get_args

import attrs
import trio
from counter import ask_counter, start_counter
from lives import Done, Kind, Life, Trap, live

from rainengine.core.testing import (
    TRANSACTIONAL,
    WORKLOADS,
    Evidence,
    Finding,
    Judge,
    Workload,
    differential,
)

SWEPT = (*WORKLOADS, TRANSACTIONAL)
SHOWN = 10
SURVIVORS = 2
"""A run that was not killed is past the end; the number of steps varies, so one is not enough."""


@attrs.frozen(kw_only=True)
class Plan:
    """A sweep: one workload and one kind of trap, at every `every`-th point."""

    workload: int
    kind: Kind
    every: int
    count: int


@attrs.define(kw_only=True)
class Tally:
    """What came of trials.

    `interrupted` counts calls that a kill left started and without a result, `doubts` those of
    them that ended as `unknown_outcome`. `repeated` counts effects that happened too often too.
    """

    points: int = 0
    kills: int = 0
    lost: int = 0
    repeated: int = 0
    interrupted: int = 0
    doubts: int = 0
    failed: int = 0
    texts: list[str] = attrs.field(factory=list[str])

    def add(self, other: Tally) -> None:
        for field in attrs.fields(Tally):
            setattr(self, field.name, getattr(self, field.name) + getattr(other, field.name))

    def take(self, what: str, evidence: Evidence, twin: Evidence) -> None:
        self.kills += evidence.blows
        self.interrupted += len(evidence.judge.interrupted)
        self.doubts += len(evidence.doubts(twin))
        self.note(what, evidence.findings(twin))

    def note(self, what: str, findings: Sequence[Finding]) -> None:
        faults = [finding.fault for finding in findings]
        self.lost += faults.count("lost")
        self.repeated += faults.count("repeated") + faults.count("effect")
        if findings:
            self.failed += 1
            told = "\n".join(f"    {finding}" for finding in findings[:SHOWN])
            self.texts.append(f"{what}:\n{told}")


@attrs.frozen
class Lane:
    """One of the processes that share a sweep's points; it has a folder and a counter."""

    folder: Path
    counter: Path

    def trial(self, workload: Workload, traps: Sequence[Trap]) -> tuple[Evidence, Done, list[Life]]:
        """Let processes die of the traps in turn, then one go through to the end."""
        database = self.folder / "trial" / "ledger.db"
        shutil.rmtree(database.parent, ignore_errors=True)
        database.parent.mkdir()
        ask_counter(self.counter, "reset")
        lives: list[Life] = []
        for trap in (*traps, None):
            life = live(workload, database, self.counter, trap)
            lives.append(life)
            if life.error is not None:
                raise RuntimeError(life.error)
        last = lives[-1].done
        if last is None:
            raise RuntimeError("the last process was killed, by nobody here")
        judge = Judge()
        for life in lives:
            judge.hear(life.events)
        evidence = Evidence(
            answers=last.answers,
            accounts=last.accounts,
            judge=judge,
            effects=ask_counter(self.counter, "tally") | dict(last.effects),
            blows=sum(life.killed for life in lives),
        )
        return evidence, last, lives

    def sweep(self, plan: Plan, twin: Evidence, traps: Iterator[tuple[Trap, ...]]) -> Tally:
        """Make a trial of each point, until runs get past their end."""
        workload, tally, survivors = SWEPT[plan.workload], Tally(), 0
        for point in traps:
            tally.points += 1
            what = f"{workload.name}, killed at {', '.join(map(str, point))}"
            try:
                evidence, _, lives = self.trial(workload, point)
            except RuntimeError as error:
                tally.note(what, [Finding("stuck", str(error))])
                continue
            tally.take(what, evidence, twin)
            survivors = 0 if lives[0].killed else survivors + 1
            if survivors >= SURVIVORS and plan.kind != "time":
                break
        return tally


def main() -> int:
    """Run the sweeps that the command line asks for."""
    options = _options()
    _warm_up()
    failed = 0
    with tempfile.TemporaryDirectory(prefix="crash-") as folder:
        for plan in _plans(options):
            began = time.monotonic()
            tally, whole = _sweep(plan, Path(folder), options.jobs)
            report = attrs.asdict(plan) | {"workload": SWEPT[plan.workload].name}
            report |= whole | attrs.asdict(tally) | {"seconds": round(time.monotonic() - began, 1)}
            sys.stdout.write(json.dumps(report) + "\n")
            sys.stdout.flush()
            failed += tally.failed
    return 1 if failed else 0


def _options() -> argparse.Namespace:
    names = [workload.name for workload in SWEPT]
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--full", action="store_true", help="every point of every workload")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--workloads", nargs="*", default=None, metavar="NAME", choices=names)
    parser.add_argument("--kinds", nargs="*", default=None, choices=get_args(Kind))
    parser.add_argument("--every", type=int, default=None, help="take every n-th point")
    parser.add_argument("--times", type=int, default=None, help="random kills a workload")
    return parser.parse_args()


_SLICE: dict[str, tuple[int, int, int, int]] = {
    "three parallel tools": (11, 13, 30_000, 14),
    "mixed effects": (7, 9, 20_000, 32),
    "queued triggers": (23, 31, 50_000, 14),
    "transactions": (19, 17, 100_000, 8),
}
"""The normal run: of each workload every n-th step, statement and size, and how many times."""


def _plans(options: argparse.Namespace) -> Iterator[Plan]:
    whole = options.full or options.workloads is not None or options.kinds is not None
    for number, workload in enumerate(SWEPT):
        if options.workloads is not None and workload.name not in options.workloads:
            continue
        share = (1, 1, 2_060, -(-2_000 // len(SWEPT))) if whole else _SLICE.get(workload.name)
        if share is None:
            continue
        *strides, times = share
        for kind, stride in zip(("step", "statement", "size", "time"), (*strides, 1), strict=True):
            if options.kinds is None or kind in options.kinds:
                every = options.every or stride
                count = options.times or times
                yield Plan(workload=number, kind=kind, every=every, count=count)  # type: ignore[arg-type] # of a table


def _warm_up() -> None:
    """Pay for imports and caches before the first fork. Runs no thread."""
    for workload in WORKLOADS:
        trio.run(lambda chosen=workload: differential(chosen, variants=()))


def _sweep(plan: Plan, folder: Path, jobs: int) -> tuple[Tally, dict[str, Any]]:
    lanes = [_make_lane(folder, number) for number in range(jobs)]
    try:
        workload = SWEPT[plan.workload]
        twin, done, lives = lanes[0][0].trial(workload, ())
        tally = Tally()
        tally.note(f"{workload.name}, the twin", twin.findings(twin))
        lasted_s = lives[-1].lasted_s
        parts = [
            _fork_lane(lane, plan, twin, _points(plan, lasted_s, number, jobs))
            for number, (lane, _) in enumerate(lanes)
        ]
        for part in [_collect(*part) for part in parts]:
            tally.add(part)
    finally:
        for lane, counter in lanes:
            os.kill(counter, signal.SIGKILL)
            os.waitpid(counter, 0)
            shutil.rmtree(lane.folder)
    whole = {
        "steps": done.steps,
        "statements": done.statements,
        "largest": done.largest,
        "twin_ms": round(lasted_s * 1000),
    }
    return tally, whole


def _make_lane(folder: Path, number: int) -> tuple[Lane, int]:
    own = folder / str(number)
    own.mkdir()
    lane = Lane(own, own / "counter")
    return lane, start_counter(lane.counter)


def _points(plan: Plan, lasted_s: float, lane: int, lanes: int) -> Iterator[tuple[Trap, ...]]:
    if plan.kind == "time":
        chance = random.Random(plan.workload * 100 + lane)  # the same ones each time
        for _ in range(lane, plan.count, lanes):
            times = [int(chance.uniform(0, lasted_s * 1e6)) for _ in range(2)]
            yield tuple(Trap("time", at) for at in times)
        return
    at = 1 + lane * plan.every
    while True:
        yield (Trap(plan.kind, at),)
        at += lanes * plan.every


def _fork_lane(
    lane: Lane, plan: Plan, twin: Evidence, points: Iterator[tuple[Trap, ...]]
) -> tuple[int, int]:
    reading, writing = os.pipe()
    pid = os.fork()
    if pid:
        os.close(writing)
        return pid, reading
    code = 1
    try:
        os.close(reading)
        with os.fdopen(writing, "wb") as pipe:
            pickle.dump(lane.sweep(plan, twin, points), pipe)
        code = 0
    except BaseException:  # noqa: BLE001 - nothing is above this
        traceback.print_exc()
    os._exit(code)


def _collect(pid: int, reading: int) -> Tally:
    with os.fdopen(reading, "rb") as pipe:
        data = pipe.read()
    os.waitpid(pid, 0)
    if not data:
        raise RuntimeError("a lane of the sweep has failed: see above")
    tally: Tally = pickle.loads(data)
    return tally


if __name__ == "__main__":
    sys.exit(main())
