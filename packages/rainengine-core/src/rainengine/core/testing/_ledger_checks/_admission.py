"""Checks of the admission rule: what is refused is refused by all stores, and stores nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, cast

import attrs

from rainengine.core.abc import LeaseChange, OutboxItem, SessionIndex, SessionState
from rainengine.core.codec import encode
from rainengine.core.errors import InadmissibleValue
from rainengine.core.records import (
    JsonValue,
    KernelEvent,
    KernelEventRecord,
    NewRecord,
    Record,
    ToolResult,
    Trigger,
    TriggerRecord,
    UnknownRecord,
)
from rainengine.core.testing._expect import expect_equal, refusal
from rainengine.core.testing._maker import LedgerMaker, one_ledger
from rainengine.core.testing._samples import START_MS, note, trigger

LARGEST = 2**64 - 1
SMALLEST = -(2**63)

BAD_NAMES = ("", "a\0b", "\ud800", "x" * 513, "ü" * 257)


def _nested(depth: int) -> JsonValue:
    value: JsonValue = []
    for _ in range(depth - 1):
        value = [value]
    return value


def _result(value: object) -> NewRecord:
    record = ToolResult(graph_id="g", call_id="c", name="n", value=cast(JsonValue, value))
    return NewRecord(record, START_MS, "run")


BAD_VALUES: tuple[tuple[str, object], ...] = (
    ("NUL in text", "a\0b"),
    ("NUL in a key", {"a\0": 1}),
    ("lone surrogate", "\ud800"),
    ("lone surrogate in a key", {"\udfff": 1}),
    ("NaN", float("nan")),
    ("infinity", [float("inf")]),
    ("negative infinity", {"a": float("-inf")}),
    ("integer above 64 bits", LARGEST + 1),
    ("integer below 64 bits", SMALLEST - 1),
    ("huge integer", 10**400),
    ("number as a key", {1: 2}),
    ("bytes", b"text"),
    ("tuple, which reads back as a list", (1, 2)),
    ("set", {1}),
    ("object", object()),
    ("one level too deep", _nested(300)),
    ("depth of 10,000", _nested(10_000)),
)

GOOD_VALUES: tuple[tuple[str, JsonValue], ...] = (
    ("escaped NUL as text", "\\u0000"),
    ("all of Unicode's planes", "ä\u2028\ufffd\U0010ffff\x7f\x01\x1f"),
    ("largest integer", LARGEST),
    ("smallest integer", SMALLEST),
    ("floats", [0.1, -1e308, 5e-324, 1.0]),
    ("digits in text", "1" * 50),
    ("many brackets", [[[]] for _ in range(500)]),
    ("brackets in text", "[{" * 500),
    ("depth of 150", _nested(150)),
    ("empty things", {"": [], "a": {}, "b": "", "c": None}),
    ("something large", "x" * 1_000_000),
)


async def check_what_breaks_the_rule_is_refused(maker: LedgerMaker) -> None:
    """A value that breaks the admission rule is `InadmissibleValue`, and nothing is stored."""
    async with one_ledger(maker) as ledger:
        await ledger.append("s", [note()], expected=None)
        for what, value in BAD_VALUES:
            async with refusal(ledger, "s", InadmissibleValue, what):
                await ledger.append("s", [note("before"), _result(value)], expected=None)


async def check_what_keeps_the_rule_reads_back_equal(maker: LedgerMaker) -> None:
    """A value within the admission rule is stored and reads back equal."""
    async with one_ledger(maker) as ledger:
        for sequence, (what, value) in enumerate(GOOD_VALUES, 1):
            new = _result(value)
            await ledger.append("s", [new], expected=None)
            (stored,) = await ledger.read("s", after=sequence - 1)
            expect_equal(new.record, stored.record, what)


async def check_what_is_too_large_is_refused(maker: LedgerMaker) -> None:
    """A record of more than `max_payload_bytes` is `InadmissibleValue`, one of just so many not."""
    async with one_ledger(maker) as ledger:
        largest = ledger.max_payload_bytes
        for size in (largest + 1, 2 * largest):
            async with refusal(ledger, "s", InadmissibleValue, f"{size} of {largest} bytes"):
                await ledger.append("s", [note(), _sized(size)], expected=None)
        for size in (largest // 2, largest):
            await ledger.append("s", [_sized(size)], expected=None)
        entries = await ledger.read_encoded("s")
        sizes = [len(entry.payload.encode()) for entry in entries]
        expect_equal([largest // 2, largest], sizes, "bytes of the stored records")


def _sized(size: int) -> NewRecord:
    _, _, empty = encode(note("").record)
    return note("x" * (size - len(empty)))


async def check_wrong_types_are_refused(maker: LedgerMaker) -> None:
    """Fields of the wrong type, and things that are no records, are `InadmissibleValue`."""
    async with one_ledger(maker) as ledger:
        for what, new in _wrong_types():
            async with refusal(ledger, "s", InadmissibleValue, what):
                await ledger.append("s", [note(), new], expected=None)


def _wrong_types() -> Iterator[tuple[str, NewRecord]]:
    good = trigger()
    record = cast(TriggerRecord, good.record)
    for name, value in (
        ("trigger_id", 5),
        ("trigger", "text"),
        ("trigger", Trigger()),
        ("granted_scopes", ["a list"]),
        ("policy", None),
    ):
        wrong = attrs.evolve(record, **{name: cast(Any, value)})
        yield f"{name}={value!r}", attrs.evolve(good, record=wrong)
    yield "no record", NewRecord(cast(Record, object()), START_MS)
    yield "no event", NewRecord(KernelEventRecord(cast(KernelEvent, 5)), START_MS)
    yield "time as text", attrs.evolve(good, occurred_at_ms=cast(int, "now"))
    yield "time as a float", attrs.evolve(good, occurred_at_ms=cast(int, 1.5))
    yield "time beyond 64 bits", attrs.evolve(good, occurred_at_ms=2**63)


async def check_unknown_records_obey_the_rule(maker: LedgerMaker) -> None:
    """A record of an unknown kind is admitted by the same rule, and only if it is unknown."""
    good = UnknownRecord(stored_kind="new", stored_version=1, payload="{}")
    async with one_ledger(maker) as ledger:
        for what, changes in (
            ("no JSON", {"payload": "{"}),
            ("duplicate keys", {"payload": '{"a":1,"a":2}'}),
            ("NaN", {"payload": "NaN"}),
            ("NUL", {"payload": '"\\u0000"'}),
            ("lone surrogate", {"payload": '"\\ud800"'}),
            ("huge integer", {"payload": "1" * 30}),
            ("too deep", {"payload": "[" * 300 + "]" * 300}),
            ("no text", {"payload": 5}),
            ("no kind", {"stored_kind": ""}),
            ("version 0", {"stored_version": 0}),
            ("version beyond 31 bits", {"stored_version": 2**31}),
            ("a known kind that cannot be read", {"stored_kind": "outcome"}),
        ):
            wrong = NewRecord(attrs.evolve(good, **cast(Any, changes)), START_MS)
            async with refusal(ledger, "s", InadmissibleValue, what):
                await ledger.append("s", [wrong], expected=None)
        await ledger.append("s", [NewRecord(good, START_MS)], expected=None)


async def check_identifiers_are_admitted(maker: LedgerMaker) -> None:
    """Ids and keys have 1 to 512 bytes of text without NUL and surrogates."""
    async with one_ledger(maker) as ledger:
        for name in BAD_NAMES:
            for what, new in (
                ("idempotency key", attrs.evolve(trigger(), idempotency_key=name)),
                ("trigger id", attrs.evolve(note(), trigger_id=name)),
            ):
                async with refusal(ledger, "s", InadmissibleValue, f"{what} {name[:9]!r}"):
                    await ledger.append("s", [new], expected=None)
        longest = "ü" * 256
        await ledger.append(longest, [trigger(longest), note()], expected=None)
        expect_equal(2, (await ledger.head(longest)).sequence, "head under the longest id")


async def check_session_ids_are_admitted(maker: LedgerMaker) -> None:
    """A session id that breaks the rule is `InadmissibleValue` wherever records are appended."""
    async with one_ledger(maker) as ledger:
        for name in BAD_NAMES:
            async with refusal(ledger, "s", InadmissibleValue, f"session {name[:9]!r}"):
                await ledger.append(name, [note()], expected=None)


async def check_extras_are_admitted(maker: LedgerMaker) -> None:
    """Owners, topics, agents, states and what is to be delivered obey the rule too."""
    bad_state = cast(SessionState, "no such state")
    async with one_ledger(maker) as ledger:
        for lease in (LeaseChange("take", "a\0", 1), LeaseChange("take", "", 1), _lease(-1)):
            async with refusal(ledger, "s", InadmissibleValue, f"{lease}"):
                await ledger.append("s", [note()], expected=None, lease=lease)
        for index in (SessionIndex(state=bad_state), SessionIndex(state="running", agent="\0")):
            async with refusal(ledger, "s", InadmissibleValue, f"{index}"):
                await ledger.append("s", [note()], expected=None, index=index)
        for outbox in _bad_outboxes():
            async with refusal(ledger, "s", InadmissibleValue, f"{outbox!r:.200}"):
                await ledger.append("s", [note()], expected=None, outbox=outbox)


def _lease(ttl_ms: int) -> LeaseChange:
    return LeaseChange("take", "a", ttl_ms)


def _bad_outboxes() -> Iterator[Sequence[OutboxItem]]:
    good = OutboxItem(topic="t", payload=None)
    yield [good, OutboxItem(topic="", payload=None)]
    for _, value in BAD_VALUES[:10]:
        yield [good, OutboxItem(topic="t", payload=cast(JsonValue, value))]


CHECKS = (
    check_what_breaks_the_rule_is_refused,
    check_what_keeps_the_rule_reads_back_equal,
    check_what_is_too_large_is_refused,
    check_wrong_types_are_refused,
    check_unknown_records_obey_the_rule,
    check_identifiers_are_admitted,
    check_session_ids_are_admitted,
    check_extras_are_admitted,
)
