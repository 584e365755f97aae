"""Folding records into a session's state: pure, bounded, and equal however one gets there."""

from __future__ import annotations

import copy
from typing import Any

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rainengine.core import CallSkills, Continue, Message, Plan, PlannedSkillCall, Respond, codec
from rainengine.core.errors import SkillFailure
from rainengine.core.projection import PROJECTION_VERSION, SessionProjection, fold
from rainengine.core.projection._state import (
    ARTIFACTS,
    OBSERVATIONS,
    RELATIONSHIPS,
    RESOURCES,
    WINDOW_ITEMS,
)
from rainengine.core.records import (
    ArtifactProduced,
    GoalCreated,
    GoalStatusChanged,
    KernelEvent,
    KernelEventRecord,
    ModelDecision,
    NewRecord,
    ObservationAppended,
    RelationshipObserved,
    ResourceRegistered,
    TaskAbandoned,
    TaskBlocked,
    TaskClaimed,
    TaskCompleted,
    TaskFailed,
    TaskPlanned,
    UnknownRecord,
    WakeCompleted,
    WakeRequested,
    WakeScheduled,
)
from rainengine.core.testing.strategies import histories, new_records


def folded(entries: list[NewRecord], state: SessionProjection | None = None) -> SessionProjection:
    """The projection after these records."""
    state = state or SessionProjection()
    for sequence, entry in enumerate(entries, start=state.sequence + 1):
        fold(state, sequence, entry)
    return state


def flat(history: Any) -> list[NewRecord]:
    """All records of a history."""
    return [entry for batch in history for entry in batch]


def reloaded(state: SessionProjection) -> SessionProjection:
    """The projection as a snapshot gives it back."""
    return codec.decode_value(codec.encode_value(state), SessionProjection)


@settings(max_examples=60, deadline=None)
@given(histories())
def test_replaying_twice_is_equal(history: Any) -> None:
    """The same records give the same projection, and folding changes no record."""
    entries = flat(history)
    before = copy.deepcopy(entries)
    assert folded(entries) == folded(entries)
    assert entries == before


@settings(max_examples=60, deadline=None)
@given(histories())
def test_what_was_stored_folds_as_what_was_appended(history: Any) -> None:
    """Records that went through the ledger's text give the same projection as the originals."""
    entries = flat(history)
    stored = [
        attrs.evolve(entry, record=codec.decode(*codec.encode(entry.record))) for entry in entries
    ]
    assert folded(stored) == folded(entries)


@settings(max_examples=60, deadline=None)
@given(histories(), st.integers(0, 60))
def test_a_snapshot_anywhere_changes_nothing(history: Any, at: int) -> None:
    """A projection saved and loaded anywhere is equal, and goes on to the same end."""
    entries = flat(history)
    half = folded(entries[:at])
    loaded = reloaded(half)
    assert loaded == half
    assert folded(entries[at:], loaded) == folded(entries)


@settings(max_examples=100, deadline=None)
@given(st.lists(new_records(), max_size=12))
def test_any_records_fold(entries: list[NewRecord]) -> None:
    """Records of every kind in any order, however little sense they make, fold and can be saved."""
    state = folded(entries)
    assert state.sequence == len(entries)
    assert reloaded(state) == state


@settings(max_examples=50, deadline=None)
@given(histories())
def test_unknown_records_are_harmless(history: Any) -> None:
    """A record of a future kind before every other changes the sequences only."""
    entries = flat(history)
    future = NewRecord(
        UnknownRecord(stored_kind="future", stored_version=1, payload="{}"),
        entries[0].occurred_at_ms,
    )
    mixed = folded([part for entry in entries for part in (future, entry)])
    plain = folded(entries)
    assert mixed.sequence == 2 * plain.sequence
    for name in ("world", "skills", "usage", "overlay", "outcomes", "last_outcome", "summary"):
        assert getattr(mixed, name) == getattr(plain, name)
    assert [attrs.evolve(i, sequence=0) for i in mixed.window] == [
        attrs.evolve(i, sequence=0) for i in plain.window
    ]


def test_records_fold_in_order_only() -> None:
    """A record that is not the next one is a `ValueError` and changes nothing."""
    state = folded([event(WakeCompleted(wake_id="w"))])
    before = copy.deepcopy(state)
    for sequence in (0, 1, 3):
        with pytest.raises(ValueError, match="cannot follow record 1"):
            fold(state, sequence, event(WakeCompleted(wake_id="w")))
    assert state == before


SCRIPTS = st.lists(
    st.sampled_from(["good", "bad", "unsafe", "plan", "continue", "nonsense", "chain"]), max_size=5
)


def decision(kind: str) -> Any:
    """What a model decides."""
    call = PlannedSkillCall(call_id="c1", name=kind, args={"n": 1})
    chain = PlannedSkillCall(call_id="c2", name="good", args={}, depends_on=("c1",))
    return {
        "plan": Plan(summary="think", confidence=0.5),
        "continue": Continue(),
        "nonsense": CallSkills([]),
        "chain": CallSkills([attrs.evolve(call, name="bad"), chain]),
    }.get(kind) or CallSkills([call])


@settings(max_examples=40, deadline=None)
@given(scripts=st.lists(SCRIPTS, min_size=1, max_size=3))
def test_replay_equals_live(scripts: list[list[str]], new_stage: Any, run_trio: Any) -> None:
    """After every advance the engine's own projection equals a replay from the start."""

    async def main() -> None:
        stage = new_stage()
        skills = [
            stage.skill("good"),
            stage.skill("bad", stage.returning(SkillFailure("trap", "no"))),
            stage.skill("unsafe", stage.returning(ValueError()), effects="unsafe"),
        ]
        script = [[*map(decision, names), Respond("done")] for names in scripts]
        engine = stage.engine([turn for run in script for turn in run], *skills)
        for _ in scripts:
            result = await engine.advance(stage.request())
            while result.outcome is None:
                await check(stage, engine)
                result = await engine.advance(stage.go_on)
            await check(stage, engine)

    async def check(stage: Any, engine: Any) -> None:
        live = engine._turns.sessions._sessions["s"]
        assert live.projection == await stage.replayed()
        assert live.head == await stage.ledger.head("s")

    run_trio(main)


def event(change: KernelEvent, at: int = 0) -> NewRecord:
    """A kernel event."""
    return NewRecord(KernelEventRecord(change), at)


def task(task_id: str, *blocked_by: str) -> NewRecord:
    """A planned task."""
    return event(TaskPlanned(task_id=task_id, title=task_id, blocked_by=blocked_by))


def test_it_is_bounded() -> None:
    """However much happens, only so many items, observations, artifacts and relations are kept."""
    entries: list[NewRecord] = []
    for n in range(1_500):
        name = f"{n}"
        changes: list[KernelEvent] = [
            ObservationAppended(observation_id=name, source="s", content=n),
            ArtifactProduced(artifact_id=name, name=name, media_type="t", content=n),
            RelationshipObserved(source_id=name, relation="r", target_id="t"),
            ResourceRegistered(resource_id=name, resource_type="t"),
            ResourceRegistered(resource_id="0", resource_type="newer"),
            GoalCreated(goal_id=name, title=name),
            GoalStatusChanged(goal_id=name, status="completed"),
            TaskPlanned(task_id=name, title=name),
            TaskCompleted(task_id=name),
        ]
        entries += [event(change) for change in changes]
        entries.append(NewRecord(ModelDecision(step=1, action=Respond(name)), 0))
    state = folded(entries)
    world = state.world
    assert (len(state.window), state.window_cut) == (WINDOW_ITEMS, True)
    assert len(world.observations) == OBSERVATIONS
    assert len(world.artifacts) == ARTIFACTS
    assert len(world.relationships) == RELATIONSHIPS
    assert (len(world.resources), list(world.resources)[-1]) == (RESOURCES, "0")
    assert world.resources["0"].resource_type == "newer"
    assert (world.goals, world.tasks) == ({}, {})
    assert (world.settled_goals, world.settled_tasks) == ({"completed": 1_500}, {"done": 1_500})
    assert world.observations[-1].content == 1_499


def test_folding_costs_the_same_however_long_the_history() -> None:
    """A record's fold runs as many lines after 4,000 records as after 1,000."""
    import sys

    def lines_of(state: SessionProjection) -> int:
        count = 0

        def trace(frame: Any, what: str, _: Any) -> Any:
            nonlocal count
            count += what == "line"
            return trace

        kept = sys.gettrace()
        sys.settrace(trace)
        try:
            for entry in (observation, answer):
                fold(state, state.sequence + 1, entry)
        finally:
            sys.settrace(kept)
        return count

    observation = event(ObservationAppended(observation_id="o", source="s", content=1))
    answer = NewRecord(ModelDecision(step=1, action=Respond("x")), 0)
    short, long = folded([observation, answer] * 500), folded([observation, answer] * 2_000)
    assert lines_of(short) == lines_of(long)


# The world.


def statuses(*entries: NewRecord) -> dict[str, str]:
    """The status of each open task."""
    return {name: task.status for name, task in folded(list(entries)).world.tasks.items()}


def test_a_finished_task_unblocks_those_that_wait_for_it() -> None:
    """A task is ready once all that it waits for are done; not after the first."""
    plan = [task("a"), task("b"), task("c", "a", "b")]
    done_a, done_b = (event(TaskCompleted(task_id=name)) for name in "ab")
    assert statuses(*plan) == {"a": "ready", "b": "ready", "c": "pending"}
    assert statuses(*plan, done_a) == {"b": "ready", "c": "pending"}
    assert statuses(*plan, done_a, done_b) == {"c": "ready"}


def test_a_failed_task_unblocks_nothing() -> None:
    """Failed and abandoned tasks leave those that wait for them blocked."""
    plan = [task("a"), task("b"), task("c", "a"), task("d", "b")]
    ended = [
        event(TaskFailed(task_id="a", error="x")),
        event(TaskAbandoned(task_id="b", reason="x")),
    ]
    assert statuses(*plan, *ended) == {"c": "pending", "d": "pending"}


def test_a_task_changes_by_its_events() -> None:
    """A claimed task runs for its assignee; one that is blocked later waits again."""
    claimed = event(TaskClaimed(task_id="a", assignee="ann"))
    state = folded([task("a"), claimed])
    assert (state.world.tasks["a"].status, state.world.tasks["a"].assignee) == ("running", "ann")
    blocked = event(TaskBlocked(task_id="a", reason="r", blocked_by=("b",)))
    assert statuses(task("b"), task("a"), claimed, blocked) == {"b": "ready", "a": "blocked"}


def test_goals_change_by_events() -> None:
    """A goal's status follows its events; a settled one is only counted."""
    created = event(GoalCreated(goal_id="g", title="t"))
    blocked = event(GoalStatusChanged(goal_id="g", status="blocked"))
    ended = event(GoalStatusChanged(goal_id="g", status="cancelled"))
    assert folded([created, blocked]).world.goals["g"].status == "blocked"
    world = folded([created, blocked, ended]).world
    assert (world.goals, world.settled_goals) == ({}, {"cancelled": 1})


def test_several_wakes_may_be_pending() -> None:
    """Each wake is pending until it is completed, whatever happens to the others."""
    asked = [
        event(WakeRequested(wake_id="a", due_at_ms=1, reason="r")),
        event(WakeScheduled(wake_id="b", due_at_ms=2, reason="r")),
    ]
    world = folded([*asked, event(WakeCompleted(wake_id="a"))]).world
    assert [(wake.wake_id, wake.scheduled) for wake in world.wakes.values()] == [("b", True)]


async def test_a_long_session_is_loaded_from_its_snapshot(stage: Any) -> None:
    """A new process starts from the snapshot and the records after it, with the same state."""
    engine = stage.engine(lambda _: Respond("x"))
    for _ in range(30):
        await engine.advance(stage.request())
    snapshot = await stage.ledger.load_snapshot("s", PROJECTION_VERSION)
    handle = stage.other_handle()
    reads: list[int] = []
    original = handle.read

    async def counting(session_id: str, *, after: int = 0, limit: int = 1000) -> Any:
        reads.append(after)
        return await original(session_id, after=after, limit=limit)

    handle.read = counting
    other = stage.engine(lambda _: Respond("y"), ledger=handle)
    await other.advance(stage.request())
    assert snapshot is not None
    assert reads == [snapshot.sequence - 1]
    assert other._turns.sessions._sessions["s"].projection == await stage.replayed()


@pytest.mark.parametrize("payload", ["", "{}x", '{"sequence": "many"}', "[]"])
async def test_a_snapshot_that_cannot_be_read_is_ignored(stage: Any, payload: str) -> None:
    """A broken snapshot costs a replay and nothing else."""
    engine = stage.engine(lambda _: Respond("x"))
    for _ in range(30):
        await engine.advance(stage.request())
    snapshot = await stage.ledger.load_snapshot("s", PROJECTION_VERSION)
    assert snapshot is not None
    stage.ledger.offer_snapshot("s", attrs.evolve(snapshot, payload=payload))
    other = stage.engine(lambda _: Respond("y"), ledger=stage.other_handle())
    await other.advance(stage.request(trigger=Message(user_id="u", content="?")))
    assert other._turns.sessions._sessions["s"].projection == await stage.replayed()
