"""The testing kit: checks that can fail, ledgers that break on purpose, scripted surroundings."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import attrs
import pytest
import trio
from hypothesis import given, settings
from trio.testing import MockClock

from rainengine.core.abc import (
    Clock,
    EncodedEntry,
    EncodedRecords,
    IdSource,
    LeaseChange,
    Ledger,
    LedgerStore,
    SessionLeases,
    Snapshots,
    Watch,
)
from rainengine.core.codec import decode, encode_batch
from rainengine.core.environment import RandomIds, SystemClock
from rainengine.core.errors import (
    AppendUnknown,
    LedgerError,
    LedgerUnavailable,
    RainEngineError,
    SequenceConflict,
)
from rainengine.core.inmemory import InMemoryLedger, InMemoryTenant
from rainengine.core.records import (
    CancelRequest,
    Head,
    KernelEventRecord,
    MemoryArchived,
    NewRecord,
    OutcomeRecord,
    StoredRecord,
    TriggerRecord,
)
from rainengine.core.testing import (
    LEDGER_CHECKS,
    CheckFailed,
    CrashingLedger,
    FailAfter,
    FailBefore,
    Fault,
    FaultyLedger,
    IntakeBefore,
    LedgerCheck,
    ScriptedClock,
    ScriptedIds,
    SimulatedCrash,
    strategies,
)

CAPABILITIES = (Ledger, LedgerStore, SessionLeases, Snapshots, Watch, EncodedRecords)

TAKE = LeaseChange("take", "a", 60_000)

NOTE = NewRecord(KernelEventRecord(MemoryArchived(note_id="n", content="c")), 1, "run")
CANCEL = NewRecord(CancelRequest(reason="enough"), 1)


async def lengths(*ledgers: Ledger) -> list[int]:
    """How many records each ledger has under session `s`."""
    return [len(await ledger.read("s")) for ledger in ledgers]


# The checks can fail


@attrs.define
class BrokenMaker:
    """Opens in-memory ledgers whose tenants are spoilt in one way."""

    spoil: Callable[[InMemoryTenant], None]
    clock: ScriptedClock = attrs.field(factory=ScriptedClock)
    backing: InMemoryLedger | None = None

    @asynccontextmanager
    async def open(self) -> AsyncGenerator[InMemoryLedger]:
        handle = _SpoiltLedger(self.clock, backing=self.backing)
        handle.spoil = self.spoil
        self.backing = self.backing or handle
        yield handle

    async def let_pass(self, ms: int) -> None:
        self.clock.jump(ms)


class _SpoiltLedger(InMemoryLedger):
    spoil: Callable[[InMemoryTenant], None]

    def for_tenant(self, tenant: str) -> InMemoryTenant:
        handle = super().for_tenant(tenant)
        if handle is not self and not hasattr(handle, "spoilt"):
            self.spoil(handle)
            handle.spoilt = True  # type: ignore[attr-defined]
        return handle


def ignoring(*names: str) -> Callable[[InMemoryTenant], None]:
    """Spoil `append` by forgetting some of its arguments."""

    def spoil(ledger: InMemoryTenant) -> None:
        append: Any = ledger.append

        async def forgetful(session_id: str, records: Any, **options: Any) -> Any:
            return await append(session_id, records, **{**options, **dict.fromkeys(names)})

        ledger.append = forgetful  # type: ignore[method-assign]

    return spoil


def tearing(ledger: InMemoryTenant) -> None:
    """Store the records of an append one by one."""
    append: Any = ledger.append

    async def torn(session_id: str, records: Any, *, expected: Any, **options: Any) -> Any:
        done = None
        for record in records:
            done = await append(session_id, [record], expected=expected, **options)
            expected = None
        return done or await append(session_id, records, expected=expected, **options)

    ledger.append = torn  # type: ignore[method-assign]


def skipping(ledger: InMemoryTenant) -> None:
    """Skip a record in pages that do not begin at the start."""
    read = ledger.read

    async def leaky(
        session_id: str, *, after: int = 0, limit: int = 1000
    ) -> Sequence[StoredRecord]:
        return (await read(session_id, after=after, limit=limit))[1 if after else 0 :]

    ledger.read = leaky  # type: ignore[method-assign]


def rewriting(ledger: InMemoryTenant) -> None:
    """Change the stored text of records."""
    read_encoded = ledger.read_encoded

    async def rewritten(
        session_id: str, *, after: int = 0, limit: int = 1000
    ) -> Sequence[EncodedEntry]:
        entries = await read_encoded(session_id, after=after, limit=limit)
        return [attrs.evolve(entry, payload=entry.payload + " ") for entry in entries]

    ledger.read_encoded = rewritten  # type: ignore[method-assign]


def sleeping_in(ledger: InMemoryTenant) -> None:
    """Never wake who waits."""

    async def asleep(session_id: str, sequence: int) -> Head:
        await trio.Event().wait()
        return await ledger.head(session_id)

    ledger.wait_past = asleep  # type: ignore[method-assign]


def dropping_snapshots(ledger: InMemoryTenant) -> None:
    """Keep the first snapshot of a version for ever."""
    offer = ledger.offer_snapshot

    def keep_first(session_id: str, snapshot: Any) -> None:
        if snapshot.sequence < 5:
            offer(session_id, snapshot)

    ledger.offer_snapshot = keep_first  # type: ignore[method-assign]


def forgetting_outcomes(ledger: InMemoryTenant) -> None:
    """Find the oldest outcome there is."""

    async def oldest(session_id: str, idempotency_key: str) -> OutcomeRecord | None:
        for stored in await ledger.read(session_id):
            if isinstance(stored.record, OutcomeRecord):
                return stored.record
        return None

    ledger.find_outcome = oldest  # type: ignore[method-assign]


def never_expiring(ledger: InMemoryTenant) -> None:
    """Judge leases by a clock that stands still."""

    class Still:
        def now_ms(self) -> int:
            return 1_700_000_000_000

    ledger._clock = Still()


def reviving(ledger: InMemoryTenant) -> None:
    """Let every heartbeat pass."""

    async def beat(session_id: str, *, owner: str, fence: int, ttl_ms: int) -> Head:
        return await ledger.head(session_id)

    ledger.heartbeat = beat  # type: ignore[method-assign]


def replacing_the_index(ledger: InMemoryTenant) -> None:
    """Forget the agent where an index does not name one."""
    append: Any = ledger.append

    async def forgetful(*args: Any, index: Any = None, **options: Any) -> Any:
        whole = index and attrs.evolve(index, agent=index.agent or "nobody")
        return await append(*args, index=whole, **options)

    ledger.append = forgetful  # type: ignore[method-assign]


def losing_keys_of_runs(ledger: InMemoryTenant) -> None:
    """Forget every idempotency key."""
    append: Any = ledger.append

    async def keyless(session_id: str, records: Any, **options: Any) -> Any:
        bare = [attrs.evolve(new, idempotency_key=None) for new in records]
        return await append(session_id, bare, **options)

    ledger.append = keyless  # type: ignore[method-assign]


def listing_short(ledger: InMemoryTenant) -> None:
    """End every listing with its first page."""
    list_sessions = ledger.list_sessions

    async def first_page(query: Any) -> Any:
        return attrs.evolve(await list_sessions(query), next=None)

    ledger.list_sessions = first_page  # type: ignore[method-assign]


def storing_after_cancellation(ledger: InMemoryTenant) -> None:
    """Store an append although its caller was cancelled before."""
    append: Any = ledger.append

    async def stubborn(*args: Any, **options: Any) -> Any:
        with trio.CancelScope(shield=True):
            done = await append(*args, **options)
        await trio.lowlevel.checkpoint_if_cancelled()
        return done

    ledger.append = stubborn  # type: ignore[method-assign]


@pytest.mark.parametrize(
    ("spoil", "caught_by"),
    [
        (ignoring("expected"), "check_a_stale_head_is_refused"),
        (ignoring("expected"), "check_writers_with_expected_heads_never_fork"),
        (ignoring("fence"), "check_a_stale_fence_is_refused_even_at_the_head"),
        (ignoring("fence"), "check_the_first_of_two_errors_is_raised"),
        (ignoring("lease"), "check_a_lease_is_taken_with_an_append"),
        (ignoring("lease"), "check_a_lease_is_won_by_one_of_many"),
        (ignoring("index"), "check_a_listing_is_filtered"),
        (replacing_the_index, "check_a_line_keeps_its_index"),
        (losing_keys_of_runs, "check_a_key_is_won_by_one_of_many"),
        (losing_keys_of_runs, "check_a_trigger_key_is_taken_once"),
        (listing_short, "check_a_listing_is_paged_by_session_id"),
        (tearing, "check_a_trigger_key_is_taken_once_within_an_append"),
        (tearing, "check_a_batch_is_never_torn"),
        (tearing, "check_what_breaks_the_rule_is_refused"),
        (tearing, "check_a_cancelled_append_has_a_known_fate"),
        (skipping, "check_a_tailing_reader_skips_nothing"),
        (skipping, "check_records_are_read_in_pages"),
        (rewriting, "check_encoded_records_fit_the_chain"),
        (sleeping_in, "check_waiting_ends_with_an_append"),
        (dropping_snapshots, "check_the_newest_snapshot_of_a_version_is_kept"),
        (forgetting_outcomes, "check_the_newest_outcome_of_a_resumed_run_is_found"),
        (never_expiring, "check_an_expired_lease_is_taken_over"),
        (reviving, "check_a_heartbeat_of_a_lost_lease_raises"),
        (storing_after_cancellation, "check_a_cancelled_caller_stores_nothing"),
    ],
)
def test_a_broken_ledger_is_caught(spoil: Callable[[InMemoryTenant], None], caught_by: str) -> None:
    """A ledger that breaks a promise fails the check that states it."""
    (check,) = [check for check in LEDGER_CHECKS if name_of(check) == caught_by]
    with pytest.raises(Exception) as caught:  # noqa: PT011 - looked at below
        trio.run(check, BrokenMaker(spoil), clock=MockClock(autojump_threshold=0))
    findings = (CheckFailed, RainEngineError, trio.TooSlowError)
    assert all(isinstance(leaf, findings) for leaf in leaves(caught.value)), caught.value


def name_of(check: Any) -> str:
    """The name that a check goes by in reports."""
    return str(check.__name__)


def leaves(error: BaseException) -> list[BaseException]:
    """The errors in an exception group, or the error itself."""
    if isinstance(error, BaseExceptionGroup):
        return [leaf for part in error.exceptions for leaf in leaves(part)]
    return [error]


def test_every_check_states_its_promise() -> None:
    """Checks have names of their own and a docstring that says what holds."""
    names = [name_of(check) for check in LEDGER_CHECKS]
    assert len(names) == len(set(names))
    assert all(name.startswith("check_") for name in names)
    assert all((check.__doc__ or "").endswith(".") for check in LEDGER_CHECKS)


def test_a_failed_check_says_what_it_saw() -> None:
    """The message names what was looked at and both values."""
    (check,) = [c for c in LEDGER_CHECKS if name_of(c) == "check_an_append_returns_the_head"]

    def at_seven(ledger: InMemoryTenant) -> None:
        async def head(session_id: str) -> Head:
            return Head(7, b"")

        ledger.head = head  # type: ignore[method-assign]

    with pytest.raises(CheckFailed) as caught:
        trio.run(check, BrokenMaker(at_seven))
    assert "head after the append" in str(caught.value)
    assert "Head(sequence=7" in str(caught.value)


# Wrappers


class _Bare:
    """A ledger that can do nothing but what every ledger can."""

    def __init__(self, inner: Ledger) -> None:
        self.tenant = inner.tenant
        self.max_payload_bytes = inner.max_payload_bytes
        self.append = inner.append
        self.read = inner.read
        self.head = inner.head
        self.list_sessions = inner.list_sessions
        self.find_outcome = inner.find_outcome


@pytest.mark.parametrize("wrapper", [CrashingLedger, FaultyLedger])
def test_wrappers_can_do_what_the_wrapped_can(
    wrapper: type[CrashingLedger | FaultyLedger],
) -> None:
    """`isinstance` finds in a wrapper the capabilities of what it wraps, and no others."""
    store = InMemoryLedger()
    for inner in (store, store.for_tenant("acme"), _Bare(store)):
        expected = [isinstance(inner, capability) for capability in CAPABILITIES]
        found = [isinstance(wrapper(inner), capability) for capability in CAPABILITIES]
        assert found == expected


@pytest.mark.parametrize("wrapper", [CrashingLedger, FaultyLedger])
@pytest.mark.parametrize("check", LEDGER_CHECKS, ids=name_of)
async def test_idle_wrappers_keep_the_contract(
    wrapper: type[CrashingLedger | FaultyLedger], check: LedgerCheck
) -> None:
    """A wrapper without a fault to play is a ledger like any other."""
    clock, backing = ScriptedClock(), InMemoryLedger()

    class Maker:
        @asynccontextmanager
        async def open(self) -> AsyncGenerator[LedgerStore]:
            store: Any = wrapper(InMemoryLedger(clock, backing=backing))
            yield store

        async def let_pass(self, ms: int) -> None:
            clock.jump(ms)

    await check(Maker())


async def test_a_crash_before_the_append_loses_it() -> None:
    """With `before`, the fatal append is not stored."""
    inner = InMemoryLedger()
    ledger = CrashingLedger(inner, 2, "before")
    await ledger.append("s", [NOTE], expected=None)
    with pytest.raises(SimulatedCrash, match="before append 2"):
        await ledger.append("s", [NOTE, NOTE], expected=None)
    assert await lengths(inner) == [1]
    assert (ledger.appends, ledger.crashed) == (2, True)


async def test_a_crash_after_the_append_loses_its_answer() -> None:
    """With `after`, the fatal append is stored although its caller never hears of it."""
    inner = InMemoryLedger()
    ledger = CrashingLedger(inner, 2, "after")
    await ledger.append("s", [NOTE], expected=None)
    with pytest.raises(SimulatedCrash, match="after append 2"):
        await ledger.append("s", [NOTE, NOTE], expected=None)
    assert await lengths(inner) == [3]


async def test_a_dead_process_does_nothing() -> None:
    """After the crash every call raises, of other tenants and capabilities too."""
    inner = InMemoryLedger()
    ledger: Any = CrashingLedger(inner, 1)
    acme = ledger.for_tenant("acme")
    with pytest.raises(SimulatedCrash):
        await acme.append("s", [NOTE], expected=None, lease=TAKE)
    for handle in (ledger, acme):
        with pytest.raises(SimulatedCrash):
            await handle.append("s", [NOTE], expected=None)
        with pytest.raises(SimulatedCrash):
            await handle.read("s")
        with pytest.raises(SimulatedCrash):
            await handle.release("s", owner="a", fence=1)
        with pytest.raises(SimulatedCrash):
            handle.offer_snapshot("s", None)
    with pytest.raises(SimulatedCrash):
        ledger.for_tenant("other")
    assert await lengths(inner, inner.for_tenant("acme")) == [0, 0]


async def test_a_crash_is_no_exception_that_code_may_handle() -> None:
    """`except Exception` does not catch the crash: a dead process handles nothing."""
    ledger = CrashingLedger(InMemoryLedger(), 1)

    async def carelessly() -> None:
        try:
            await ledger.append("s", [NOTE], expected=None)
        except Exception:  # noqa: BLE001 - what careless code does
            pytest.fail("handled in a dead process")

    with pytest.raises(SimulatedCrash):
        await carelessly()


async def test_a_fatal_append_that_is_refused_is_fatal_all_the_same() -> None:
    """The process dies around the fatal append whether that was stored or refused."""
    ledger = CrashingLedger(InMemoryLedger(), 1, "after")
    with pytest.raises(SimulatedCrash) as caught:
        await ledger.append("s", [NOTE], expected=Head(9, b""))
    assert isinstance(caught.value.__cause__, SequenceConflict)


async def test_appends_under_way_die_with_the_process() -> None:
    """An append that was under way when another one was fatal may be stored but never answers."""
    ledger = CrashingLedger(InMemoryLedger(), 2)
    ends: list[str] = []

    async def append() -> None:
        try:
            await ledger.append("s", [NOTE], expected=None)
        except SimulatedCrash:
            ends.append("crash")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(append)
        nursery.start_soon(append)
    assert ends == ["crash", "crash"]


async def test_without_a_crash_it_counts() -> None:
    """Without a fatal append, all appends pass and are counted over all tenants."""
    ledger: Any = CrashingLedger(InMemoryLedger())
    assert ledger.for_tenant("default") is ledger
    assert ledger.for_tenant("acme") is ledger.for_tenant("acme")
    await ledger.append("s", [NOTE], expected=None)
    await ledger.for_tenant("acme").append("s", [NOTE], expected=None)
    assert (ledger.appends, ledger.for_tenant("acme").appends, ledger.crashed) == (2, 2, False)


async def test_faults_strike_the_chosen_appends() -> None:
    """Each fault strikes its append and no other, and says truly whether it was stored."""
    inner = InMemoryLedger()
    full, lost, unsure = LedgerUnavailable("full"), AppendUnknown("lost"), AppendUnknown("unsure")
    faults: dict[int, Fault] = {2: FailBefore(full), 3: FailBefore(lost), 4: FailAfter(unsure)}
    ledger = FaultyLedger(inner, faults)
    after: list[int] = []
    raised: list[Exception | None] = []
    for _ in range(5):
        try:
            await ledger.append("s", [NOTE], expected=None)
        except LedgerError as error:
            raised.append(error)
        else:
            raised.append(None)
        after += await lengths(inner)
    assert raised == [None, full, lost, unsure, None]
    assert after == [1, 1, 1, 2, 3]
    assert ledger.appends == 5


async def test_intake_comes_in_just_before() -> None:
    """Injected intake makes the append's head stale, as somebody else's message does."""
    inner = InMemoryLedger()
    ledger = FaultyLedger(inner, {2: IntakeBefore((CANCEL,))})
    done = await ledger.append("s", [NOTE], expected=None, lease=TAKE)
    with pytest.raises(SequenceConflict):
        await ledger.append("s", [NOTE], expected=done.head, fence=1)
    assert [stored.record for stored in await inner.read("s")] == [NOTE.record, CANCEL.record]
    await ledger.append("s", [NOTE], expected=await ledger.head("s"), fence=1)


async def test_faults_count_over_all_tenants() -> None:
    """Another tenant's appends count too."""
    ledger: Any = FaultyLedger(InMemoryLedger(), {2: FailBefore(LedgerUnavailable("no"))})
    await ledger.append("s", [NOTE], expected=None)
    with pytest.raises(LedgerUnavailable):
        await ledger.for_tenant("acme").append("s", [NOTE], expected=None)


# Clock and identifiers


async def test_the_clock_follows_trio(mock_clock: MockClock) -> None:
    """Wall time goes on as trio's clock does."""
    clock = ScriptedClock(1_000)
    assert clock.now_ms() == 1_000
    mock_clock.jump(2.5)
    assert clock.now_ms() == 3_500
    mock_clock.jump(7 * 24 * 3600)
    assert clock.now_ms() == 3_500 + 7 * 24 * 3_600_000


async def test_the_clock_jumps_by_hand(mock_clock: MockClock) -> None:
    """A jump moves wall time alone, backwards too, and leaves trio's clock as it is."""
    clock, before = ScriptedClock(1_000), trio.current_time()
    clock.jump(500)
    assert clock.now_ms() == 1_500
    clock.jump(-1_000)
    assert clock.now_ms() == 500
    mock_clock.jump(1)
    assert clock.now_ms() == 1_500
    assert trio.current_time() == before + 1


def test_the_clock_stands_still_outside_trio() -> None:
    """Outside of trio only jumps move the clock, and a new run goes on from there."""
    clock = ScriptedClock(1_000)

    async def wait() -> int:
        clock.now_ms()
        await trio.sleep(1)
        return clock.now_ms()

    assert trio.run(wait, clock=MockClock(autojump_threshold=0)) == 2_000
    assert clock.now_ms() == 2_000
    assert trio.run(wait, clock=MockClock(autojump_threshold=0)) == 3_000


def test_identifiers_count() -> None:
    """Identifiers are 32 hexadecimal digits, the same in each run, apart between series."""
    one, again, other = ScriptedIds(), ScriptedIds(), ScriptedIds(series=1)
    first = [one.new_id() for _ in range(3)]
    assert first == [again.new_id() for _ in range(3)]
    assert not set(first) & {other.new_id() for _ in range(3)}
    assert [int(name, 16) for name in first] == [1, 2, 3]
    assert all(len(name) == 32 for name in first)


def test_fractions_follow_the_script() -> None:
    """Fractions come in order; after the last, one half."""
    ids = ScriptedIds(fractions=[0.0, 0.25])
    assert [ids.fraction() for _ in range(4)] == [0.0, 0.25, 0.5, 0.5]


def test_the_systems_time_and_chance() -> None:
    """The real clock is past 2020; real identifiers are 128 bits and differ."""
    clock: Clock = SystemClock()
    ids: IdSource = RandomIds()
    assert clock.now_ms() > 1_577_836_800_000
    names = {ids.new_id() for _ in range(100)}
    assert len(names) == 100
    assert all(len(name) == 32 and name == name.lower() and int(name, 16) for name in names)
    assert all(0 <= ids.fraction() < 1 for _ in range(100))


# Strategies


@settings(max_examples=25)
@given(strategies.histories())
def test_histories_can_be_appended(history: strategies.History) -> None:
    """Any history is admitted batch by batch, and reads back equal."""

    async def store() -> list[StoredRecord]:
        ledger = InMemoryLedger()
        head = await ledger.head("s")
        for batch in history:
            head = (await ledger.append("s", batch, expected=head)).head
        return list(await ledger.read("s", limit=10_000))

    expected = [new.record for batch in history for new in batch]
    assert [stored.record for stored in trio.run(store)] == expected


@settings(max_examples=25)
@given(strategies.histories())
def test_histories_are_plausible(history: strategies.History) -> None:
    """Runs begin with their trigger, end at most once, and time never goes back."""
    flat = [new for batch in history for new in batch]
    times = [new.occurred_at_ms for new in flat]
    assert times == sorted(times)
    begun: set[str] = set()
    ended: set[str] = set()
    for new in flat:
        if isinstance(new.record, TriggerRecord):
            assert new.record.trigger_id not in begun
            begun.add(new.record.trigger_id)
        elif isinstance(new.record, OutcomeRecord):
            assert new.record.trigger_id in begun - ended
            ended.add(new.record.trigger_id)


@given(strategies.new_records())
def test_new_records_are_admitted(new: NewRecord) -> None:
    """Any record in any envelope is admitted."""
    (encoded,) = encode_batch([new])
    assert decode(encoded.kind, encoded.version, encoded.payload) == new.record


def test_the_kit_needs_no_test_framework() -> None:
    """Importing the kit imports neither pytest nor hypothesis."""
    code = (
        "import sys, rainengine.core.testing;"
        "sys.exit(bool({'pytest', 'hypothesis', 'pytest_trio'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
