"""The same idempotency key again: replayed, continued, waited for, or refused."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from rainengine.core import Respond
from rainengine.core.errors import (
    IdempotencyMismatch,
    InadmissibleValue,
    RunInProgress,
    SessionBusy,
)
from rainengine.core.records import (
    Attachment,
    Message,
    NewRecord,
    OutcomeRecord,
    TriggerRecord,
)


async def test_a_finished_run_is_replayed(stage: Any) -> None:
    """The key of a finished run gives its outcome, marked as a replay; nothing is added."""
    engine = stage.engine([Respond("hi")])
    first = await engine.advance(stage.request("k"))
    before = await stage.stored()
    again = await engine.advance(stage.request("k"))
    assert again.outcome == type(first.outcome)(
        trigger_id=first.trigger_id,
        stop_reason="responded",
        response="hi",
        detail=None,
        steps_executed=1,
        idempotent_replay=True,
        resume_token=None,
    )
    assert (await stage.stored(), len(stage.provider.requests)) == (before, 1)


async def test_another_process_replays_too(stage: Any) -> None:
    """An engine that never saw the run gives its recorded outcome."""
    await stage.engine([Respond("hi")]).advance(stage.request("k"))
    other = stage.engine([Respond("other")], owner="two", ledger=stage.other_handle())
    again = await other.advance(stage.request("k"))
    assert (again.outcome.response, again.outcome.idempotent_replay) == ("hi", True)


async def test_an_unfinished_run_is_continued(stage: Any) -> None:
    """The key of an unfinished run takes that run's next step and stores no second trigger."""
    engine = stage.engine([stage.calls("read"), Respond("hi")], stage.skill("read"))
    first = await engine.advance(stage.request("k"))
    second = await engine.advance(stage.request("k"))
    assert (first.outcome, second.outcome.response) == (None, "hi")
    assert second.outcome.idempotent_replay is False
    assert len(await stage.records(TriggerRecord)) == 1


async def test_an_abandoned_run_is_continued_elsewhere(stage: Any) -> None:
    """After a crash, another process that gets the same key continues once the lease is over."""
    skill = stage.skill("slow", stage.taking(4))
    await stage.interrupt(stage.engine([stage.calls("slow")], skill), stage.request("k"))
    other = stage.engine([Respond("hi")], skill, owner="two", ledger=stage.other_handle())
    await other.advance(stage.request("k", wait_ms=60_000))
    done = await other.advance(stage.request("k"))
    assert (done.outcome.response, len(skill.invocations)) == ("hi", 2)
    assert len(await stage.records(TriggerRecord)) == 1


async def test_keys_of_different_sessions_are_different(stage: Any) -> None:
    """One key in two sessions is two runs."""
    engine = stage.engine([Respond("a"), Respond("b")])
    one = await engine.advance(stage.request("k"))
    two = await engine.advance(stage.request("k", session_id="t"))
    assert (one.outcome.response, two.outcome.response) == ("a", "b")


@pytest.mark.parametrize("key", ["wake:w", "wake:", "outbox:0"])
@pytest.mark.parametrize("how", ["advance", "submit"])
async def test_the_engines_own_keys_are_no_callers(stage: Any, key: str, how: str) -> None:
    """A key like those of wakes and deliveries is refused by name, and nothing is stored."""
    engine = stage.engine([Respond("x")])
    with pytest.raises(InadmissibleValue, match="idempotency_key"):
        await getattr(engine, how)(stage.request(key))
    assert await stage.stored() == []


async def test_requests_without_a_key_are_all_new(stage: Any) -> None:
    """Without a key the same message twice is two runs."""
    engine = stage.engine([Respond("a"), Respond("b")])
    answers = [(await engine.advance(stage.request())).outcome.response for _ in range(2)]
    assert answers == ["a", "b"]


FILE = Attachment(name="f", media_type="text/plain", data="YQ==")


@pytest.mark.parametrize(
    "change",
    [
        {"text": "other"},
        {"granted_scopes": ("s",)},
        {"trigger": Message(user_id="other", content="hello")},
        {"trigger": Message(user_id="user", content="hello", attachments=(FILE,))},
    ],
    ids=["text", "scopes", "user", "attachment"],
)
async def test_a_key_belongs_to_one_body(stage: Any, change: dict[str, Any]) -> None:
    """The key with another trigger, attachment or scope is refused and stored nowhere."""
    engine = stage.engine([Respond("hi")])
    first = await engine.advance(stage.request("k"))
    before = await stage.stored()
    for take in (engine.advance, engine.submit):
        with pytest.raises(IdempotencyMismatch) as caught:
            await take(stage.request("k", **change))
        assert caught.value.trigger_id == first.trigger_id
    assert await stage.stored() == before


async def test_the_order_of_scopes_is_no_difference(stage: Any) -> None:
    """Scopes are a set: the same ones in another order are the same body."""
    engine = stage.engine([Respond("hi")])
    await engine.advance(stage.request("k", granted_scopes=("a", "b")))
    again = await engine.advance(stage.request("k", granted_scopes=("b", "a")))
    assert again.outcome.idempotent_replay


async def test_the_newest_outcome_counts(stage: Any) -> None:
    """Of a run that was resumed since, the key gives the newest outcome."""
    engine = stage.engine([Respond("hi")])
    first = await engine.advance(stage.request("k"))
    later = OutcomeRecord(
        trigger_id=first.trigger_id, stop_reason="responded", steps_executed=5, response="newer"
    )
    head = await stage.ledger.head("s")
    new = NewRecord(later, stage.clock.now_ms(), first.trigger_id, "k")
    await stage.ledger.append("s", [new], expected=head)
    again = await engine.advance(stage.request("k"))
    assert (again.outcome.response, again.outcome.steps_executed) == ("newer", 5)


async def test_held_elsewhere_waits_for_the_outcome(stage: Any, together: Any) -> None:
    """The key of a run that another process works on gives that one's outcome once it is there."""

    async def slowly(_: Any) -> Respond:
        await trio.sleep(20)
        return Respond("hi")

    engine = stage.engine(slowly)
    other = stage.engine([], owner="two", ledger=stage.other_handle())
    waiting = stage.provider

    async def later() -> Any:
        await trio.sleep(1)
        return await other.advance(stage.request("k"))

    first, second = await together([lambda: engine.advance(stage.request("k")), later])
    assert (second.outcome.response, second.outcome.idempotent_replay) == ("hi", True)
    assert (second.trigger_id, waiting.requests) == (first.trigger_id, [])


async def test_waiting_ends_after_the_callers_deadline(stage: Any) -> None:
    """After `wait_ms` a request whose run is held elsewhere is `RunInProgress`."""
    engine = stage.engine([stage.calls("read")], stage.skill("read"))
    first = await engine.advance(stage.request("k"))
    other = stage.engine([], owner="two", ledger=stage.other_handle())
    before = await stage.stored()
    began = trio.current_time()
    with pytest.raises(RunInProgress) as caught:
        await other.advance(stage.request("k", wait_ms=5_000))
    assert caught.value.trigger_id == first.trigger_id
    assert trio.current_time() - began == pytest.approx(5)
    assert await stage.stored() == before


async def test_waiting_does_not_stop_the_one_waited_for(stage: Any, together: Any) -> None:
    """Of two engines on one handle, one that waits for a run lets the other work on it."""
    engine = stage.engine([stage.calls("read"), Respond("hi")], stage.skill("read"))
    await engine.advance(stage.request("k"))
    other = stage.engine([], owner="two")

    async def work() -> Any:
        await trio.sleep(1)
        return await engine.advance(stage.go_on)

    waited, worked = await together([lambda: other.advance(stage.request("k")), work])
    assert (waited.outcome.response, worked.outcome.response) == ("hi", "hi")
    assert waited.outcome.idempotent_replay


async def test_a_new_key_does_not_wait(stage: Any) -> None:
    """A session held elsewhere is `SessionBusy` for a new request, which is not stored."""
    await stage.engine([stage.calls("read")], stage.skill("read")).advance(stage.request("k"))
    other = stage.engine([], owner="two", ledger=stage.other_handle())
    before = await stage.stored()
    with pytest.raises(SessionBusy):
        await other.advance(stage.request("other"))
    assert await stage.stored() == before


async def test_many_of_one_key_at_once_are_one_run(stage: Any, together: Any) -> None:
    """Twenty requests with one key, over two handles, ask the model once."""
    engines = [
        stage.engine([Respond(name)], owner=name, ledger=stage.other_handle())
        for name in ("one", "two")
    ]
    results = await together(
        [lambda engine=engine: engine.advance(stage.request("k")) for engine in engines * 10]
    )
    assert len({result.outcome.response for result in results}) == 1
    assert len(await stage.records(TriggerRecord)) == 1
    assert sum(not result.outcome.idempotent_replay for result in results) == 1


async def test_an_outcome_that_comes_during_the_look_up_is_given(stage: Any) -> None:
    """A run that ends elsewhere just after its key was looked up is replayed all the same."""
    engine = stage.engine([stage.calls("read"), Respond("hi")], stage.skill("read"))
    await engine.advance(stage.request("k"))
    handle = stage.other_handle()
    look_up = handle.find_outcome

    async def a_moment_too_early(session_id: str, key: str) -> Any:
        found = await look_up(session_id, key)
        if found is None:
            await engine.advance(stage.go_on)
        return found

    handle.find_outcome = a_moment_too_early
    again = await stage.engine([], owner="two", ledger=handle).advance(stage.request("k"))
    assert (again.outcome.response, again.outcome.idempotent_replay) == ("hi", True)
