"""The demo: an agent at work on a pile of invoices is killed, started again, and finishes.

This process is the one that watches. It starts `worker.py`, kills it with SIGKILL in the middle
of two effects, starts it again, and then shows from the ledger what happened.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import textwrap
import time
from pathlib import Path

import attrs
import office
import trio
from board import BOLD, DIM, GREEN, RED, Board, is_live, legend, paint
from evidence import Evidence
from mind import chosen_mind
from timeline import timeline
from worker import LEDGER, SESSION

WORKER = Path(__file__).with_name("worker.py")
MIND = chosen_mind()
SETTLING_S = 1.0
"""How long a real model's other calls have to come to an end before the process is killed."""


@attrs.frozen(kw_only=True)
class Life:
    """One process from its start to its end."""

    pid: int
    began_ms: int
    killed: bool
    returncode: int
    waiting: tuple[str, ...]
    """The skills whose effects were under way in the end."""


def main() -> int:
    """Run the demo; 0 means that all went as promised."""
    folder, pace_s = _arguments()
    invoices = len(list(office.DOCUMENTS.glob("*.txt")))
    print(paint("RainEngine: an agent that is killed in the middle of its work", BOLD))
    print(f"{invoices} invoices to read, check, convert, post and report; the ledger is one file.")
    print(MIND.told)
    if is_live():
        print(legend())
    first = _live(folder, pace_s, kill=True)
    if not first.killed:
        return _complain(first)
    print(paint(f"  SIGKILL: process {first.pid} is gone (exit status {first.returncode}).", RED))
    print(f"  {_under_way(first)}: not confirmed, and not recorded.")
    second = _live(folder, pace_s, kill=False)
    if second.returncode != 0:
        return _complain(second)
    evidence = trio.run(Evidence.collect, folder)
    _tell(evidence, first, second)
    _count(evidence, first, second)
    good = _prove(evidence, second)
    _point_to(folder)
    return 0 if good else 1


def _arguments() -> tuple[Path, float]:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--fast", action="store_true", help="do not slow down for people")
    parser.add_argument("--folder", type=Path, help="an empty folder to work in")
    arguments = parser.parse_args()
    folder = arguments.folder or Path(tempfile.mkdtemp(prefix="rainengine-demo-"))
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        parser.error(f"{folder} is not empty")
    return folder, 0.0 if arguments.fast else 0.65


def _live(folder: Path, pace_s: float, *, kill: bool) -> Life:
    """Run the worker in the folder; kill it once enough calls wait for their receipts."""
    began_ms = _now_ms()
    lost = "" if not kill else "first" if MIND.is_real else "named"
    environment = {**os.environ, "DEMO_PACE_S": str(pace_s), "DEMO_LOST_RECEIPTS": lost}
    board = Board()
    waiting: list[str] = []
    killed = False
    with subprocess.Popen(  # noqa: S603  # our own worker
        [sys.executable, str(WORKER)], cwd=folder, env=environment, stdout=subprocess.PIPE
    ) as process:
        print(f"\n  {paint(f'process {process.pid}', BOLD)} starts", flush=True)
        try:
            for line in process.stdout or ():
                event = json.loads(line)
                board.show(event)
                waiting += [event["skill"]] if event["event"] == "waiting" else []
                if kill and not killed and _is_time(waiting):
                    time.sleep(max(pace_s, SETTLING_S * MIND.is_real))  # for whoever watches
                    process.kill()
                    killed = True
        except BaseException:
            process.kill()
            raise
    return Life(
        pid=process.pid,
        began_ms=began_ms,
        killed=killed,
        returncode=process.returncode,
        waiting=tuple(waiting),
    )


def _is_time(waiting: list[str]) -> bool:
    """Whether enough is under way: nobody knows how much a real model will do at once."""
    return len(waiting) == (1 if MIND.is_real else len(office.NO_RECEIPT))


def _under_way(life: Life) -> str:
    told = {"post_invoice": "a posting is in the book", "send_mail": "a letter is sent"}
    parts = [what for skill, what in told.items() if skill in life.waiting]
    return " and ".join(parts).capitalize()


def _complain(life: Life) -> int:
    print(paint(f"  process {life.pid} ended too early, with status {life.returncode}", RED))
    return 1


def _tell(evidence: Evidence, *lives: Life) -> None:
    """Print the session's timeline."""
    print(f"\n{paint('The session, as the ledger tells it', BOLD)}\n")
    print(paint("  records    time   process", DIM))
    began_ms = evidence.records[0].occurred_at_ms
    process = 0
    for line in timeline(evidence.records):
        if line.process != process:
            process = line.process
            print(paint("                             SIGKILL: nobody was left to record it", RED))
        span = f"{line.first}" if line.first == line.last else f"{line.first}-{line.last}"
        at = f"{(line.at_ms - began_ms) / 1000:.2f} s"
        row = f"  {span:>7}{at:>9}  {lives[line.process].pid:>7}  {line.text}"
        print(textwrap.fill(row, shutil.get_terminal_size().columns, subsequent_indent=" " * 32))


def _count(evidence: Evidence, first: Life, second: Life) -> None:
    """Print what each process did."""
    before, after = (len(evidence.results(after_takeover=late)) for late in (False, True))
    cut_off = evidence.cut_off(first.pid)
    again = len(cut_off & evidence.noted(second.pid, "began"))
    found = len(cut_off & evidence.noted(second.pid, "found"))
    waited_s = (evidence.takeover.occurred_at_ms - second.began_ms) / 1000
    print(f"\n{paint('What each process did', BOLD)}\n")
    print(f"  {first.pid:>7}  finished {before} calls and left {len(cut_off)} under way")
    print(f"  {second.pid:>7}  took over {waited_s:.2f} s after its start, finished {after} calls:")
    print(f"           {again} left under way, run again under the same idempotency key")
    print(f"           {found} left under way, looked up and found done")
    print(f"           {after - again - found} not begun before")


def _prove(evidence: Evidence, second: Life) -> bool:
    """Print whether anything was done twice, by the ledger and by what was left outside."""
    before, repeated = evidence.results(after_takeover=False), evidence.repeated(second.pid)
    doubles, chain = evidence.doubles(), evidence.verification
    print(f"\n{paint('Nothing was done twice', BOLD)}\n")
    facts = {
        f"{len(before)} calls had a result before the kill: {len(repeated)} ran again after it":
            not repeated,
        f"{len(evidence.log)} lines in the skills' own log: calls and keys are the ledger's":
            evidence.keys_agree(),
        f"{len(evidence.book)} postings and {len(evidence.sent)} letters: {len(doubles)} double":
            not doubles,
        f"verify_session: ok={chain.ok}, records={chain.records}, reason={chain.reason}": chain.ok,
    }  # fmt: skip
    for fact, holds in facts.items():
        print(f"  {paint('ok', GREEN) if holds else paint('NO', RED)}  {fact}")
    return all(facts.values())


def _point_to(folder: Path) -> None:
    print(f"\n{paint('Look for yourself', BOLD)}: {folder}\n")
    for name, what in {
        office.REPORT.name: "what the agent reported",
        office.BOOK.name: "what it posted",
        office.SENT.name: "what it sent",
        office.EXECUTION.name: "what the skills noted",
        LEDGER: f"the ledger, with the session {SESSION!r}",
    }.items():
        print(f"  {name:<18} {what}")


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


if __name__ == "__main__":
    sys.exit(main())
