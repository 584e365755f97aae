"""Checking a session's history against its hashes, its snapshot and an anchor."""

from __future__ import annotations

from typing import Any

import attrs
import pytest

from rainengine.core import InMemoryLedger, Respond, verify_session
from rainengine.core.abc import Ledger
from rainengine.core.errors import SessionNotFound, UsageError
from rainengine.core.projection import PROJECTION_VERSION
from rainengine.core.records import Head


async def written(stage: Any, runs: int = 3) -> Any:
    """Write some runs and return the session as the ledger keeps it."""
    engine = stage.engine(lambda _: Respond("x"))
    for _ in range(runs):
        await engine.advance(stage.request())
    return stage.ledger._session("s")


async def test_what_was_written_is_in_order(stage: Any) -> None:
    """An untouched session verifies, with its length and head."""
    session = await written(stage)
    answer = await verify_session(stage.ledger, "s")
    assert (answer.ok, answer.first_bad, answer.reason) == (True, None, None)
    assert (answer.records, answer.head) == (session.head.sequence, session.head)


@pytest.mark.parametrize("field", range(6))
@pytest.mark.parametrize("at", [1, 7, 15])
async def test_any_edit_is_found(stage: Any, field: int, at: int) -> None:
    """A change of any stored field is found at its record."""
    session = await written(stage)
    row = list(session.rows[at - 1])
    row[field] = row[field] + 1 if isinstance(row[field], int) else f"{row[field] or ''} "
    session.rows[at - 1] = tuple(row)
    answer = await verify_session(stage.ledger, "s")
    assert (answer.ok, answer.first_bad, answer.records) == (False, at, at - 1)


async def test_swapped_records_are_found(stage: Any) -> None:
    """Two records in each other's place are found, their hashes swapped along or not."""
    session = await written(stage)
    session.rows[3], session.rows[4] = session.rows[4], session.rows[3]
    assert (await verify_session(stage.ledger, "s")).first_bad == 4
    session.hashes[3], session.hashes[4] = session.hashes[4], session.hashes[3]
    assert (await verify_session(stage.ledger, "s")).first_bad == 4


async def test_a_record_that_is_gone_is_found(stage: Any) -> None:
    """A gap shows at the record that is missing."""
    session = await written(stage)
    del session.rows[5], session.hashes[5]
    session.head = attrs.evolve(session.head, sequence=session.head.sequence - 1)
    assert (await verify_session(stage.ledger, "s")).first_bad == 6


async def test_a_session_in_anothers_place_is_found(stage: Any) -> None:
    """The same records under another session id do not fit from the first on."""
    session = await written(stage)
    shared = stage.ledger._shared.sessions
    shared["t"] = session
    session.session_id = "t"
    assert (await verify_session(stage.ledger, "t")).first_bad == 1


def cut(session: Any, count: int) -> None:
    """Take away the tail and set the head back."""
    del session.rows[-count:], session.hashes[-count:]
    session.head = Head(len(session.rows), session.hashes[-1])


async def test_a_cut_tail_shows_against_an_anchor(stage: Any) -> None:
    """A history cut with its head set back verifies by itself, and not against a head kept."""
    session = await written(stage)
    anchor = session.head
    assert (await verify_session(stage.ledger, "s", anchor=anchor)).ok
    cut(session, 2)
    assert (await verify_session(stage.ledger, "s")).ok
    answer = await verify_session(stage.ledger, "s", anchor=anchor)
    assert (answer.ok, answer.first_bad) == (False, anchor.sequence - 1)


async def test_an_anchor_of_another_history_is_found(stage: Any) -> None:
    """An anchor with the right number and another hash does not fit."""
    session = await written(stage)
    anchor = Head(4, b"\0" * 32)
    answer = await verify_session(stage.ledger, "s", anchor=anchor)
    assert (answer.ok, answer.first_bad) == (False, 4)
    assert (await verify_session(stage.ledger, "s", anchor=Head(4, session.hashes[3]))).ok


async def test_a_snapshot_that_differs_is_found(stage: Any) -> None:
    """A snapshot has to be what a replay gives at its place."""
    await written(stage, 30)
    snapshot = await stage.ledger.load_snapshot("s", PROJECTION_VERSION)
    assert snapshot is not None
    assert (await verify_session(stage.ledger, "s")).ok
    for change in (
        {"payload": snapshot.payload.replace('"outcomes":', '"outcomes":1')},
        {"payload": "{"},
        {"hash": b"\0" * 32},
    ):
        stage.ledger.offer_snapshot("s", attrs.evolve(snapshot, **change))
        answer = await verify_session(stage.ledger, "s")
        assert (answer.ok, answer.first_bad) == (False, snapshot.sequence)


async def test_a_snapshot_beyond_the_records_is_found(stage: Any) -> None:
    """A snapshot of more records than there are says that some are missing."""
    session = await written(stage, 30)
    snapshot = await stage.ledger.load_snapshot("s", PROJECTION_VERSION)
    assert snapshot is not None
    cut(session, session.head.sequence - snapshot.sequence + 3)
    answer = await verify_session(stage.ledger, "s")
    assert (answer.ok, answer.first_bad) == (False, snapshot.sequence - 2)


async def test_what_is_not_there_cannot_be_verified(stage: Any) -> None:
    """A session without records is `SessionNotFound`."""
    with pytest.raises(SessionNotFound):
        await verify_session(stage.ledger, "s")


async def test_a_ledger_has_to_show_what_it_hashed(stage: Any) -> None:
    """A ledger that cannot show encoded records is refused with a `UsageError`."""

    class Opaque:
        tenant = "default"

    ledger: Ledger = Opaque()  # type: ignore[assignment]
    with pytest.raises(UsageError, match="Opaque"):
        await verify_session(ledger, "s")


async def test_a_session_that_goes_on_meanwhile_is_in_order(stage: Any) -> None:
    """What is appended while a session is being verified is not held against it."""
    session = await written(stage)
    length = session.head.sequence
    engine = stage.engine(lambda _: Respond("x"))
    inner = stage.ledger

    class GoesOn(InMemoryLedger):
        async def read_encoded(self, session_id: str, **options: Any) -> Any:
            await engine.advance(stage.request())
            return await inner.read_encoded(session_id, **options)

    answer = await verify_session(GoesOn(stage.clock, backing=inner), "s")
    assert (True, length) == (answer.ok, answer.records)


async def test_an_edited_snapshot_is_not_believed(stage: Any) -> None:
    """A snapshot that was changed by hand is found, and an engine goes by the records instead."""
    session = await written(stage, runs=40)
    ((version, snapshot),) = session.snapshots.items()
    forged = snapshot.payload.replace('"cost_micros":0', '"cost_micros":9000000')
    assert forged != snapshot.payload
    session.snapshots[version] = attrs.evolve(snapshot, payload=forged)
    assert not (await verify_session(stage.ledger, "s")).ok
    engine = stage.engine([Respond("still here")], ledger=stage.other_handle())
    (result,) = await stage.play(engine)
    assert "still here" == result.outcome.response
