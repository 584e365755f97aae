"""A second message while a run is open: it waits, is refused, or stops that run."""

from __future__ import annotations

from typing import Any

import attrs
import pytest
import trio

from rainengine.core import (
    AgentProfile,
    Continue,
    HumanInput,
    Respond,
    Suspend,
    SystemObservation,
    run_until_terminal,
)
from rainengine.core.errors import IdempotencyMismatch, RunInProgress, RunOpen, SessionBusy
from rainengine.core.records import BusyPolicy, CancelRequest, OutcomeRecord, TriggerRecord


def profile(busy: BusyPolicy) -> AgentProfile:
    """An agent with this policy."""
    return AgentProfile(busy=busy)


def by_text(request: Any) -> Any:
    """A model that thinks for a while about `slow`, for ever about `endless`, and else replies."""
    text = getattr(request.trigger, "content", "")
    if text == "open":
        return Continue()
    return Respond(f"re: {text}")


async def slowly(request: Any) -> Any:
    """A model that takes ten seconds, or for ever."""
    await trio.sleep(10 if request.trigger.content == "slow" else 0)
    if request.trigger.content == "endless":
        await trio.sleep_forever()
    return Respond(f"re: {request.trigger.content}")


async def outcomes(stage: Any) -> list[tuple[str, str | None]]:
    """How each run ended, in order."""
    return [(o.stop_reason, o.response or o.detail) for o in await stage.records(OutcomeRecord)]


async def drain(stage: Any, engine: Any) -> None:
    """Finish whatever waits."""
    while not (await engine.advance(stage.go_on)).idle:
        pass


INTERRUPTED = ("cancelled", "interrupted by a newer message")


# Between two steps of a run.


@pytest.mark.parametrize("how", ["advance", "submit"])
async def test_a_message_waits(stage: Any, how: str) -> None:
    """With `queue` the message has its turn after the open run."""
    engine = stage.engine([Continue(), Respond("one"), Respond("two")], profile=profile("queue"))
    await engine.advance(stage.request())
    await getattr(engine, how)(stage.request(text="second"))
    await drain(stage, engine)
    assert await outcomes(stage) == [("responded", "one"), ("responded", "two")]


@pytest.mark.parametrize("how", ["advance", "submit"])
async def test_a_message_is_refused(stage: Any, how: str) -> None:
    """With `reject` the caller is told whose run is open, and nothing is stored."""
    engine = stage.engine(by_text, profile=profile("reject"))
    first = (await engine.advance(stage.request(text="open"))).trigger_id
    before = await stage.kinds()
    with pytest.raises(RunOpen) as caught:
        await getattr(engine, how)(stage.request(text="second"))
    assert (caught.value.session_id, caught.value.trigger_id) == ("s", first)
    assert await stage.kinds() == before


@pytest.mark.parametrize("how", ["advance", "submit"])
async def test_a_message_interrupts(stage: Any, how: str) -> None:
    """With `interrupt` the open run ends cancelled, and the message is answered."""
    engine = stage.engine(by_text, profile=profile("interrupt"))
    await engine.advance(stage.request(text="open"))
    await getattr(engine, how)(stage.request(text="second"))
    await drain(stage, engine)
    assert await outcomes(stage) == [INTERRUPTED, ("responded", "re: second")]


async def test_an_interruption_is_one_append(stage: Any) -> None:
    """The message and what it stops are stored together or not at all."""
    engine = stage.engine(by_text, profile=profile("interrupt"))
    await engine.advance(stage.request(text="open"))
    before = stage.ledger.stats().commits
    await engine.submit(stage.request(text="second"))
    assert stage.ledger.stats().commits == before + 1
    assert (await stage.kinds())[-2:] == ["cancel_request", "trigger"]


@pytest.mark.parametrize("busy", ["reject", "interrupt"])
async def test_what_people_type_is_a_message_too(stage: Any, busy: Any) -> None:
    """Human input meets the same policy."""
    engine = stage.engine(by_text, profile=profile(busy))
    await engine.advance(stage.request(text="open"))
    request = stage.request(trigger=HumanInput(actor_id="a", content="second"))
    if busy == "reject":
        with pytest.raises(RunOpen):
            await engine.submit(request)
    else:
        await engine.submit(request)
        assert len(await stage.records(CancelRequest)) == 1


@pytest.mark.parametrize("busy", ["reject", "interrupt"])
@pytest.mark.parametrize("how", ["advance", "submit"])
async def test_events_always_wait(stage: Any, busy: Any, how: str) -> None:
    """What no person said is never refused, and stops nothing."""
    engine = stage.engine([Continue(), Respond("one"), Respond("two")], profile=profile(busy))
    await engine.advance(stage.request())
    event = SystemObservation(source="disk", observation={})
    await getattr(engine, how)(stage.request(trigger=event))
    await drain(stage, engine)
    assert await outcomes(stage) == [("responded", "one"), ("responded", "two")]


@pytest.mark.parametrize("busy", ["reject", "interrupt"])
async def test_a_run_that_waits_for_an_answer_is_not_open(stage: Any, busy: Any) -> None:
    """While a run is suspended, messages are answered as ever."""
    script = [Suspend(reason="sure?", pending_calls=()), Respond("hi")]
    engine = stage.engine(script, profile=profile(busy))
    await engine.advance(stage.request())
    assert (await engine.advance(stage.request(text="second"))).outcome.response == "hi"
    assert await stage.records(CancelRequest) == []


async def test_only_messages_before_it_are_interrupted(stage: Any) -> None:
    """The newest message counts: one that waited before it is not answered; an event is."""
    engine = stage.engine(by_text, profile=profile("interrupt"))
    await engine.advance(stage.request(text="open"))
    await engine.submit(stage.request(trigger=SystemObservation(source="disk", observation={})))
    await engine.submit(stage.request(text="second"))
    await engine.submit(stage.request(text="third"))
    await drain(stage, engine)
    assert await outcomes(stage) == [
        INTERRUPTED,
        ("responded", "re: "),
        INTERRUPTED,
        ("responded", "re: third"),
    ]
    assert len(await stage.records(CancelRequest)) == 2


# With idempotency keys.


@pytest.mark.parametrize("busy", ["queue", "reject", "interrupt"])
@pytest.mark.parametrize("how", ["advance", "submit"])
async def test_the_same_message_again_is_no_second_one(stage: Any, busy: Any, how: str) -> None:
    """A repeated request neither is refused for its own run nor stops it."""
    engine = stage.engine(by_text, profile=profile(busy))
    first = await engine.advance(stage.request("k", text="open"))
    again = await getattr(engine, how)(stage.request("k", text="open"))
    assert again.trigger_id == first.trigger_id
    assert len(await stage.records(TriggerRecord)) == 1
    assert await stage.records(CancelRequest) == []


@pytest.mark.parametrize("busy", ["reject", "interrupt"])
@pytest.mark.parametrize("how", ["advance", "submit"])
async def test_a_message_that_was_answered_is_no_second_one(
    stage: Any, busy: Any, how: str
) -> None:
    """Repeated while another run is open, a request is recognised, and touches nothing."""
    engine = stage.engine(by_text, profile=profile(busy))
    done = await engine.advance(stage.request("k", text="first"))
    await engine.advance(stage.request(text="open"))
    again = await getattr(engine, how)(stage.request("k", text="first"))
    assert again.trigger_id == done.trigger_id
    if how == "advance":
        assert (again.outcome.response, again.outcome.idempotent_replay) == ("re: first", True)
    assert await stage.records(CancelRequest) == []


@pytest.mark.parametrize("busy", ["reject", "interrupt"])
@pytest.mark.parametrize("how", ["advance", "submit"])
async def test_another_body_under_the_key_is_a_mistake(stage: Any, busy: Any, how: str) -> None:
    """A key that stands for another message is refused as ever, and stops nothing."""
    engine = stage.engine(by_text, profile=profile(busy))
    await engine.advance(stage.request("k", text="open"))
    with pytest.raises(IdempotencyMismatch):
        await getattr(engine, how)(stage.request("k", text="other"))
    assert await stage.records(CancelRequest) == []


# During a step of this process.


async def during_a_step(stage: Any, engine: Any, then: Any, text: str = "slow") -> list[Any]:
    """Advance a run, and a second into its step do something else; return what came of each."""
    results: list[Any] = [None, None]

    async def first() -> None:
        results[0] = await engine.advance(stage.request(text=text))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(first)
        await trio.sleep(1)
        try:
            results[1] = await then()
        except RunOpen as error:
            results[1] = error
    return results


async def test_a_step_is_waited_for(stage: Any) -> None:
    """With `queue` a message during a step is answered after it."""
    engine = stage.engine(slowly, profile=profile("queue"))
    began = trio.current_time()
    first, second = await during_a_step(
        stage, engine, lambda: engine.advance(stage.request(text="second"))
    )
    assert (first.outcome.response, second.outcome.response) == ("re: slow", "re: second")
    assert trio.current_time() - began == 10


async def test_a_step_is_not_waited_for_to_be_refused(stage: Any) -> None:
    """With `reject` a message during a step is refused at once."""
    engine = stage.engine(slowly, profile=profile("reject"))
    refused: list[float] = []

    async def second() -> Any:
        try:
            return await engine.advance(stage.request(text="second"))
        finally:
            refused.append(trio.current_time())

    began = trio.current_time()
    first, error = await during_a_step(stage, engine, second)
    assert (first.outcome.response, type(error)) == ("re: slow", RunOpen)
    assert refused == [began + 1]


async def test_a_step_is_interrupted(stage: Any) -> None:
    """With `interrupt` the model is let go of at once, and the message answered by its caller."""
    engine = stage.engine(slowly, profile=profile("interrupt"))
    began = trio.current_time()
    first, second = await during_a_step(
        stage,
        engine,
        lambda: run_until_terminal(engine, stage.request(text="second")),
        text="endless",
    )
    assert (first.outcome.stop_reason, second.response) == ("cancelled", "re: second")
    assert trio.current_time() - began == 1


async def test_a_repeated_message_during_a_step_waits_for_it(stage: Any) -> None:
    """The same key again neither stops its own step nor is refused for it."""
    for busy in ("reject", "interrupt"):
        session = f"session {busy}"
        engine = stage.engine(slowly, profile=profile(busy))  # type: ignore[arg-type]
        results: list[Any] = []

        async def send(engine: Any, session: str, results: list[Any]) -> None:
            request = stage.request("k", text="slow", session_id=session)
            results.append((await engine.advance(request)).outcome)

        async with trio.open_nursery() as nursery:
            for _ in range(2):
                nursery.start_soon(send, engine, session, results)
                await trio.sleep(1)
        assert [outcome.response for outcome in results] == ["re: slow"] * 2
        assert [outcome.idempotent_replay for outcome in results] == [False, True]


async def test_a_repeated_message_that_was_answered_is_told_so_at_once(stage: Any) -> None:
    """An old key during another step gets its outcome, and that step goes on."""
    engine = stage.engine(slowly, profile=profile("interrupt"))
    await engine.advance(stage.request("k", text="first"))
    slow, again = await during_a_step(
        stage, engine, lambda: engine.advance(stage.request("k", text="first"))
    )
    assert (slow.outcome.response, again.outcome.response) == ("re: slow", "re: first")


# In two processes.


async def holding(stage: Any, busy: BusyPolicy, then: Any, text: str = "slow") -> list[Any]:
    """One process works on a run; a second into that another one does something."""
    options: dict[str, Any] = {"profile": profile(busy), "lease_ttl_ms": 9_000}
    holder = stage.engine(slowly, ledger=stage.other_handle(), **options)
    other = stage.engine(slowly, owner="two", **options)
    results: list[Any] = [None, None]

    async def first() -> None:
        results[0] = await holder.advance(stage.request(text=text))
        await drain(stage, holder)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(first)
        await trio.sleep(1)
        try:
            results[1] = await then(other)
        except (RunOpen, SessionBusy, RunInProgress) as error:
            results[1] = error
    return results


async def test_elsewhere_a_message_can_be_submitted(stage: Any) -> None:
    """With `queue` it waits for its turn, with whoever holds the session."""
    await holding(stage, "queue", lambda other: other.submit(stage.request(text="second")))
    assert await outcomes(stage) == [("responded", "re: slow"), ("responded", "re: second")]


async def test_elsewhere_a_message_cannot_be_advanced(stage: Any) -> None:
    """With `queue` whoever wants to work on it is told that somebody else does."""
    _, error = await holding(stage, "queue", lambda o: o.advance(stage.request(text="second")))
    assert isinstance(error, SessionBusy)
    assert len(await stage.records(TriggerRecord)) == 1


@pytest.mark.parametrize("how", ["advance", "submit"])
async def test_elsewhere_a_message_is_refused(stage: Any, how: str) -> None:
    """With `reject` the other process says so, and nothing is stored."""
    _, error = await holding(
        stage, "reject", lambda other: getattr(other, how)(stage.request(text="second"))
    )
    assert isinstance(error, RunOpen)
    assert len(await stage.records(TriggerRecord)) == 1


@pytest.mark.parametrize("key", [None, "k"])
@pytest.mark.parametrize("how", ["advance", "submit"])
async def test_elsewhere_a_message_interrupts(stage: Any, how: str, key: str | None) -> None:
    """With `interrupt` the holder lets go with its next heartbeat, and the message is answered."""
    began = trio.current_time()
    request = stage.request(key, text="second")

    async def send(other: Any) -> Any:
        if how == "submit":
            return await other.submit(request)
        return await run_until_terminal(other, request)

    first, second = await holding(stage, "interrupt", send, text="endless")
    assert first.outcome.stop_reason == "cancelled"
    assert await outcomes(stage) == [INTERRUPTED, ("responded", "re: second")]
    assert trio.current_time() - began == 3
    if how == "advance":
        assert second.response == "re: second"


async def test_elsewhere_an_interruption_is_stored_when_patience_ends(stage: Any) -> None:
    """A caller that waits no longer learns that its message is durable, under which trigger."""
    began = trio.current_time()
    request = stage.request(text="second", wait_ms=1_000)
    _, error = await holding(stage, "interrupt", lambda o: o.advance(request), text="endless")
    assert isinstance(error, RunInProgress)
    triggers = await stage.records(TriggerRecord)
    assert [trigger.trigger_id for trigger in triggers][1] == error.trigger_id
    assert trio.current_time() - began == 3
    assert (await outcomes(stage))[-1] == ("responded", "re: second")


def passed_on(name: str) -> Any:
    """A method that is another object's."""

    async def call(self: Any, *args: Any, **options: Any) -> Any:
        return await getattr(self.inner, name)(*args, **options)

    return call


@attrs.frozen
class Unwatched:
    """A ledger with leases that cannot be watched."""

    inner: Any

    @property
    def tenant(self) -> str:
        return str(self.inner.tenant)

    @property
    def max_payload_bytes(self) -> int:
        return int(self.inner.max_payload_bytes)

    append, read, head = passed_on("append"), passed_on("read"), passed_on("head")
    list_sessions, find_outcome = passed_on("list_sessions"), passed_on("find_outcome")
    lease_of, heartbeat, release = (
        passed_on("lease_of"),
        passed_on("heartbeat"),
        passed_on("release"),
    )


async def test_elsewhere_an_interruption_is_stored_where_nobody_can_wait(stage: Any) -> None:
    """On a ledger that cannot be watched the caller learns the same at once."""
    handle = Unwatched(stage.other_handle())
    holder = stage.engine(slowly, ledger=stage.other_handle(), profile=profile("interrupt"))
    other = stage.engine(slowly, owner="two", ledger=handle, profile=profile("interrupt"))
    await stage.interrupt(holder, stage.request(text="endless"))
    with pytest.raises(RunInProgress) as caught:
        await other.advance(stage.request(text="second"))
    triggers = await stage.records(TriggerRecord)
    assert [trigger.trigger_id for trigger in triggers][1] == caught.value.trigger_id


async def test_elsewhere_a_repeated_message_stops_nothing(stage: Any) -> None:
    """The same key in another process waits for the outcome of the run it began."""

    async def again(other: Any) -> Any:
        return await other.advance(stage.request("k", text="slow"))

    holder = stage.engine(slowly, ledger=stage.other_handle(), profile=profile("interrupt"))
    other = stage.engine(slowly, owner="two", profile=profile("interrupt"))
    results: list[Any] = []

    async def send(engine: Any) -> None:
        results.append((await engine.advance(stage.request("k", text="slow"))).outcome.response)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(send, holder)
        await trio.sleep(1)
        nursery.start_soon(send, other)
    assert results == ["re: slow"] * 2
    assert await stage.records(CancelRequest) == []
