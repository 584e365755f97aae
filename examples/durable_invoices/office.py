"""The world outside the agent: documents, a rate service, an accounting book, a mailbox.

Everything that is written lies in the working directory of the process.
`execution.jsonl` is kept beside the ledger, and without its help: who did what, and when.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import trio

from rainengine.core.abc import SkillInvocation

DOCUMENTS = Path(__file__).with_name("invoices")
BOOK = Path("accounting.jsonl")
SENT = Path("sent.jsonl")
REPORT = Path("report.md")
EXECUTION = Path("execution.jsonl")

PACE_S = float(os.environ.get("DEMO_PACE_S", "0"))
"""How long everything takes. The work itself takes no time that one could watch."""

UNITS_PER_EURO = {"GBP": 0.8354, "USD": 1.0815}

NO_RECEIPT = ("mail:08-mill-again", "post:06-coffee")
"""Calls of the scripted model whose receipt does not arrive: there the demo kills the process."""

LOST = os.environ.get("DEMO_LOST_RECEIPTS", "")
"""Which receipts are lost: those `named` above, the `first` of each kind, or none."""


# What is told to whoever watches.


def note(call: SkillInvocation, event: str, text: str = "") -> None:
    """Write down what happens to a call, and tell the parent process on standard output."""
    entry = {
        "pid": os.getpid(),
        "at_ms": time.time_ns() // 1_000_000,
        "call_id": call.call_id,
        "skill": call.name,
        "attempt": call.attempt,
        "key": call.idempotency_key,
        "event": event,
        "text": text,
    }
    _append(EXECUTION, entry)
    os.write(sys.stdout.fileno(), json.dumps(entry).encode() + b"\n")


@contextmanager
def working(call: SkillInvocation, text: str) -> Iterator[None]:
    """Note the beginning and the end of an attempt."""
    note(call, "began", text)
    try:
        yield
    except Exception as error:
        note(call, "failed", str(error))
        raise
    note(call, "done", text)


# The rate service. It has a bad morning: the first question of all goes unanswered.


def rate(currency: str, attempt: int) -> float | None:
    """How many units of the currency make a euro, or None where it is not traded here."""
    if currency == "USD" and attempt == 1:
        raise ConnectionError("the rate service hung up")
    return UNITS_PER_EURO.get(currency)


# The accounting book honours idempotency keys: the same key again changes nothing.


def post(key: str, entry: dict[str, Any]) -> dict[str, Any]:
    """Add an entry, unless the key is there already; return the entry of that key."""
    for known in rows(BOOK):
        if known["key"] == key:
            return known
    new = {"number": len(rows(BOOK)) + 1, "key": key, **entry}
    _append(BOOK, new)
    return new


# The mailbox knows no such keys: to send twice is to send two letters. It can be looked into.


def send(message_id: str, letter: dict[str, Any]) -> None:
    """Send a letter, whether or not it was sent before."""
    _append(SENT, {"message_id": message_id, **letter})


def sent(message_id: str) -> bool:
    """Whether the letter is among those that were sent."""
    return any(letter["message_id"] == message_id for letter in rows(SENT))


async def receipt(call: SkillInvocation) -> None:
    """Wait until the other side confirms."""
    if _is_lost(call):
        note(call, "waiting", "written, but no receipt comes")
        await trio.sleep_forever()  # until the skill's timeout, or the end of the process
    await trio.sleep(PACE_S)


def _is_lost(call: SkillInvocation) -> bool:
    if LOST == "first":  # nobody knows what ids a real model gives
        return len(rows(BOOK if call.name == "post_invoice" else SENT)) == 1
    return LOST == "named" and call.attempt == 1 and call.call_id in NO_RECEIPT


def rows(path: Path) -> list[dict[str, Any]]:
    """All entries of a file with one JSON object a line."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def _append(path: Path, entry: dict[str, Any]) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(entry, ensure_ascii=False) + "\n")
