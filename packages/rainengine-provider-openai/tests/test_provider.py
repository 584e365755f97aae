"""The provider as a whole, by the SDK and HTTP, against a server that speaks the wire format."""

from __future__ import annotations

import base64
from typing import Any

import httpx
import httpx2
import pytest
import trio

from rainengine.core.abc import (
    EmbeddingProvider,
    InvalidAnswer,
    LlmProvider,
    PricedProvider,
    Quote,
    StreamingProvider,
)
from rainengine.core.errors import InvalidConfiguration, ProviderError
from rainengine.core.plugins import open_provider, plugin_names
from rainengine.core.records import (
    Attachment,
    AttachmentPart,
    BlobRef,
    CallSkills,
    ProviderConfig,
    Respond,
    TokenPrice,
    ToolCallPart,
    ToolResultPart,
    Yield,
)
from rainengine.model_servers import (
    Answer,
    Asked,
    Call,
    Failure,
    Hang,
    Reply,
    Send,
    Tokens,
    broken_off,
    dribbled,
    held,
    open_openai_server,
)
from rainengine.provider_openai import OpenAIProvider, open_openai_provider

PNG = b"\x89PNG"
CHEAP = TokenPrice(input_micros=2_000_000, output_micros=8_000_000, cached_micros=500_000)


async def test_it_is_all_that_the_engine_asks_for(on_stage: Any) -> None:
    """The provider answers, streams, quotes and embeds."""
    async with on_stage() as stage:
        provider: LlmProvider = stage.provider
        embedder: EmbeddingProvider = stage.provider
        assert isinstance(provider, StreamingProvider)
        assert isinstance(provider, PricedProvider)
        assert embedder is provider


async def test_an_answer(on_stage: Any, ask: Any, api: Any) -> None:
    """A decision has the action, the model that answered, and what that cost at which price."""
    tokens = Tokens(input=1000, output=100, cached=400)
    answer = Answer(text="Good morning.", tokens=tokens, model="gpt-test-2025")
    async with on_stage([answer], api=api, price=CHEAP) as stage:
        decision = await stage.provider.generate_action(ask())
    assert (decision.action, decision.model) == (Respond("Good morning."), "gpt-test-2025")
    usage = decision.usage
    assert usage is not None
    assert (usage.input_tokens, usage.output_tokens, usage.cached_tokens) == (1000, 100, 400)
    assert (usage.cost_micros, usage.price) == (1_200 + 200 + 800, CHEAP)


async def test_a_streamed_answer(on_stage: Any, ask: Any, api: Any) -> None:
    """A stream tells of the text as it comes, and its decision is that of the whole answer."""
    answer = Answer(text="Good morning, Ada.", tokens=Tokens(input=7))
    pieces: list[str] = []
    async with on_stage([answer, answer], api=api) as stage:
        decision = await stage.provider.stream_action(ask(), pieces.append)
        whole = await stage.provider.generate_action(ask())
    assert pieces == ["Good ", "morning, ", "Ada."]
    assert decision == whole


async def test_pieces_come_while_the_answer_is_made(on_stage: Any, ask: Any, api: Any) -> None:
    """What was sent is told before the rest is."""
    gate, pieces = trio.Event(), []

    def take(piece: str) -> None:
        pieces.append(piece)
        if "".join(pieces) == "one ":
            gate.set()

    after = 2 if api == "chat" else 5
    answer = Answer(text="one two", sending=held(gate, after=after))
    async with on_stage([answer], api=api) as stage:
        with trio.fail_after(5):
            await stage.provider.stream_action(ask(), take)
    assert pieces == ["one ", "two"]


@pytest.mark.parametrize("stream", [False, True])
async def test_calls(on_stage: Any, ask: Any, api: Any, *, stream: bool) -> None:
    """Parallel calls are one decision."""
    calls = (Call(name="look_up", args={"city": "Köln"}), Call(name="look_up", args={}))
    async with on_stage([Answer(calls=calls)], api=api) as stage:
        provider = stage.provider
        decision = await (
            provider.stream_action(ask(), [].append) if stream else provider.generate_action(ask())
        )
    assert isinstance(decision.action, CallSkills)
    assert [(call.name, call.args) for call in decision.action.calls] == [
        ("look_up", {"city": "Köln"}),
        ("look_up", {}),
    ]
    assert len({call.call_id for call in decision.action.calls}) == 2


async def test_other_decisions(on_stage: Any, ask: Any, api: Any) -> None:
    """A reserved call and a text in JSON decide alike; malformed arguments decide nothing."""
    request = ask(actions=frozenset({"respond", "call_skills", "yield"}))
    script = [
        Answer(calls=(Call(name="rainengine_yield", args={"reason": "done"}),)),
        Answer(text='{"type":"yield","reason":"done"}'),
        Answer(calls=(Call(name="look_up", args="{city: Köln}"),)),
    ]
    async with on_stage(script, api=api) as stage:
        decisions = [(await stage.provider.generate_action(request)) for _ in script]
    assert decisions[0].action == decisions[1].action == Yield("done")
    assert isinstance(decisions[2].action, InvalidAnswer)
    assert decisions[2].usage is not None


async def test_a_conversation(on_stage: Any, ask: Any, api: Any) -> None:
    """The calls of an answer, and their results, go back as the API wants them."""

    def script(asked: Asked) -> Answer:
        results = [
            part.value
            for message in asked.messages
            for part in message.parts
            if isinstance(part, ToolResultPart)
        ]
        if results:
            return Answer(text=f"{len(results)} results")
        return Answer(
            thoughts="hm",
            opaque="sealed",
            calls=(Call(name="look_up", call_id="c"), Call(name="look_up", call_id="c")),
        )

    async with on_stage(script, api=api) as stage:
        first = await stage.provider.generate_action(ask())
        assert isinstance(first.action, CallSkills)
        calls = [
            ToolCallPart(call_id=f"{n}", name=call.name, args=call.args, opaque=call.opaque)
            for n, call in enumerate(first.action.calls)
        ]
        results = [ToolResultPart(call_id=call.call_id, name=call.name, value=1) for call in calls]
        shown = ask(("user", "hi"), ("assistant", calls), ("tool", results))
        assert (await stage.provider.generate_action(shown)).action == Respond("2 results")


@pytest.mark.parametrize(("effort", "carried"), [("low", ["sealed"]), (None, [])])
async def test_reasoning_is_carried(
    on_stage: Any, ask: Any, effort: str | None, carried: list[str]
) -> None:
    """Where reasoning is asked for it comes sealed, and goes back with the call it led to."""
    script = [Answer(opaque="sealed", calls=(Call(name="look_up"),)), Answer(text="done")]
    async with on_stage(script, api="responses", reasoning_effort=effort) as stage:
        first = await stage.provider.generate_action(ask())
        (call,) = first.action.calls
        part = ToolCallPart(call_id="a", name="look_up", args={}, opaque=call.opaque)
        result = ToolResultPart(call_id="a", name="look_up", value=1)
        shown = ask(("user", "hi"), ("assistant", [part]), ("tool", [result]))
        await stage.provider.generate_action(shown)
        items = stage.server.requests[-1].json["input"]
    assert [item["encrypted_content"] for item in items if item.get("type") == "reasoning"] == (
        carried
    )


# Prices.


def _quote(price: TokenPrice | None, cost: int) -> Quote:
    return Quote(input_tokens=1_000, output_tokens=100, cost_micros=cost, price=price)


async def test_a_quote(settings: Any) -> None:
    """The most that a call may cost, by the price in the settings; None without a bound."""
    async with open_openai_provider(settings(price=CHEAP)) as provider:
        assert provider.quote(ProviderConfig(max_tokens=100), 1_000) == _quote(CHEAP, 2_800)
        assert provider.quote(ProviderConfig(), 1_000) is None
    async with open_openai_provider(settings(price=CHEAP, max_output_tokens=100)) as provider:
        assert provider.quote(ProviderConfig(), 1_000) == _quote(CHEAP, 2_800)


async def test_a_known_price(settings: Any) -> None:
    """A model of OpenAI has its price, with where that is from."""
    async with open_openai_provider(settings(model="gpt-4.1")) as provider:
        quote = provider.quote(ProviderConfig(max_tokens=100), 1_000)
    assert quote is not None
    assert quote.cost_micros == 2_800
    assert quote.price is not None
    assert quote.price.source.startswith("genai-prices")


async def test_an_unknown_price(on_stage: Any, ask: Any) -> None:
    """Where no price is known, tokens are counted and cost nothing."""
    async with on_stage([Answer(text="x")]) as stage:
        decision = await stage.provider.generate_action(ask())
        quote = stage.provider.quote(ProviderConfig(max_tokens=100), 1_000)
    assert decision.usage is not None
    assert (decision.usage.input_tokens, decision.usage.cost_micros) == (10, 0)
    assert decision.usage.price is None
    assert quote == _quote(None, 0)


# Files.


async def test_files_are_found(on_stage: Any, ask: Any, api: Any) -> None:
    """A file in a blob store is fetched once, and goes along."""
    asked_for: list[str] = []

    async def resolve(attachment: Attachment) -> bytes:
        asked_for.append(attachment.name)
        return PNG

    blob = BlobRef(digest="d" * 64, size=4)
    part = AttachmentPart(Attachment(name="p.png", media_type="image/png", blob=blob))
    async with on_stage([Answer(text="x")], api=api, resolve=resolve) as stage:
        await stage.provider.generate_action(ask(("user", part), ("user", part)))
        (body,) = stage.bodies()
    assert asked_for == ["p.png"]
    sent = f"data:image/png;base64,{base64.b64encode(PNG).decode()}"
    assert str(body).count(sent) == 2


@pytest.mark.parametrize("found", [FileNotFoundError("p.png"), None], ids=["fails", "nothing"])
async def test_a_file_that_is_not_found(on_stage: Any, ask: Any, found: Any) -> None:
    """Where the finder fails, or finds nothing, the call fails before it is made."""

    async def resolve(attachment: Attachment) -> bytes:
        if isinstance(found, Exception):
            raise found
        return found  # type: ignore[no-any-return]

    blob = BlobRef(digest="d" * 64, size=4)
    part = AttachmentPart(Attachment(name="p.png", media_type="image/png", blob=blob))
    async with on_stage([], resolve=resolve) as stage:
        with pytest.raises(ProviderError, match=r"'p\.png' was not found") as caught:
            await stage.provider.generate_action(ask(("user", part)))
        assert stage.server.requests == []
    assert caught.value.kind == "internal"


# Embeddings.


async def test_embeddings(on_stage: Any) -> None:
    """Each text has its vector, in order; no text, no vectors, no request."""
    async with on_stage(embedding_model="embed-test", dimensions=8) as stage:
        one, two = await stage.provider.generate_embeddings(["a", "b"])
        assert await stage.provider.generate_embeddings(["b", "a"]) == [two, one]
        assert await stage.provider.generate_embeddings([]) == []
        first, _ = stage.bodies()
    assert len(one) == len(two) == 8
    assert first == {
        "model": "embed-test",
        "input": ["a", "b"],
        "encoding_format": "float",
        "dimensions": 8,
    }


async def test_embeddings_out_of_order(on_stage: Any) -> None:
    """Vectors belong to texts by their index, in whatever order they come."""
    rows: Any = [{"index": 1, "embedding": [1.0]}, {"index": 0, "embedding": [0.0]}]
    async with on_stage(embed=lambda _: Reply.of_json({"data": rows})) as stage:
        assert await stage.provider.generate_embeddings(["a", "b"]) == [(0.0,), (1.0,)]


async def test_many_embeddings(on_stage: Any) -> None:
    """More texts than the API takes at once are sent in several requests."""
    texts = [str(number) for number in range(2049)]
    async with on_stage() as stage:
        vectors = await stage.provider.generate_embeddings(texts)
        assert [len(body["input"]) for body in stage.bodies()] == [2048, 1]
        assert vectors[-1] == (await stage.provider.generate_embeddings(["2048"]))[0]


BAD_VECTORS: dict[str, Any] = {
    "too few": lambda texts: [[1.0]],
    "uneven": lambda texts: [[1.0], [1.0, 2.0]],
    "empty": lambda texts: [[], []],
    "no numbers": lambda texts: [["x"], ["y"]],
    "no more than switches": lambda texts: [[True], [False]],
    "no finite numbers": lambda texts: Reply.of_json(
        {"data": [{"index": n, "embedding": [10**400]} for n in range(2)]}
    ),
    "nonsense": lambda texts: Reply.of_json({"data": 7}),
}


@pytest.mark.parametrize("embed", BAD_VECTORS.values(), ids=BAD_VECTORS)
async def test_embeddings_that_make_no_sense(on_stage: Any, embed: Any) -> None:
    """Vectors that are missing, uneven or none are an error."""
    async with on_stage(embed=embed) as stage:
        with pytest.raises(ProviderError) as caught:
            await stage.provider.generate_embeddings(["a", "b"])
    assert (caught.value.kind, caught.value.retryable) == ("invalid_response", True)


async def test_embeddings_that_fail(on_stage: Any) -> None:
    """An endpoint that fails is an error like any other."""
    async with on_stage(embed=lambda _: Failure(status=429)) as stage:
        with pytest.raises(ProviderError) as caught:
            await stage.provider.generate_embeddings(["a"])
    assert caught.value.kind == "rate_limited"


# Time.


@pytest.mark.parametrize("stream", [False, True])
async def test_the_sdk_does_not_retry(on_stage: Any, ask: Any, *, stream: bool) -> None:
    """A failure is the engine's to retry: one call is one request."""
    async with on_stage([Failure(status=500), Answer(text="x")]) as stage:
        provider = stage.provider
        answering = (
            provider.stream_action(ask(), [].append) if stream else provider.generate_action(ask())
        )
        with pytest.raises(ProviderError):
            await answering
        assert len(stage.server.requests) == 1


@pytest.mark.parametrize("stream", [False, True])
async def test_cancelled(on_stage: Any, ask: Any, api: Any, *, stream: bool) -> None:
    """A call that is cancelled ends within 100 ms, and its connection with it."""
    begun = trio.Event()
    after = 3 if stream else 0
    answer = Answer(text="one two three", sending=broken_off(Hang(), after=after))
    async with on_stage([answer], api=api) as stage:
        provider = stage.provider
        with trio.CancelScope() as scope:

            async def cancel() -> None:
                await stage.server.until(lambda it: it.replying == 1)
                if stream and api == "chat":
                    await begun.wait()
                scope.cancel()

            async with trio.open_nursery() as nursery:
                nursery.start_soon(cancel)
                with trio.fail_after(5):
                    await (
                        provider.stream_action(ask(), lambda _: begun.set())
                        if stream
                        else provider.generate_action(ask())
                    )
        ended = trio.current_time()
        assert scope.cancelled_caught
        await stage.server.until(lambda it: it.open_connections == 0)
        assert trio.current_time() - ended < 0.1


@pytest.mark.parametrize("sending", [held, broken_off])
async def test_how_fast_a_stream_is_cancelled(on_stage: Any, ask: Any, sending: Any) -> None:
    """From the cancellation to its end, and to that of the connection, it takes under 100 ms."""
    gate = trio.Event()
    options: Any = (gate,) if sending is held else (Hang(),)
    answer = Answer(text="one two three", sending=sending(*options, after=2))
    async with on_stage([answer]) as stage:
        with trio.CancelScope() as scope:

            def cancel(_: str) -> None:
                nonlocal cancelled
                cancelled = trio.current_time()
                scope.cancel()

            cancelled = 0.0
            await stage.provider.stream_action(ask(), cancel)
        assert trio.current_time() - cancelled < 0.1
        await stage.server.until(lambda it: it.open_connections == 0)
        assert trio.current_time() - cancelled < 0.1


async def test_a_deadline(on_stage: Any, ask: Any) -> None:
    """A deadline around a call holds."""
    async with on_stage([Answer(text="x", sending=broken_off(Hang()))]) as stage:
        with trio.move_on_after(0.05) as scope:
            await stage.provider.generate_action(ask())
        assert scope.cancelled_caught
        await stage.server.until(lambda it: it.open_connections == 0)


async def test_a_connection_is_kept(on_stage: Any, ask: Any, api: Any) -> None:
    """Answers, streamed ones too, are read to their end, so that one connection serves all."""
    async with on_stage(lambda _: Answer(text="one two"), api=api) as stage:
        for _ in range(3):
            await stage.provider.generate_action(ask())
            await stage.provider.stream_action(ask(), [].append)
            await stage.server.until(lambda it: it.replying == 0)
        assert stage.server.open_connections == 1


async def test_a_sloppy_stream(on_stage: Any, ask: Any) -> None:
    """Empty events, which keep a connection open, and spaces around the end do not count."""
    body = b'data:\n\ndata: {"choices":[{"delta":{"content":"x"}}]}\n\ndata:\n\ndata: [DONE] \n\n'
    reply = Reply(headers={"content-type": "text/event-stream"}, moves=(Send(body),))
    async with on_stage([reply]) as stage:
        decision = await stage.provider.stream_action(ask(), [].append)
    assert decision.action == Respond("x")


async def test_an_end_that_is_not_the_end(on_stage: Any, ask: Any) -> None:
    """An endpoint that says `[DONE]` and then nothing is not waited for."""
    moves = (Send(b'data: {"choices":[{"delta":{"content":"x"}}]}\n\ndata: [DONE]\n\n'), Hang())
    reply = Reply(headers={"content-type": "text/event-stream"}, moves=moves)
    async with on_stage([reply]) as stage:
        with trio.fail_after(2):
            decision = await stage.provider.stream_action(ask(), [].append)
        await stage.server.until(lambda it: it.open_connections == 0)
    assert decision.action == Respond("x")


async def test_a_byte_at_a_time(on_stage: Any, ask: Any, api: Any) -> None:
    """However small the pieces in which bytes come, the answer is whole."""
    answer = Answer(text="Grüße 🙂", calls=(Call(name="look_up", args={"city": "Köln"}),))
    slow = Answer(text=answer.text, calls=answer.calls, sending=dribbled())
    pieces: list[str] = []
    async with on_stage([slow], api=api) as stage:
        decision = await stage.provider.stream_action(ask(), pieces.append)
    assert "".join(pieces) == "Grüße 🙂"
    assert isinstance(decision.action, CallSkills)
    assert decision.action.calls[0].args == {"city": "Köln"}


async def test_fifty_streams(on_stage: Any, ask: Any, api: Any) -> None:
    """Fifty streams at once, all open at the same time, each get their own answer."""
    everyone, came = trio.Event(), []

    async def script(asked: Asked) -> Answer:
        said = asked.messages[-1].parts[0]
        came.append(said)
        if len(came) == 50:
            everyone.set()
        await everyone.wait()
        return Answer(text=f"You said: {getattr(said, 'text', '')}")

    answers: dict[str, Any] = {}

    async def talk(provider: OpenAIProvider, text: str) -> None:
        decision = await provider.stream_action(ask(("user", text)), [].append)
        answers[text] = decision.action

    async with on_stage(script, api=api) as stage:
        with trio.fail_after(20):
            async with trio.open_nursery() as nursery:
                for number in range(50):
                    nursery.start_soon(talk, stage.provider, f"{number}")
    assert answers == {f"{n}": Respond(f"You said: {n}") for n in range(50)}


# Opening.


@pytest.mark.parametrize("client", [httpx2.AsyncClient, httpx.AsyncClient])
async def test_a_client_of_ones_own(settings: Any, ask: Any, key: str, client: Any) -> None:
    """A client of httpx2 or httpx can be brought along, and is left open."""
    async with (
        open_openai_server([Answer(text="x")] * 2, api_key=key) as server,
        client(headers={"x-who": "me"}) as own,
    ):
        for _ in range(2):
            chosen = settings(base_url=f"{server.url}/v1")
            async with open_openai_provider(chosen, http_client=own) as provider:
                pieces: list[str] = []
                await provider.stream_action(ask(), pieces.append)
                assert pieces == ["x"]
            assert not own.is_closed
        assert [request.headers["x-who"] for request in server.requests] == ["me", "me"]


async def test_what_the_environment_says(
    on_stage: Any, ask: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The SDK's environment variables do not change what the settings say."""
    monkeypatch.setenv("OPENAI_ORG_ID", "org-of-somebody")
    monkeypatch.setenv("OPENAI_PROJECT_ID", "proj-of-somebody")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://nowhere.invalid")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-somebody")
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", "Authorization: Bearer other\nx-who: somebody")
    async with on_stage([Answer(text="x")] * 2) as stage:
        await stage.provider.generate_action(ask())
        headers = stage.server.requests[0].headers
    assert not {"openai-organization", "openai-project", "x-who"} & headers.keys()
    async with on_stage([Answer(text="x")], organization="org-1", project="proj-1") as stage:
        await stage.provider.generate_action(ask())
        headers = stage.server.requests[0].headers
    assert (headers["openai-organization"], headers["openai-project"]) == ("org-1", "proj-1")


async def test_by_name(key: str, ask: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The provider is a plugin that opens from plain settings, its key by reference."""
    assert "openai" in plugin_names("rainengine.providers")
    monkeypatch.setenv("ACME_KEY", key)
    async with open_openai_server([Answer(text="x")], api_key=key) as server:
        plain = {"model": "m", "api_key": "env:ACME_KEY", "base_url": f"{server.url}/v1"}
        async with open_provider("openai", plain) as provider:
            decision = await provider.generate_action(ask())
    assert decision.action == Respond("x")


async def test_wrong_settings_by_name() -> None:
    """What is wrong with plain settings is named before anything is opened."""
    with pytest.raises(InvalidConfiguration) as caught:
        async with open_provider("openai", {"model": "m", "api_key": "env:NO_SUCH_VARIABLE"}):
            pytest.fail("opened")
    assert caught.value.field == "api_key"
