"""Streaming: pieces of an answer are told while it is made; the decision alone is stored."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from rainengine.core import AgentProfile, Respond, TextDelta
from rainengine.core.abc import ProviderDecision
from rainengine.core.errors import ProviderError
from rainengine.core.records import MemoryPolicy, ModelDecision


class Streaming:
    """A provider that sends these pieces, one a second, and ends with a decision or an error."""

    def __init__(self, *pieces: Any, end: Any = None) -> None:
        self.pieces = pieces
        self.end = end
        self.calls = 0
        self.left: list[str] = []
        self.send: Any = None

    async def generate_action(self, _: Any) -> ProviderDecision:
        await trio.lowlevel.checkpoint()
        return ProviderDecision(action=Respond("not streamed"))

    async def stream_action(self, _: Any, send: Any) -> ProviderDecision:
        self.calls += 1
        self.send = send
        try:
            for piece in self.pieces:
                await trio.sleep(1)
                send(piece)
        except trio.Cancelled:
            self.left.append("cancelled")
            raise
        if isinstance(self.end, Exception):
            raise self.end
        return ProviderDecision(action=Respond("".join(map(str, self.pieces))))


def listening(stage: Any, provider: Any, **options: Any) -> tuple[Any, list[TextDelta]]:
    """An engine with this provider, and what its host hears."""
    heard: list[TextDelta] = []
    options = {"on_delta": heard.append} | options
    return stage.engine([], provider=provider, **options), heard


async def test_an_answer_is_told_piece_by_piece(stage: Any) -> None:
    """Each piece is told as it comes, with its run and step; what is stored is the whole."""
    engine, heard = listening(stage, Streaming("Good ", "day"))
    result = await engine.advance(stage.request())
    where = {"session_id": "s", "trigger_id": result.trigger_id, "step": 1}
    assert heard == [TextDelta(**where, text="Good "), TextDelta(**where, text="day")]
    (decision,) = await stage.records(ModelDecision)
    assert decision.action == Respond("Good day")


async def test_without_a_listener_nothing_is_streamed(stage: Any) -> None:
    """An engine whose host does not listen asks for the whole answer."""
    provider = Streaming("a")
    result = await stage.engine([], provider=provider).advance(stage.request())
    assert (result.outcome.response, provider.calls) == ("not streamed", 0)


async def test_a_provider_that_cannot_stream_is_asked_plainly(stage: Any) -> None:
    """With a listener too."""

    class Plain:
        async def generate_action(self, _: Any) -> ProviderDecision:
            await trio.lowlevel.checkpoint()
            return ProviderDecision(action=Respond("plain"))

    engine, heard = listening(stage, Plain())
    assert ((await engine.advance(stage.request())).outcome.response, heard) == ("plain", [])


async def test_only_answers_are_told(stage: Any) -> None:
    """A summary is no answer: nobody hears of it."""
    profile = AgentProfile(memory=MemoryPolicy(max_recent_items=2))
    engine, heard = listening(stage, Streaming("x"), profile=profile)
    for _ in range(2):
        await stage.play(engine)
    purposes = [decision.purpose for decision in await stage.records(ModelDecision)]
    assert (purposes, len(heard)) == (["act", "summarise", "act"], 2)


async def test_a_host_that_fails_is_told_no_more(
    stage: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """A callback that raises loses the rest of this answer; the run goes on, the next is told."""
    heard: list[str] = []

    def fail(delta: TextDelta) -> None:
        heard.append(delta.text)
        if len(heard) == 1:
            raise RuntimeError("the browser has gone")

    engine, _ = listening(stage, Streaming("a", "b"), on_delta=fail)
    for _ in range(2):
        assert (await engine.advance(stage.request())).outcome.response == "ab"
    assert heard == ["a", "a", "b"]
    assert "on_delta failed" in caplog.text


@pytest.mark.parametrize("piece", [None, 7, b"x", ""])
async def test_a_piece_that_is_no_text_is_left_out(stage: Any, piece: Any) -> None:
    """What a provider sends that is no text, or none at all, reaches nobody and harms nothing."""
    engine, heard = listening(stage, Streaming(piece, end=None))
    assert (await engine.advance(stage.request())).outcome is not None
    assert heard == []


async def test_pieces_are_clean(stage: Any) -> None:
    """What no ledger would take is not told either."""
    engine, heard = listening(stage, Streaming("a\ud800\0"))
    await engine.advance(stage.request())
    assert [delta.text for delta in heard] == ["a\ufffd\ufffd"]


async def test_what_comes_after_the_end_is_not_told(stage: Any) -> None:
    """A provider that keeps the callback can tell nothing by it once its call is over."""
    provider = Streaming("a")
    engine, heard = listening(stage, provider)
    await engine.advance(stage.request())
    provider.send("late")
    assert [delta.text for delta in heard] == ["a"]


async def test_a_call_that_is_made_again_tells_as_another_step(stage: Any) -> None:
    """A stream that breaks off is a failed call; the next one has the next step's number."""
    provider = Streaming("a", end=ProviderError("gone", kind="transport", retryable=True))
    engine, heard = listening(stage, provider)
    await engine.advance(stage.request())
    provider.end = None
    await engine.advance(stage.go_on)
    assert [(delta.step, delta.attempt, delta.text) for delta in heard] == [
        (1, 1, "a"),
        (2, 1, "a"),
    ]


async def test_a_cancel_leaves_no_half_decision(stage: Any) -> None:
    """A run that is stopped in the middle of an answer lets go of it; nothing of it is stored."""
    provider = Streaming("a", "b", "c")
    engine, heard = listening(stage, provider)
    results: list[Any] = []

    async def advance() -> None:
        results.append(await engine.advance(stage.request()))

    began = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(advance)
        await trio.sleep(1.5)
        await engine.cancel("s", "enough")
    assert trio.current_time() - began == 1.5
    assert results[0].outcome.stop_reason == "cancelled"
    assert (provider.left, [delta.text for delta in heard]) == (["cancelled"], ["a"])
    assert await stage.records(ModelDecision) == []


async def test_a_host_that_gives_up_leaves_no_half_decision(stage: Any) -> None:
    """A host that cancels its own advance may go on later: the model is asked anew."""
    provider = Streaming("a", "b")
    engine, heard = listening(stage, provider)
    with trio.move_on_after(1.5):
        await engine.advance(stage.request())
    assert await stage.records(ModelDecision) == []
    assert (await engine.advance(stage.go_on)).outcome.response == "ab"
    assert [delta.text for delta in heard] == ["a", "a", "b"]


async def test_a_stream_is_as_bounded_as_any_call(stage: Any) -> None:
    """An answer that goes on for ever is given up after the provider's time."""
    engine, _ = listening(stage, Streaming(*"x" * 1_000))
    began = trio.current_time()
    await engine.advance(stage.request())
    assert trio.current_time() - began == 45


async def test_a_scripted_provider_streams_words(stage: Any) -> None:
    """The provider of tests tells of a reply word by word, and loses nothing of it."""
    heard: list[TextDelta] = []
    text = " Good  day,\nall of you. "
    await stage.engine([Respond(text)], on_delta=heard.append).advance(stage.request())
    assert [delta.text for delta in heard] == [" Good", "  day,", "\nall", " of", " you. "]
