"""Memory: what an agent keeps, and what it finds again."""

from __future__ import annotations

from typing import Any

import attrs
import pytest
import trio
import trio.testing

from rainengine.core import (
    AgentProfile,
    Continue,
    EnginePolicy,
    InMemoryRetrieval,
    MemoryArchive,
    MemorySearch,
    Plan,
    Respond,
    Webhook,
)
from rainengine.core.abc import MemoryHit
from rainengine.core.errors import SessionBusy
from rainengine.core.records import (
    KernelEventRecord,
    MemoryArchived,
    MemoryPolicy,
    MemorySearched,
    ModelDecision,
    ObservationAppended,
    TextPart,
)


@attrs.define
class FakeRetrieval:
    """Retrieval that gives what a test says."""

    answer: Any = ()
    searches: list[tuple[str, str, int]] = attrs.field(factory=list)

    async def search(self, session_id: str, query: str, limit: int) -> Any:
        self.searches.append((session_id, query, limit))
        await trio.lowlevel.checkpoint()
        if isinstance(self.answer, Exception):
            raise self.answer
        return await self.answer() if callable(self.answer) else self.answer


def hit(sequence: Any = 1, text: Any = "it was blue") -> MemoryHit:
    """Something found."""
    return MemoryHit(sequence=sequence, text=text, score=1.0)


async def events(stage: Any, kind: Any) -> list[Any]:
    """The kernel events of a kind."""
    records = await stage.records(KernelEventRecord)
    return [record.event for record in records if isinstance(record.event, kind)]


async def observed(stage: Any, source: str) -> list[Any]:
    """What observations of this source hold."""
    return [e.content for e in await events(stage, ObservationAppended) if e.source == source]


def shown(stage: Any) -> Any:
    """The last thing that the model was shown."""
    return stage.provider.requests[-1].messages[-1].parts[0].value


# Searching.


async def test_a_search_is_recorded_and_shown(stage: Any) -> None:
    """What was found is an event and an observation, and stands in the next prompt."""
    retrieval = FakeRetrieval([hit()])
    engine = stage.engine([MemorySearch(query="the colour", limit=3), Respond("blue")],
                          retrieval=retrieval)  # fmt: skip
    results = await stage.play(engine)
    assert retrieval.searches == [("s", "the colour", 3)]
    (searched,) = await events(stage, MemorySearched)
    assert (searched.query, searched.hits) == ("the colour", (1,))
    found = {"query": "the colour", "hits": [{"sequence": 1, "text": "it was blue"}]}
    assert await observed(stage, "memory:search") == [found]
    assert shown(stage) == {"event": "memory_search", "found": found}
    assert results[-1].outcome.steps_executed == 2


async def test_a_search_and_its_decision_are_one_append(stage: Any) -> None:
    """A search costs no commit of its own."""
    engine = stage.engine([MemorySearch(query="x"), Respond("y")], retrieval=FakeRetrieval())
    await stage.play(engine)
    assert stage.ledger.stats().commits == 3


async def test_as_much_is_found_as_may_be(stage: Any) -> None:
    """The profile bounds how many hits there are, whatever was asked for or came back."""
    retrieval = FakeRetrieval([hit()] * 50)
    profile = AgentProfile(memory=MemoryPolicy(semantic_retrieval_limit=5))
    engine = stage.engine(
        [MemorySearch(query="x", limit=40), Respond("y")], retrieval=retrieval, profile=profile
    )
    await stage.play(engine)
    (searched,) = await events(stage, MemorySearched)
    assert (retrieval.searches[0][2], len(searched.hits)) == (5, 5)


@pytest.mark.parametrize("limit", [0, 8])
async def test_a_search_is_offered_where_there_is_a_memory(stage: Any, limit: int) -> None:
    """Without retrieval, or where the profile allows no hits, a search is no action to take."""
    profile = AgentProfile(memory=MemoryPolicy(semantic_retrieval_limit=limit))
    for retrieval in (None, FakeRetrieval()):
        engine = stage.engine([Respond("x")], retrieval=retrieval, profile=profile)
        await engine.advance(stage.request())
        offered = "memory_search" in stage.provider.requests[0].actions
        assert offered == (retrieval is not None and limit > 0)


async def test_a_search_without_a_memory_is_invalid(stage: Any) -> None:
    """A model that searches all the same is told that it cannot."""
    await stage.play(stage.engine([MemorySearch(query="x"), Respond("y")]))
    (first, _) = await stage.records(ModelDecision)
    assert first.invalid == "this engine cannot follow a MemorySearch here"


@pytest.mark.parametrize(
    "search",
    [MemorySearch(query="  "), MemorySearch(query="x", limit=0), MemorySearch(query="x", limit=-1)],
)
async def test_a_search_for_nothing_is_invalid(stage: Any, search: Any) -> None:
    """A query without words, and a limit that finds nothing, are told to the model."""
    retrieval = FakeRetrieval()
    await stage.play(stage.engine([search, Respond("y")], retrieval=retrieval))
    assert (await stage.records(ModelDecision))[0].invalid
    assert retrieval.searches == []


async def _hang() -> Any:
    await trio.sleep_forever()


FAILING: dict[str, Any] = {
    "raises": ConnectionError("the index is away"),
    "text that no ledger takes": ValueError("\ud800\0"),
    "nothing": None,
    "no hits": [1, 2],
    "a number": 7,
    "hits without sequence": [hit("first")],
    "a hit beyond the end": [hit(10**6)],
    "a hit before the beginning": [hit(0)],
    "a truth value": [hit(True)],  # noqa: FBT003
    "a hit without text": [hit(1, None)],
    "hangs": _hang,
}


@pytest.mark.parametrize("failing", FAILING)
async def test_a_search_that_fails_is_told(stage: Any, failing: str) -> None:
    """Whatever retrieval does, the model learns that its search failed, and the run goes on."""
    engine = stage.engine(
        [MemorySearch(query="x"), Respond("y")], retrieval=FakeRetrieval(FAILING[failing])
    )
    assert (await stage.play(engine))[-1].outcome.response == "y"
    (found,) = await observed(stage, "memory:search")
    assert (found["query"], "hits" in found, len(found["error"]) > 5) == ("x", False, True)
    assert (await events(stage, MemorySearched))[0].hits == ()


async def test_a_slow_search_is_given_up(stage: Any) -> None:
    """After ten seconds, or at the run's deadline, the search has failed."""
    for limit_ms, took_s in ((120_000, 10), (4_000, 4)):
        engine = stage.engine(
            [MemorySearch(query="x"), Respond("y")],
            retrieval=FakeRetrieval(_hang),
            policy=EnginePolicy(max_execution_time_ms=limit_ms),
        )
        began = trio.current_time()
        await engine.advance(stage.request())
        assert trio.current_time() - began == took_s
        await engine.advance(stage.go_on)


async def test_a_cancel_ends_a_search(stage: Any) -> None:
    """A run that is stopped does not wait for its memory."""
    engine = stage.engine([MemorySearch(query="x")], retrieval=FakeRetrieval(_hang))
    began = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(engine.advance, stage.request())
        await trio.sleep(1)
        await engine.cancel("s", "enough")
    assert trio.current_time() - began == 1
    assert (await engine.advance(stage.go_on)).outcome.stop_reason == "cancelled"


async def test_a_search_is_left_off_where_the_session_moved_on(stage: Any) -> None:
    """A holder that is told so as it searches looks anew; it stores no search that failed."""

    async def oversleep() -> Any:
        await trio.testing.wait_all_tasks_blocked()  # the heartbeat sleeps, and will oversleep
        stage.clock.jump(60_000)
        await other.advance(stage.go_on)
        await engine.cancel("s", "enough")
        await trio.sleep_forever()

    engine = stage.engine([MemorySearch(query="x")], retrieval=FakeRetrieval(oversleep))
    other = stage.engine([Continue()], owner="two", ledger=stage.other_handle())
    with pytest.raises(SessionBusy):
        await engine.advance(stage.request())
    assert [] == await events(stage, MemorySearched)


async def test_large_memories_are_cut(stage: Any) -> None:
    """Hits and queries of any size are stored in a bounded form."""
    retrieval = FakeRetrieval([hit(1, "x" * 10**6)] * 8)
    engine = stage.engine([MemorySearch(query="y" * 10**6), Respond("z")], retrieval=retrieval)
    assert (await stage.play(engine))[-1].outcome.response == "z"
    (found,) = await observed(stage, "memory:search")
    assert {len(one["text"]) for one in found["hits"]} == {2_000}
    assert len(found["query"]) == 1_000


async def test_more_than_a_record_holds_is_a_failed_search(stage: Any) -> None:
    """Where the profile allows more than can be stored, the search fails and the run goes on."""
    profile = AgentProfile(memory=MemoryPolicy(semantic_retrieval_limit=10_000))
    retrieval = FakeRetrieval([hit(1, "x" * 5_000)] * 9_000)
    script = [MemorySearch(query="x", limit=9_000), Respond("z")]
    engine = stage.engine(script, retrieval=retrieval, profile=profile)
    assert (await stage.play(engine))[-1].outcome.response == "z"
    assert "error" in (await observed(stage, "memory:search"))[0]


# Keeping.


async def test_a_note_is_kept_and_shown(stage: Any) -> None:
    """A note is an event and an observation, stands in the next prompt, and needs no retrieval."""
    await stage.play(stage.engine([MemoryArchive("she likes tea"), Respond("noted")]))
    (kept,) = await events(stage, MemoryArchived)
    assert (kept.content, kept.note_id != "") == ("she likes tea", True)
    assert await observed(stage, "memory:archive") == ["she likes tea"]
    assert shown(stage) == {"event": "kept_in_memory", "content": "she likes tea"}


async def test_an_empty_note_is_invalid(stage: Any) -> None:
    """There is nothing to keep in a blank note."""
    await stage.play(stage.engine([MemoryArchive(" \n"), Respond("y")]))
    assert (await stage.records(ModelDecision))[0].invalid == "there is nothing to keep"


async def test_the_largest_note_is_kept(stage: Any) -> None:
    """A note that fits a decision fits the events that repeat it."""
    cap = stage.ledger.max_payload_bytes
    note = "x" * (cap - min(4096, cap // 8) - 400)
    results = await stage.play(stage.engine([MemoryArchive(note), Respond("y")]))
    assert results[-1].outcome.response == "y"
    assert (await events(stage, MemoryArchived))[0].content == note


# Being told of it.


@pytest.mark.parametrize("retrieval", [None, FakeRetrieval()])
async def test_a_cut_names_the_search_that_reaches_it(stage: Any, retrieval: Any) -> None:
    """Where history is left out the model is told, and of `memory_search` where it is offered."""
    profile = AgentProfile(memory=MemoryPolicy(max_recent_items=1, summarise=False))
    for text in ("one", "two"):
        engine = stage.engine([Respond("x")], retrieval=retrieval, profile=profile)
        await engine.advance(stage.request(text=text))
    (told,) = [m.parts[0].text for m in stage.provider.requests[0].messages if m.role == "system"]
    assert "earlier parts were left out" in told
    assert ("memory_search finds them" in told) == (retrieval is not None)


# The retrieval of tests.


async def test_what_was_said_and_done_is_found_again(stage: Any) -> None:
    """Questions, events, answers, results of tools, notes and thoughts can be found by words."""
    skill = stage.skill("weather", stage.returning({"sky": "cloudy"}))
    script = [
        stage.calls("weather"),
        MemoryArchive("Ada drinks tea"),
        Plan(summary="ponder the umbrella", confidence=0.9),
        Respond("Take a coat"),
    ]
    await stage.play(stage.engine(script, skill), stage.request(text="What is Paris like?"))
    webhook = Webhook(source="git", payload={"branch": "autumn"})
    await stage.play(stage.engine([Respond("ok")]), stage.request(trigger=webhook))
    retrieval = InMemoryRetrieval(stage.ledger)
    for word in ("PARIS", "cloudy", "tea", "umbrella", "coat", "autumn"):
        (found,) = await retrieval.search("s", word, 8)
        assert word.casefold() in found.text.casefold()
        (stored,) = await stage.ledger.read("s", after=found.sequence - 1, limit=1)
        assert stored.sequence == found.sequence


async def test_what_fits_best_comes_first(stage: Any) -> None:
    """More of the query's words are better, and of equals the newest is first."""
    for text in ("red house", "blue house", "red house with a garden", "car"):
        await stage.engine([Respond("?")]).advance(stage.request(text=text))
    hits = await InMemoryRetrieval(stage.ledger).search("s", "a red house", 8)
    assert [found.text for found in hits] == ["red house with a garden", "red house", "blue house"]
    assert [round(found.score, 2) for found in hits] == [1.0, 0.67, 0.33]
    newest = await InMemoryRetrieval(stage.ledger).search("s", "house", 2)
    assert [found.text for found in newest] == ["red house with a garden", "blue house"]


@pytest.mark.parametrize("query", ["", "  ", "!?", "nowhere"])
async def test_nothing_is_found_for_nothing(stage: Any, query: str) -> None:
    """A query without words, or with strange ones, has no hits."""
    await stage.engine([Respond("x")]).advance(stage.request())
    assert await InMemoryRetrieval(stage.ledger).search("s", query, 8) == []


async def test_long_sessions_are_read_in_pages(stage: Any) -> None:
    """What lies beyond the first page is found too."""
    for number in range(220):
        await stage.engine([Respond(f"answer {number}")]).advance(stage.request())
    (found,) = await InMemoryRetrieval(stage.ledger).search("s", "219", 8)
    assert found.text == "answer 219"


async def test_sessions_are_searched_apart(stage: Any) -> None:
    """A search finds nothing of another session."""
    await stage.engine([Respond("secret")]).advance(stage.request(session_id="other"))
    assert await InMemoryRetrieval(stage.ledger).search("s", "secret", 8) == []


async def test_an_agent_finds_what_it_no_longer_sees(stage: Any) -> None:
    """End to end: a detail that was cut is searched for, found and answered with."""
    profile = AgentProfile(memory=MemoryPolicy(max_recent_items=2, summarise=False))
    retrieval = InMemoryRetrieval(stage.ledger)

    def think(request: Any) -> Any:
        last = request.messages[-1].parts[0]
        if isinstance(last, TextPart):
            return MemorySearch(query="code word", limit=1) if "?" in last.text else Respond("ok")
        return Respond(last.value["found"]["hits"][0]["text"])

    engine = stage.engine(think, retrieval=retrieval, profile=profile)
    for text in ("the code word is swordfish", "hello", "hello again"):
        await stage.play(engine, stage.request(text=text))
    results = await stage.play(engine, stage.request(text="what was it?"))
    assert results[-1].outcome.response == "the code word is swordfish"
