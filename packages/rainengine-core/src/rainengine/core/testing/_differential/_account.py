"""What a ledger tells about sessions, without what may differ between a run and its twin.

A crash legitimately changes: sequences and times; how results share appends; claims of the lease;
attempts and durations of calls; whether a reflection was due (it is counted in records); tokens,
which are minted anew where their append was lost (they are numbered here instead);
reservations, and what the session has spent by one whose call has no recorded end;
and, for an unsafe call that was interrupted, its result. Such a call is *in doubt*:
its result, those of calls that were skipped because of it, its skill's statistics
and the fingerprints of prompts that showed it are left out of the comparison.
Everything else is the same, to the last character.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias, TypeGuard

import attrs

from rainengine.core import codec
from rainengine.core.abc import EncodedEntry, EncodedRecords, Ledger, SessionLeases
from rainengine.core.errors import UsageError
from rainengine.core.projection import SessionProjection, fold
from rainengine.core.testing._differential._receivers import call_label
from rainengine.core.testing._differential._witness import PAGE, read_all
from rainengine.core.verification import verify_session

Json: TypeAlias = Any

_PASSING = frozenset(
    {
        "sequence",
        "first_sequence",
        "last_sequence",
        "last_reflection_sequence",
        "through_sequence",
        "first_recorded_at_ms",
        "last_recorded_at_ms",
        "last_failure_at_ms",
        "started_at_ms",
        "at_ms",
        "attempts",
        "duration_ms",
        "retry_at_ms",
        "since_ms",
        "suspended_ms",
        "expires_at_ms",
    }
)
_OF_GRAPHS = frozenset(
    {"tool_call", "tool_node_checkpoint", "tool_result", "skill_input_validation"}
)
_AMOUNTS = ("input_tokens", "output_tokens", "cost_micros")
_ANSWERING = frozenset({"resume_token", "correlation_id"})
_INCIDENTAL = frozenset(
    {
        "coordination_claim",
        "reflection",
        "tool_performance",
        "strategy_preference",
        "policy_tuning",
    }
)


@attrs.define
class RunAccount:
    """One run: its decisive records in order, and what came of each call."""

    records: list[Json] = attrs.field(factory=list[Json])
    issued: dict[str, Json] = attrs.field(factory=dict[str, Json])
    checks: dict[str, Json] = attrs.field(factory=dict[str, Json])
    statuses: dict[str, str] = attrs.field(factory=dict[str, str])
    results: dict[str, Json] = attrs.field(factory=dict[str, Json])
    needs: dict[str, tuple[str, ...]] = attrs.field(factory=dict[str, "tuple[str, ...]"])
    times_settled: dict[str, int] = attrs.field(factory=dict[str, int])
    reserved: Json = None
    forfeited: dict[str, int] = attrs.field(factory=dict[str, int])


@attrs.frozen(kw_only=True)
class Account:
    """One session: its runs, the order in which they began, its projection and its lease."""

    session_id: str
    runs: Mapping[str, RunAccount]
    order: tuple[str, ...]
    projection: Json
    held_by: str | None
    broken: str | None

    def results(self) -> dict[str, Json]:
        """All results of all runs, by call."""
        return {call: result for run in self.runs.values() for call, result in run.results.items()}

    def effects(self) -> dict[str, str]:
        """What each issued call's skill says of repeating it."""
        return {
            call: issued["effects"]
            for run in self.runs.values()
            for call, issued in run.issued.items()
        }


async def account_of(ledger: Ledger, session_id: str) -> Account:
    """Read a session and verify it. Raises `UsageError` if its records cannot be read encoded."""
    if not isinstance(ledger, EncodedRecords):
        raise UsageError(f"{type(ledger).__name__} cannot show its encoded records")
    entries: list[EncodedEntry] = []
    while page := await ledger.read_encoded(session_id, after=len(entries), limit=PAGE):
        entries += page
    runs: dict[str, RunAccount] = {}
    order: list[str] = []
    tokens = _tokens_in(entries)
    for entry in entries:
        trigger_id = entry.trigger_id or ""
        if entry.kind == "trigger_intent":
            order.append(trigger_id)
        _take(runs.setdefault(trigger_id, RunAccount()), entry, tokens)
    projection = await _projection(ledger, session_id, tokens)
    for run in runs.values():
        for name, amount in run.forfeited.items():
            projection["usage"][name] -= amount
    lease = await ledger.lease_of(session_id) if isinstance(ledger, SessionLeases) else None
    checked = await verify_session(ledger, session_id) if entries else None
    return Account(
        session_id=session_id,
        runs=runs,
        order=tuple(order),
        projection=projection,
        held_by=None if lease is None else lease.owner,
        broken=None if checked is None or checked.ok else checked.reason,
    )


def _tokens_in(entries: Iterable[EncodedEntry]) -> list[str]:
    outcomes = (codec.parse_json(entry.payload) for entry in entries if entry.kind == "outcome")
    tokens = (outcome.get("resume_token") for outcome in outcomes if _is_object(outcome))
    return [token for token in tokens if token is not None]


def _numbered(payload: str, tokens: Sequence[str]) -> Json:
    """Parse a payload, with numbers for the tokens in it."""
    for number, token in enumerate(tokens):
        payload = payload.replace(token, f"token {number}")
    return codec.parse_json(payload)


async def _projection(ledger: Ledger, session_id: str, tokens: Sequence[str]) -> Json:
    projection = SessionProjection()
    for record in await read_all(ledger, session_id):
        fold(projection, record.sequence, record)
    return _lasting(_numbered(codec.encode_value(projection).decode(), tokens))


def _take(run: RunAccount, entry: EncodedEntry, tokens: Sequence[str]) -> None:
    if entry.kind in _INCIDENTAL:
        return
    payload: Json = _numbered(entry.payload, tokens)
    if entry.kind == "trigger" and not _ANSWERING.isdisjoint(payload["trigger"]):
        del payload["body_hash"]  # of the token
    if entry.kind in {"provider_usage", "outcome"}:
        _take_of_budget(run, payload)
    if payload.get("status") in {"reserved", "released"}:
        return
    if entry.kind in _OF_GRAPHS:
        _take_of_graph(run, entry.kind, payload)
        return
    if entry.kind == "tool_execution_graph":
        for call in payload["calls"]:
            label = call_label(payload["graph_id"], call["call_id"])
            needs = call.get("depends_on", ())
            run.needs[label] = tuple(call_label(payload["graph_id"], other) for other in needs)
    run.records.append({"kind": entry.kind, "key": entry.idempotency_key} | _lasting(payload))


def _take_of_budget(run: RunAccount, payload: Json) -> None:
    """Note what is reserved, and what of it counts as spent as its call has no recorded end."""
    ends = payload.get("status") in {"settled", "failed", "released"}
    if run.reserved is not None and not ends:
        for name in _AMOUNTS:
            run.forfeited[name] = run.forfeited.get(name, 0) + run.reserved.get(name, 0)
    run.reserved = payload if payload.get("status") == "reserved" else None


def _take_of_graph(run: RunAccount, kind: str, payload: Json) -> None:
    graph_id: str = payload["graph_id"]
    if kind == "tool_result":
        label = call_label(graph_id, payload["call_id"])
        run.results.setdefault(label, _lasting(payload))
        run.times_settled[label] = run.times_settled.get(label, 0) + 1
        return
    for item in payload.get("calls") or payload.get("checks") or payload.get("nodes") or ():
        label = call_label(graph_id, item["call_id"])
        if kind == "tool_call":
            run.issued[label] = item
        elif kind == "skill_input_validation":
            run.checks[label] = item
        else:
            run.statuses[label] = item["statuses"][-1]


def _lasting(value: Json) -> Json:
    if _is_object(value):
        return {key: _lasting(item) for key, item in value.items() if key not in _PASSING}
    if _is_array(value):
        return [_lasting(item) for item in value]
    return value


def _is_object(value: Json) -> TypeGuard[dict[str, Json]]:
    return isinstance(value, dict)


def _is_array(value: Json) -> TypeGuard[list[Json]]:
    return isinstance(value, list)


# Doubt.


def doubts_in(account: Account, twin: Account) -> set[str]:
    """Calls whose outcome is unknown in this run, and not for the reason that the twin has."""
    known = twin.results()
    return {
        call
        for call, result in account.results().items()
        if failure_kind(result) == "unknown_outcome" and result != known.get(call)
    }


def skipped_for(account: Account, doubts: Collection[str]) -> set[str]:
    """Calls that were skipped because one that they need is in doubt."""
    skipped: set[str] = set()
    while True:
        more = {
            call
            for run in account.runs.values()
            for call, needs in run.needs.items()
            if run.statuses.get(call) == "skipped"
            and any(need in doubts or need in skipped for need in needs)
        }
        if more <= skipped:
            return skipped
        skipped |= more


def failure_kind(result: Json) -> str | None:
    """Why a call has no value, or None where it has one."""
    failure: Json = None if result is None else result.get("failure")
    return None if failure is None else failure["kind"]


# Comparing.


def differences(twin: Account, account: Account) -> Iterator[str]:
    """Say what differs although it may not, each with its place in the account."""
    doubts = doubts_in(account, twin)
    out = doubts | skipped_for(account, doubts)
    names = {run.results[call]["name"] for run in account.runs.values() for call in out
             if call in run.results}  # fmt: skip
    expected = _comparable(twin, out, names)
    actual = _comparable(account, out, names)
    yield from _differences(f"session {account.session_id!r}", expected, actual)


def _comparable(account: Account, out: Collection[str], names: Collection[str]) -> Json:
    runs: Json = {
        trigger_id: {
            "records": _without_doubt(run.records, out),
            "issued": _left(run.issued, out),
            "checks": run.checks,
            "statuses": _left(run.statuses, out),
            "results": _left(run.results, out),
            "times_settled": run.times_settled,
        }
        for trigger_id, run in account.runs.items()
        if trigger_id
    }
    projection = _without_doubt(account.projection, out)
    for name, skill in list(projection.get("skills", {}).items()):
        if name in names:
            del projection["skills"][name]
        else:  # parallel calls may end in another order
            skill["recent"] = sorted(skill["recent"])
    return {
        "runs": runs,
        "order": list(account.order),
        "projection": projection,
        "held_by": account.held_by,
        "broken": account.broken,
    }


def _left(items: Mapping[str, Json], out: Collection[str]) -> dict[str, Json]:
    return {call: item for call, item in items.items() if call not in out}


def _without_doubt(value: Json, out: Collection[str]) -> Json:
    if _is_array(value):
        return [_without_doubt(item, out) for item in value]
    if not _is_object(value):
        return value
    if "graph_id" in value and call_label(value["graph_id"], value.get("call_id", "")) in out:
        return "in doubt"
    return {
        key: _without_doubt(item, out)
        for key, item in value.items()
        if not (out and key == "prompt_hash")
    }


def _differences(where: str, expected: Json, actual: Json) -> Iterator[str]:
    if _is_object(expected) and _is_object(actual):
        for key in [*expected, *(key for key in actual if key not in expected)]:
            place = f"{where}, {key}"
            if key not in actual:
                yield f"{place}: is missing"
            elif key not in expected:
                yield f"{place}: is unexpected: {actual[key]!r:.500}"
            else:
                yield from _differences(place, expected[key], actual[key])
    elif _is_array(expected) and _is_array(actual):
        yield from _differing_items(where, expected, actual)
    elif expected != actual:
        yield f"{where}: the twin has {expected!r:.500}, this run has {actual!r:.500}"


def _differing_items(where: str, expected: list[Json], actual: list[Json]) -> Iterator[str]:
    if len(expected) != len(actual):
        yield f"{where}: the twin has {len(expected)} items, this run has {len(actual)}"
    for number, (one, other) in enumerate(zip(expected, actual, strict=False)):
        yield from _differences(f"{where}, item {number}", one, other)


def broken_promises(accounts: Iterable[Account]) -> Iterator[str]:
    """Say what no history may hold, whatever its twin looks like."""
    for account in accounts:
        if account.broken is not None:
            yield f"session {account.session_id!r} does not verify: {account.broken}"
        for run in account.runs.values():
            for call, times in run.times_settled.items():
                if times > 1:
                    yield f"{call} has {times} results"
