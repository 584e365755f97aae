"""The provider against a server, through both SDKs."""

from __future__ import annotations

import json
import logging
import traceback
from typing import Any

import attrs
import pytest
import trio

from rainengine.core.abc import InvalidAnswer
from rainengine.core.environment import SystemClock
from rainengine.core.errors import ProviderError
from rainengine.core.records import (
    Attachment,
    AttachmentPart,
    BlobRef,
    CallSkills,
    ChatMessage,
    EnginePolicy,
    ProviderConfig,
    Respond,
    SkillManifest,
    TextPart,
    ToolCallPart,
    ToolResultPart,
)
from rainengine.core.settings import Secret
from rainengine.model_servers import (
    Answer,
    Asked,
    Call,
    Cut,
    Failure,
    Hang,
    Reply,
    Reset,
    Send,
    Tokens,
    Turn,
    broken_off,
    dribbled,
    gemini_error,
    held,
)
from rainengine.provider_gemini import GeminiProvider, GeminiSettings

KEY = "canary-3f9a"
SIGNATURE = "/+8="


async def failure(provider: GeminiProvider, request: Any, *, stream: bool = False) -> ProviderError:
    """The error that asking brings."""
    with pytest.raises(ProviderError) as caught:
        await decide(provider, request, stream=stream)
    return caught.value


async def decide(provider: GeminiProvider, request: Any, *, stream: bool) -> Any:
    """The decision, by the one or the other way to ask."""
    if stream:
        return await provider.stream_action(request, lambda _: None)
    return await provider.generate_action(request)


async def test_answer(serving: Any, asking: Any, sdk: str) -> None:
    """A text is the answer, with its model and its tokens."""
    tokens = Tokens(input=100, output=20, cached=40, thinking=5)
    async with serving([Answer(text="Hi you", tokens=tokens)], sdk=sdk) as (server, provider):
        decision = await provider.generate_action(asking())
    usage = decision.usage
    assert (Respond("Hi you"), "gemini-2.5-flash") == (decision.action, decision.model)
    assert (100, 20, 40) == (usage.input_tokens, usage.output_tokens, usage.cached_tokens)
    (request,) = server.requests
    assert request.path.endswith("/v1beta/models/gemini-2.5-flash:generateContent")


async def test_stream(serving: Any, asking: Any, sdk: str) -> None:
    """The text is sent piece by piece as it comes in, and the decision holds the whole."""
    sent: list[str] = []
    gate = trio.Event()

    def send(text: str) -> None:
        sent.append(text)
        gate.set()  # the rest only comes once the first piece was sent on

    answer = Answer(text="one two three", sending=held(gate, after=1))
    async with serving([answer], sdk=sdk) as (server, provider):
        decision = await provider.stream_action(asking(), send)
    assert ["one ", "two ", "three"] == sent
    assert Respond("one two three") == decision.action
    assert ":streamGenerateContent" in server.requests[0].path


@pytest.mark.parametrize("stream", [False, True])
async def test_tools(
    serving: Any, asking: Any, look_up: SkillManifest, sdk: str, *, stream: bool
) -> None:
    """Calls come with and without ids and in parallel; their results go back to them."""
    calls = (
        Call(name="look_up", args={"city": "Ålesund", "n": 2}, call_id="a"),
        Call(name="look_up", args={"city": "Rome"}),
    )
    script = [Answer(text="I look.", calls=calls), Answer(text="Done.")]
    async with serving(script, sdk=sdk) as (server, provider):
        request = asking("Go", available_skills=(look_up,))
        first = (await decide(provider, request, stream=stream)).action
        assert isinstance(first, CallSkills)
        made = [
            attrs.evolve(call, call_id=call.call_id or f"made-{n}")
            for n, call in enumerate(first.calls)
        ]
        parts = [
            ToolCallPart(call_id=one.call_id, name=one.name, args=one.args, opaque=one.opaque)
            for one in made
        ]
        results = [ToolResultPart(call_id=p.call_id, name=p.name, value=1) for p in parts]
        messages = (ChatMessage("assistant", tuple(parts)), ChatMessage("tool", tuple(results)))
        request = asking("Go", *messages, available_skills=(look_up,))
        second = await decide(provider, request, stream=stream)
    assert [("a", {"city": "Ålesund", "n": 2}), ("", {"city": "Rome"})] == [
        (call.call_id, call.args) for call in first.calls
    ]
    assert int is type(first.calls[0].args["n"])
    assert Respond("Done.") == second.action
    contents = server.requests[1].json["contents"]
    said = {"text": "I look."}
    assert said == contents[1]["parts"][0]
    assert ["a", "made-1"] == [part["functionCall"]["id"] for part in contents[1]["parts"][1:]]


async def test_thinking_and_signatures(serving: Any, asking: Any, look_up: SkillManifest) -> None:
    """Thoughts are nobody's text, and a signature comes back as it was."""
    call = Call(name="look_up", args={"city": "x"}, opaque=SIGNATURE)
    script = [Answer(thoughts="Hm", text="I look.", calls=(call,)), Answer(text="Done.")]
    model = "gemini-3-pro"
    sent: list[str] = []
    async with serving(script, model=model, thinking_level="low") as (server, provider):
        request = asking("Go", available_skills=(look_up,))
        decision = await provider.stream_action(request, sent.append)
        (planned,) = decision.action.calls
        part = ToolCallPart(call_id="a", name="look_up", args={}, opaque=planned.opaque)
        result = ToolResultPart(call_id="a", name="look_up", value=1)
        messages = (ChatMessage("assistant", (part,)), ChatMessage("tool", (result,)))
        await provider.generate_action(asking("Go", *messages, available_skills=(look_up,)))
    assert "I look." == "".join(sent)
    signed = server.requests[1].json["contents"][1]["parts"][1]["thoughtSignature"]
    assert SIGNATURE == signed.replace("_", "/").replace("-", "+")


ERRORS: list[tuple[Turn, tuple[Any, ...]]] = [
    (Failure(status=400), ("configuration", False, None)),
    (Failure(status=401), ("configuration", False, None)),
    (Failure(status=403), ("configuration", False, None)),
    (Failure(status=404), ("configuration", False, None)),
    (Failure(status=408, code="-"), ("timeout", True, None)),
    (Failure(status=409), ("internal", True, None)),
    (Failure(status=413, code="-"), ("configuration", False, None)),
    (Failure(status=429), ("rate_limited", True, None)),
    (Failure(status=429, headers={"retry-after": "7"}), ("rate_limited", True, 7000)),
    (Failure(status=499), ("transport", True, None)),
    (Failure(status=500), ("internal", True, None)),
    (Failure(status=501), ("configuration", False, None)),
    (Failure(status=502, code="-"), ("internal", True, None)),
    (Failure(status=503, headers={"retry-after": "0.5"}), ("internal", True, 500)),
    (Failure(status=504), ("timeout", True, None)),
    (Failure(status=599, code="-"), ("internal", True, None)),
    (Failure(status=418, code="-"), ("configuration", False, None)),
    (
        gemini_error(
            429,
            details=[
                {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "3.25s"},
            ],
        ),
        ("rate_limited", True, 3250),
    ),
    (
        gemini_error(
            429,
            details=[
                {
                    "@type": "type.googleapis.com/google.rpc.QuotaFailure",
                    "violations": [{"quotaId": "GenerateRequestsPerDayPerProject"}],
                },
                {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "3600s"},
            ],
        ),
        ("rate_limited", False, 3_600_000),
    ),
    (
        Reply(status=502, headers={"content-type": "text/html"}, moves=[Send(b"<html>")]),
        ("internal", True, None),
    ),
    (Reply(status=500, moves=[]), ("internal", True, None)),
    (
        Reply(headers={"content-type": "application/json"}, moves=[Send(b"{")]),
        ("invalid_response", True, None),
    ),
    (Reply(moves=[Reset()]), ("transport", True, None)),
]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("number", range(len(ERRORS)))
async def test_error(serving: Any, asking: Any, sdk: str, number: int, *, stream: bool) -> None:
    """Each error of the API has its kind, its delay, and is not tried again by the SDK."""
    turn, expected = ERRORS[number]
    async with serving([turn] * 3, sdk=sdk) as (server, provider):
        error = await failure(provider, asking(), stream=stream)
    kind, again, delay = expected
    if stream and kind == "invalid_response":
        assert error.retryable  # where a stream breaks off, its SDK says what it thinks of it
    else:
        assert (kind, again, delay) == (error.kind, error.retryable, error.retry_after_ms)
    assert 1 == len(server.requests)


@pytest.mark.parametrize("status", ["404 NOT_FOUND", "401 UNAUTHENTICATED"])
async def test_message_of_an_error(serving: Any, asking: Any, sdk: str, status: str) -> None:
    """An error says what the API said."""
    failed = Failure(status=int(status[:3]), message="so it is")
    async with serving([failed], sdk=sdk) as (_, provider):
        error = await failure(provider, asking())
    assert f"{status}: so it is" == str(error)


async def test_nobody_is_there(serving: Any, asking: Any, sdk: str) -> None:
    """A refused connection is an error of transport."""
    async with serving(sdk=sdk, base_url="http://127.0.0.1:9") as (_, provider):
        error = await failure(provider, asking())
    assert ("transport", True) == (error.kind, error.retryable)


@pytest.mark.parametrize("stream", [False, True])
async def test_silence_is_a_timeout(serving: Any, asking: Any, sdk: str, *, stream: bool) -> None:
    """A server that says nothing for as long as the provider may take is a timeout."""
    policy = EnginePolicy(provider_timeout_ms=150)
    async with serving([Reply(moves=[Hang()])], sdk=sdk) as (_, provider):
        with trio.fail_after(5):
            error = await failure(provider, asking(policy=policy), stream=stream)
    assert ("timeout", True) == (error.kind, error.retryable)


async def test_deadline_bounds_the_wait(serving: Any, asking: Any, clock: Any, sdk: str) -> None:
    """Nobody waits for longer than the run has left."""
    async with serving([Reply(moves=[Hang()])], sdk=sdk) as (_, provider):
        with trio.fail_after(5):
            error = await failure(provider, asking(deadline_ms=clock.at_ms + 150))
    assert "timeout" == error.kind


@pytest.mark.parametrize("stream", [False, True])
async def test_date_to_wait_for(serving: Any, asking: Any, sdk: str, *, stream: bool) -> None:
    """Where the API says until when to wait, the engine is told how long that is by the clock."""
    date = "Thu, 01 Jan 1970 00:16:50 GMT"  # ten seconds from when the clock stands still
    script = [Failure(status=503, headers={"retry-after": date})]
    async with serving(script, sdk=sdk) as (_, provider):
        error = await failure(provider, asking(), stream=stream)
    assert 10_000 == error.retry_after_ms


async def test_stream_that_breaks_off(serving: Any, asking: Any, sdk: str) -> None:
    """A stream that ends early is an error to be tried again, and no half decision."""
    script = [
        Answer(text="a b c", sending=broken_off(after=2)),
        Answer(text="a b c", sending=broken_off(Reset(), after=2)),
        Answer(text="a b c", sending=lambda moves: moves[:2]),
    ]
    async with serving(script, sdk=sdk) as (server, provider):
        errors = [await failure(provider, asking(), stream=True) for _ in script]
        await server.until(lambda it: not it.replying)
    assert [True] * 3 == [error.retryable for error in errors]
    assert {"transport", "invalid_response"} >= {error.kind for error in errors}


async def test_error_in_a_stream(serving: Any, asking: Any) -> None:
    """An error that comes in the middle of a stream is the one that it says."""
    text = 'data: {"candidates":[{"content":{"parts":[{"text":"a"}]}}]}'
    over = 'data: {"error":{"code":503,"message":"over","status":"UNAVAILABLE"}}'
    script = [Reply.of_events([text, over]), Answer(text="ok")]
    async with serving(script, max_connections=1) as (_, provider):
        error = await failure(provider, asking(), stream=True)
        decision = await provider.stream_action(asking(), lambda _: None)
    assert ("internal", True) == (error.kind, error.retryable)
    assert Respond("ok") == decision.action


async def test_slow_bytes_make_no_difference(serving: Any, asking: Any, sdk: str) -> None:
    """A stream that comes in byte by byte, characters torn apart, is read as it is."""
    sent: list[str] = []
    answer = Answer(text="ä € \u2028 🙂", sending=dribbled(size=1))
    async with serving([answer], sdk=sdk) as (_, provider):
        decision = await provider.stream_action(asking(), sent.append)
    assert Respond("ä € \u2028 🙂") == decision.action
    assert "ä € \u2028 🙂" == "".join(sent)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (Answer(refusal="not that"), "the prompt was blocked for OTHER: not that"),
        (Answer(text="x", stop="content_filter"), "the answer ended with SAFETY"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
async def test_block(
    serving: Any, asking: Any, sdk: str, answer: Answer, expected: str, *, stream: bool
) -> None:
    """A blocked prompt or answer is an error with its reason, and not worth another try."""
    async with serving([answer], sdk=sdk) as (_, provider):
        error = await failure(provider, asking(), stream=stream)
    assert ("invalid_response", False) == (error.kind, error.retryable)
    if sdk == "google-genai" or "blocked" not in expected:  # the old one has no field for messages
        assert expected == str(error)
    else:
        assert "the prompt was blocked for OTHER" == str(error)


@pytest.mark.filterwarnings("ignore:NEVER_HEARD_OF")  # the SDK's own
@pytest.mark.parametrize("stream", [False, True])
async def test_reason_that_is_not_known(
    serving: Any, asking: Any, sdk: str, *, stream: bool
) -> None:
    """A reason that the SDK is too old for is an error like any other."""
    candidate = {"content": {"parts": [{"text": "x"}]}, "finishReason": "NEVER_HEARD_OF"}
    body = json.dumps({"candidates": [candidate]})
    reply = Reply.of_json({"candidates": [candidate]})
    if stream and sdk == "google-genai":
        reply = Reply.of_events([f"data: {body}"])
    elif stream:
        reply = Reply.of_json([{"candidates": [candidate]}])
    async with serving([reply], sdk=sdk) as (_, provider):
        error = await failure(provider, asking(), stream=stream)
    # The old SDK drops a word that it does not know.
    expected = "NEVER_HEARD_OF" if sdk == "google-genai" else "no finish reason"
    assert expected in str(error)


@pytest.mark.parametrize("moves", [[Hang()], [Send(b""), Hang()]])
async def test_cancelled_before_the_answer(
    serving: Any, asking: Any, sdk: str, moves: list[Any]
) -> None:
    """A call that is cancelled while it waits is left at once, and its connection closed."""
    async with serving([Reply(moves=moves)], sdk=sdk) as (server, provider):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(provider.generate_action, asking())
            await server.until(lambda it: it.replying == 1)
            nursery.cancel_scope.cancel()
            cancelled = trio.current_time()
        assert trio.current_time() - cancelled < 0.1
        with trio.fail_after(2):
            await server.until(lambda it: it.open_connections == 0)


async def test_cancelled_in_a_stream(serving: Any, asking: Any, sdk: str) -> None:
    """Cancelling in the middle of a stream returns within 100 ms and frees the connection."""
    begun, never = trio.Event(), trio.Event()
    answer = Answer(text="one two three", sending=held(never, after=1))
    script = [answer, Answer(text="next")]
    async with serving(script, sdk=sdk, max_connections=1) as (server, provider):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(provider.stream_action, asking(), lambda _: begun.set())
            await begun.wait()
            nursery.cancel_scope.cancel()
            cancelled = trio.current_time()
        assert trio.current_time() - cancelled < 0.1
        with trio.fail_after(2):
            await server.until(lambda it: it.open_connections == 0)
        with trio.fail_after(2):  # with one connection at most, it has to be free again
            decision = await provider.stream_action(asking(), lambda _: None)
    assert Respond("next") == decision.action


async def test_cancelling_one_call_leaves_the_others_alone(
    serving: Any, asking: Any, sdk: str
) -> None:
    """Of calls side by side, one is cancelled and the others go on, on their connections."""
    gate = trio.Event()

    def script(asked: Asked) -> Answer:
        name = asked.messages[-1].parts[0].text  # type: ignore[union-attr]
        return Answer(text=f"{name} done", sending=held(gate, after=1))

    done: list[Any] = []
    async with serving(script, sdk=sdk) as (server, provider):

        async def ask(name: str) -> None:
            done.append((await provider.stream_action(asking(name), lambda _: None)).action)

        async with trio.open_nursery() as nursery:
            for name in ("a", "b"):
                nursery.start_soon(ask, name)
            async with trio.open_nursery() as doomed:
                doomed.start_soon(ask, "c")
                await server.until(lambda it: it.replying == 3)
                doomed.cancel_scope.cancel()
            await server.until(lambda it: it.replying == 2)
            gate.set()
    assert {Respond("a done"), Respond("b done")} == set(done)


async def test_fifty_streams_at_once(serving: Any, asking: Any, sdk: str) -> None:
    """Fifty streams run side by side."""
    gate = trio.Event()

    def script(asked: Asked) -> Answer:
        name = asked.messages[-1].parts[0].text  # type: ignore[union-attr]
        return Answer(text=f"hello {name}", sending=held(gate, after=1))

    answers: dict[str, Any] = {}
    async with serving(script, sdk=sdk) as (server, provider):

        async def ask(name: str) -> None:
            decision = await provider.stream_action(asking(name), lambda _: None)
            answers[name] = decision.action

        with trio.fail_after(60):
            async with trio.open_nursery() as nursery:
                for number in range(50):
                    nursery.start_soon(ask, str(number))
                await server.until(lambda it: it.replying == 50)
                gate.set()
    assert {str(n): Respond(f"hello {n}") for n in range(50)} == answers


async def test_bearer_token(serving: Any, asking: Any, sdk: str) -> None:
    """A token goes along as one, and no key beside it."""
    script = [Answer(text="Hi")]
    async with serving(script, sdk=sdk, bearer_token=Secret(KEY)) as (server, provider):
        await provider.generate_action(asking())
    headers = server.requests[0].headers
    assert f"Bearer {KEY}" == headers["authorization"]
    assert "x-goog-api-key" not in headers


async def test_wrong_key(serving: Any, asking: Any, sdk: str) -> None:
    """A key that the API does not know is an error of configuration."""
    async with serving(sdk=sdk, api_key=Secret("wrong")) as (_, provider):
        error = await failure(provider, asking())
    assert ("configuration", False) == (error.kind, error.retryable)
    assert "API key not valid" in str(error)


async def test_key_is_not_passed_on_to_others(serving: Any, asking: Any, sdk: str) -> None:
    """A redirection is not followed: the key goes where the settings say, and nowhere else."""
    to = {"location": "http://127.0.0.1:9/elsewhere", "content-length": "0"}
    async with serving([Reply(status=307, headers=to)], sdk=sdk) as (server, provider):
        error = await failure(provider, asking())
    assert ("configuration", False) == (error.kind, error.retryable)
    assert 1 == len(server.requests)


@pytest.mark.parametrize("stream", [False, True])
async def test_canary_is_nowhere(
    serving: Any, asking: Any, sdk: str, caplog: pytest.LogCaptureFixture, *, stream: bool
) -> None:
    """The key shows up in no log, error, cause or repr, even where a server sends it back."""
    caplog.set_level(logging.DEBUG)
    script: list[Turn] = [
        Failure(status=400, message=f"{KEY} is wrong"),
        Reply(status=500, moves=[Send(f"<p>{KEY}</p>".encode())]),
        Reply(headers={"content-type": "application/json"}, moves=[Send(f"[{KEY}".encode())]),
        Answer(text="Hi"),
    ]
    shown: list[str] = []
    async with serving(script, sdk=sdk) as (_, provider):
        for _ in script[:-1]:
            error: BaseException | None = await failure(provider, asking(), stream=stream)
            while error is not None:
                shown += [str(error), repr(error)]
                error = error.__cause__
        await provider.generate_action(asking())
        shown += [repr(provider), str(provider)]
    shown += [record.getMessage() for record in caplog.records]
    assert [] == [text for text in shown if KEY in text]


def _told(body: Any, *, stream: bool) -> Reply:
    """Return an answer of HTTP status 200: a stream of one event, or whole."""
    if not stream:
        return Reply.of_json(body)
    event = f"data: {json.dumps(body)}\r\n\r\n".encode()
    return Reply(headers={"content-type": "text/event-stream"}, moves=[Send(event)])


def _ended(reason: str) -> Any:
    message = f"{'.' * 280} {KEY}"
    return {"candidates": [{"finishReason": reason, "finishMessage": message}]}


ECHOES: dict[str, Any] = {
    "an ending": _ended("SAFETY"),
    "an unknown ending": _ended(KEY),
    "a block": {"promptFeedback": {"blockReason": KEY, "blockReasonMessage": f"not {KEY}"}},
    "an error": {"error": {"code": 503, "status": KEY, "message": f"{'.' * 290}{KEY}"}},
    "a text for an error": {"error": KEY},
    "nonsense": {"candidates": KEY},
    "a call without a name": {
        "candidates": [
            {"content": {"parts": [{"functionCall": {"args": {"a": KEY}}}]}, "finishReason": "STOP"}
        ]
    },
}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("body", ECHOES.values(), ids=ECHOES)
async def test_what_succeeds_over_http_does_not_tell(
    serving: Any, asking: Any, body: Any, *, stream: bool
) -> None:
    """No error that an answer tells of holds the key, nor carries what does."""
    async with serving([_told(body, stream=stream)]) as (_, provider):
        error = await failure(provider, asking(), stream=stream)
    assert KEY[:8] not in f"{error} {error!r} {error.args} {vars(error)}"
    assert (None, None) == (error.__cause__, error.__context__)


async def test_what_the_model_is_told_does_not_tell(serving: Any, asking: Any) -> None:
    """The key is not in what the model is told about its answer either."""
    async with serving([_told(_ended("MALFORMED_FUNCTION_CALL"), stream=False)]) as (_, provider):
        decision = await provider.generate_action(asking())
    assert isinstance(decision.action, InvalidAnswer)
    assert KEY not in repr(decision)


@pytest.mark.parametrize("stream", [False, True])
async def test_nothing_of_the_sdk_goes_with_an_error(
    serving: Any, asking: Any, sdk: str, *, stream: bool
) -> None:
    """No cause, context or frame of the SDK, which has the key, goes with an error."""
    turns = [Failure(status=400, message=f"{KEY} is wrong"), Reply(moves=[Cut()])]
    async with serving(turns, sdk=sdk) as (_, provider):
        for _ in turns:
            error = await failure(provider, asking(), stream=stream)
            assert (None, None) == (error.__cause__, error.__context__)
            frames = (frame for frame, _ in traceback.walk_tb(error.__traceback__))
            packages = {frame.f_globals["__name__"].partition(".")[0] for frame in frames}
            assert not {"google", "httpx2", "requests"} & packages


@pytest.mark.parametrize("fault", [Cut(), Reset(), Hang()], ids=["cut", "reset", "nothing"])
async def test_what_comes_after_a_whole_answer(
    serving: Any, asking: Any, sdk: str, fault: Any
) -> None:
    """An answer that has ended is not thrown away for what happens to its connection."""
    candidate = {"content": {"parts": [{"text": "Hi"}]}, "finishReason": "STOP"}
    reply = _told({"candidates": [candidate]}, stream=True)
    reply = attrs.evolve(reply, moves=[*reply.moves, fault])
    if sdk == "google-generativeai":
        piece = json.dumps({"candidates": [candidate]}).encode()
        reply = Reply(
            headers={"content-type": "application/json"}, moves=[Send(b"[" + piece), fault]
        )
    async with serving([reply], sdk=sdk, timeout_s=0.3) as (_, provider):
        decision = await decide(provider, asking(), stream=True)
    assert Respond("Hi") == decision.action


async def test_files_are_found(serving: Any, asking: Any, sdk: str) -> None:
    """A file that is not inline is looked for by whoever opened the provider."""
    blob = BlobRef(digest="0" * 64, size=3)
    file = Attachment(name="a.pdf", media_type="application/pdf", blob=blob)
    message = ChatMessage("user", (TextPart("Read"), AttachmentPart(file)))

    async def resolve(attachment: Attachment) -> str:
        await trio.lowlevel.checkpoint()
        return f"https://files/{attachment.name}"

    async with serving([Answer(text="ok")], sdk=sdk, resolve=resolve) as (server, provider):
        await provider.generate_action(asking(message))
    part = server.requests[0].json["contents"][0]["parts"][1]
    assert {"mimeType": "application/pdf", "fileUri": "https://files/a.pdf"} == {
        name.replace("mime_type", "mimeType").replace("file_uri", "fileUri"): value
        for name, value in part.get("fileData", part.get("file_data")).items()
    }


async def test_file_is_read(serving: Any, asking: Any, sdk: str) -> None:
    """A file whose bytes are found goes along inline."""
    blob = BlobRef(digest="0" * 64, size=3)
    file = Attachment(name="a.pdf", media_type="application/pdf", blob=blob)

    async def resolve(_: Attachment) -> bytes:
        await trio.lowlevel.checkpoint()
        return b"\xff\xfe"

    async with serving([Answer(text="ok")], sdk=sdk, resolve=resolve) as (server, provider):
        await provider.generate_action(asking(ChatMessage("user", (AttachmentPart(file),))))
    part = server.requests[0].json["contents"][0]["parts"][0]
    (blob_sent,) = part.values()
    assert "//4=" == blob_sent["data"].replace("_", "/")


async def test_file_that_cannot_be_found(serving: Any, asking: Any) -> None:
    """Whatever goes wrong in finding a file is an error of the provider."""
    blob = BlobRef(digest="0" * 64, size=3)
    file = Attachment(name="a.pdf", media_type="application/pdf", blob=blob)

    async def resolve(_: Attachment) -> bytes:
        raise OSError("disk on fire")

    async with serving(resolve=resolve) as (_, provider):
        error = await failure(provider, asking(ChatMessage("user", (AttachmentPart(file),))))
    assert ("internal", True) == (error.kind, error.retryable)
    assert "disk on fire" in str(error)


async def test_embeddings(serving: Any, sdk: str) -> None:
    """Each text has its vector, however many there are."""

    def embed(texts: Any) -> Any:
        return [[float(len(text)), 1.0] for text in texts]

    texts = ["x" * n for n in range(1, 121)]
    async with serving(sdk=sdk, embed=embed, dimensions=2) as (server, provider):
        vectors = await provider.generate_embeddings(texts)
        assert [] == await provider.generate_embeddings([])
    assert [[float(n), 1.0] for n in range(1, 121)] == vectors
    assert [100, 20] == [len(request.json["requests"]) for request in server.requests]
    assert 2 == server.requests[0].json["requests"][0]["outputDimensionality"]


async def test_embeddings_fail_alike(serving: Any, sdk: str) -> None:
    """Errors of embeddings are the provider's; vectors that are too few are one."""
    script = iter([Failure(status=429), [[1.0]]])
    async with serving(sdk=sdk, embed=lambda _: next(script)) as (_, provider):
        with pytest.raises(ProviderError) as limited:
            await provider.generate_embeddings(["a"])
        with pytest.raises(ProviderError, match="2 texts brought 1 vectors"):
            await provider.generate_embeddings(["a", "b"])
    assert "rate_limited" == limited.value.kind


def test_quote(asking: Any) -> None:
    """The most that a call may use is known where its answer is bounded; its price may not be."""
    price = {"input_micros": 1_000_000, "output_micros": 2_000_000}

    def quote(**changes: Any) -> Any:
        given = {"model": "m", "api_key": Secret("k"), "price": price, **changes}
        provider = GeminiProvider(GeminiSettings(**given), None, None, SystemClock(), None)  # type: ignore[arg-type]
        return provider.quote

    config = ProviderConfig(max_tokens=100)
    assert quote()(ProviderConfig(), 500) is None
    assert 500 + 200 == quote()(config, 500).cost_micros
    assert 500 + 20 == quote(max_output_tokens=10)(ProviderConfig(), 500).cost_micros
    assert 2 * 5000 + 200 == quote()(config, 5000).cost_micros  # a cache may be created
    assert 5000 + 200 == quote(cache_ttl_s=0)(config, 5000).cost_micros
    unpriced = quote(price=None)(config, 500)
    assert (500, 100, 0, None) == attrs.astuple(unpriced)
    known = quote(price=None)(ProviderConfig(model="gemini-2.5-flash", max_tokens=100), 500)
    assert "genai-prices" in known.price.source
    assert known.cost_micros > 0


async def test_price_is_a_snapshot(serving: Any, asking: Any) -> None:
    """The usage says what it was worked out from, and depends on the length of the prompt."""
    script = [Answer(text="x", tokens=Tokens(input=n, output=10)) for n in (1000, 300_000)]
    async with serving(script, model="gemini-2.5-pro") as (_, provider):
        short, long = [(await provider.generate_action(asking())).usage for _ in script]
    assert long.price.input_micros > short.price.input_micros
    assert "genai-prices" in short.price.source
    per_million = short.price.input_micros * 1000 + short.price.output_micros * 10
    assert -(-per_million // 1_000_000) == short.cost_micros
