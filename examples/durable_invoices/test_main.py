"""The demo keeps its promises."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import attrs
import pytest

from rainengine.core.records import (
    CoordinationClaim,
    OutcomeRecord,
    StoredRecord,
    ToolResult,
)
from rainengine.core.verification import verify_session
from rainengine.store_sqlite import open_sqlite_ledger

HERE = Path(__file__).parent


@attrs.frozen(kw_only=True)
class Demo:
    """A demo that has been run: what it printed, and the folder that it worked in."""

    folder: Path
    returncode: int
    output: str

    def rows(self, name: str) -> list[dict[str, Any]]:
        """The entries of a file with one JSON object a line."""
        return [json.loads(line) for line in (self.folder / name).read_text("utf-8").splitlines()]

    async def records(self) -> list[StoredRecord]:
        """All records of the session."""
        async with open_sqlite_ledger(self.folder / "ledger.db") as ledger:
            return list(await ledger.read("invoices"))


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    """The demo, run at full speed in a folder of its own."""
    folder = tmp_path_factory.mktemp("demo")
    ended = _run("main.py", "--fast", "--folder", str(folder))
    return Demo(folder=folder, returncode=ended.returncode, output=ended.stdout)


def _run(script: str, *arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONUTF8": "1", "OPENAI_API_KEY": "none"}
    environment.pop("RAINENGINE_MODEL", None)
    return subprocess.run(  # noqa: S603  # our own scripts
        [sys.executable, str(HERE / script), *arguments],
        cwd=cwd,
        env=environment,
        stdout=subprocess.PIPE,
        encoding="utf-8",
        check=False,
        timeout=60,
    )


def test_it_ends_well(demo: Demo) -> None:
    """It exits with 0, finds nothing amiss, and says why no real model is asked."""
    assert demo.returncode == 0, demo.output
    assert "NO" not in demo.output.split()
    assert "a scripted model decides" in demo.output


def test_plain_output(demo: Demo) -> None:
    """Where nobody looks on, it prints no control sequences."""
    assert "\x1b" not in demo.output


async def test_killed_once(demo: Demo) -> None:
    """One process is killed, and another takes the session over under the same name."""
    assert re.findall(r"exit status (-?\d+)", demo.output) == ["-9"]
    assert len({line["pid"] for line in demo.rows("execution.jsonl")}) == 2
    claims = [one.record for one in await demo.records() if one.kind == "coordination_claim"]
    assert claims == [
        CoordinationClaim(owner="bookkeeper-1", fence=2, previous_owner="bookkeeper-1")
    ]


async def test_killed_in_the_middle(demo: Demo) -> None:
    """An effect of each kind was under way: the one is run again, the other looked up."""
    results = {
        entry.record.call_id: entry.record
        for entry in await demo.records()
        if isinstance(entry.record, ToolResult)
    }
    assert results["post:06-coffee"].attempts == 2
    assert results["mail:08-mill-again"].attempts == 1
    assert results["mail:08-mill-again"].value == "sent"
    found = [line for line in demo.rows("execution.jsonl") if line["event"] == "found"]
    assert [line["call_id"] for line in found] == ["mail:08-mill-again"]


async def test_nothing_finished_is_repeated(demo: Demo) -> None:
    """No call with a result in the ledger is begun again by the second process."""
    records = await demo.records()
    takeover = next(one.sequence for one in records if isinstance(one.record, CoordinationClaim))
    finished = {
        one.record.call_id for one in records[:takeover] if isinstance(one.record, ToolResult)
    }
    log = demo.rows("execution.jsonl")
    _, second = dict.fromkeys(line["pid"] for line in log)
    began = {line["call_id"] for line in log if line["pid"] == second and line["event"] == "began"}
    assert len(finished) >= 34
    assert began & finished == set()


def test_effects_happen_once(demo: Demo) -> None:
    """Each invoice in order is posted once, each letter sent once."""
    book, sent = demo.rows("accounting.jsonl"), demo.rows("sent.jsonl")
    assert len(book) == len({entry["key"] for entry in book}) == 8
    assert len(sent) == len({letter["message_id"] for letter in sent}) == 5
    assert [letter["to"] for letter in sent].count("the owner") == 1


async def test_a_retry(demo: Demo) -> None:
    """The rate service hangs up once, and the call succeeds on its second attempt."""
    results = [one.record for one in await demo.records() if isinstance(one.record, ToolResult)]
    (converted,) = [one for one in results if one.call_id == "convert:05-hosting"]
    assert (converted.value, converted.attempts, converted.failure) == (12760, 2, None)


def test_the_report(demo: Demo) -> None:
    """The report has the right total, the overdue invoice first, and every planted fault."""
    report = (demo.folder / "report.md").read_text("utf-8")
    assert "Total: EUR 7,124.35" in report
    assert "Spotless Crew, SC-2025-02: 889.35, **18 days overdue**" in report.splitlines()[4]
    _, _, aside = report.partition("## Set aside")
    assert aside.split("\n- ")[1:] == [
        "HEARTH & SONS OVEN SERVICE, H-0077: the total is 1,460.89, not 1,405.89",
        "paperbag & co, 4456: the VAT id is missing",
        "Northfield Mill Ltd, NM-2291: this invoice came in before",
        "Mira Keller, photographer, 25-07: there is no rate for CHF\n",
    ]


async def test_the_chain_holds(demo: Demo) -> None:
    """`verify_session` finds the history whole, and the run answered."""
    async with open_sqlite_ledger(demo.folder / "ledger.db") as ledger:
        verification = await verify_session(ledger, "invoices")
    assert verification.ok, verification.reason
    outcomes = [one.record for one in await demo.records() if isinstance(one.record, OutcomeRecord)]
    assert [(one.stop_reason, one.steps_executed) for one in outcomes] == [("responded", 5)]


async def test_a_third_life_has_nothing_to_do(demo: Demo) -> None:
    """Started once more, the worker finds its request done and changes nothing."""
    records, log = await demo.records(), demo.rows("execution.jsonl")
    ended = _run("worker.py", cwd=demo.folder)
    assert (ended.returncode, ended.stdout) == (0, "")
    assert await demo.records() == records
    assert demo.rows("execution.jsonl") == log


MINDS: dict[str, tuple[dict[str, str], str, str | None]] = {
    "nothing": ({}, "a scripted model decides", None),
    "a key alone": ({"OPENAI_API_KEY": "k"}, "RAINENGINE_MODEL is not", None),
    "a model alone": ({"RAINENGINE_MODEL": "m"}, "is set, none of", None),
    "OpenAI": ({"RAINENGINE_MODEL": "m", "OPENAI_API_KEY": "k"}, "m decides", "openai"),
    "an endpoint": (
        {"RAINENGINE_MODEL": "m", "OPENAI_API_KEY": "k", "OPENAI_BASE_URL": "http://h/v1"},
        "m at http://h/v1 decides",
        "openai",
    ),
    "Gemini": ({"RAINENGINE_MODEL": "m", "GEMINI_API_KEY": "k"}, "m decides", "gemini"),
    "both keys": (
        {"RAINENGINE_MODEL": "gemini-x", "OPENAI_API_KEY": "k", "GEMINI_API_KEY": "k"},
        "gemini-x decides",
        "gemini",
    ),
}


@pytest.mark.parametrize(("environment", "told", "plugin"), MINDS.values(), ids=MINDS)
def test_who_decides(environment: dict[str, str], told: str, plugin: str | None) -> None:
    """The environment names the model; its key is passed on by reference only."""
    code = f"""
from mind import chosen_mind
mind = chosen_mind({environment!r})
print(mind.told, mind.plugin, mind.settings.get("api_key"), sep="|")
"""
    done = subprocess.run(  # noqa: S603  # our own code
        [sys.executable, "-c", code], cwd=HERE, capture_output=True, text=True, check=True
    )
    said, chosen, key = done.stdout.strip().split("|")
    assert told in said
    assert chosen == str(plugin)
    assert key == ("None" if plugin is None else f"env:{plugin.upper()}_API_KEY")
