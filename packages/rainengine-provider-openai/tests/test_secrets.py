"""The key is seen by the endpoint, and by nobody else."""

from __future__ import annotations

import json
import logging
import pickle
import traceback
from typing import Any

import attrs
import pytest
import trio

from rainengine.core.errors import InvalidConfiguration, ProviderError
from rainengine.core.plugins import open_provider
from rainengine.model_servers import Answer, Cut, Failure, Reply, Send, broken_off


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """Everything that any library has to say, down to the least of it."""
    caplog.set_level(logging.DEBUG)
    for name in ("openai", "httpx", "httpx2", "httpcore", "httpcore2"):
        caplog.set_level(logging.DEBUG, logger=name)
    return caplog


def _shown(error: BaseException) -> str:
    """Return all that can be shown of an error."""
    whole = "".join(traceback.format_exception(error))
    return whole + repr(error) + repr(error.args) + repr(vars(error))


def _modules(error: BaseException) -> set[str]:
    """Return where an error has passed through: what is there may be shown with it."""
    frames = (frame for frame, _ in traceback.walk_tb(error.__traceback__))
    return {frame.f_globals["__name__"].partition(".")[0] for frame in frames}


FAILURES: dict[str, Any] = {
    "refused": lambda key: Failure(status=401, message=f"Incorrect API key provided: {key}"),
    "echoed": lambda key: Failure(status=400, message=f"Authorization: Bearer {key}", code=key),
    "no JSON": lambda key: Reply.of_json(f"Bearer {key}", status=500),
    "cut": lambda key: Reply(moves=(Cut(),)),
    "half an answer": lambda key: Answer(text="a b c", sending=broken_off(after=0)),
    "nonsense": lambda key: Reply.of_json({"key": key}),
}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("failure", FAILURES.values(), ids=FAILURES)
async def test_failures_do_not_tell(
    on_stage: Any, ask: Any, key: str, failure: Any, logged: Any, *, stream: bool
) -> None:
    """No error, and no log, holds the key, not even one that the endpoint sends back."""
    async with on_stage([failure(key)]) as stage:
        provider = stage.provider
        answering = (
            provider.stream_action(ask(), [].append) if stream else provider.generate_action(ask())
        )
        with pytest.raises(ProviderError) as caught:
            await answering
        (request,) = stage.server.requests
    assert key in request.headers["authorization"]
    assert key not in _shown(caught.value)
    assert (caught.value.__cause__, caught.value.__context__) == (None, None)
    assert not {"openai", "httpx2", "httpcore2"} & _modules(caught.value)
    assert logged.records
    assert key not in logged.text


def _event(told: Any) -> Reply:
    """Return a stream with one event: JSON, or what stands in its place."""
    data = told if isinstance(told, str) else json.dumps(told)
    return Reply(
        headers={"content-type": "text/event-stream"},
        moves=(Send(f"data: {data}\n\ndata: [DONE]\n\n".encode()),),
    )


def _said(key: str) -> dict[str, str]:
    return {"code": f"not {key}", "message": f"Incorrect API key provided: {key}"}


ECHOES: dict[str, tuple[Any, bool, Any]] = {
    "an error of chat": ("chat", True, lambda key: _event({"error": _said(key)})),
    "an error of responses": (
        "responses",
        True,
        lambda key: _event({"type": "error", **_said(key)}),
    ),
    "a response that failed": (
        "responses",
        True,
        lambda key: _event(
            {"type": "response.failed", "response": {"status": "failed", "error": _said(key)}}
        ),
    ),
    "no JSON": ("chat", True, lambda key: _event(f"<p>{key}")),
    "no JSON, and long": ("chat", True, lambda key: _event(f"{'.' * 390}{key}")),
    "no object": ("responses", True, lambda key: _event([key])),
    "a failed response, whole": (
        "responses",
        False,
        lambda key: Reply.of_json({"status": "failed", "error": _said(key)}),
    ),
    "a page": (
        "chat",
        False,
        lambda key: Reply(headers={"content-type": "text/html"}, moves=(Send(key.encode()),)),
    ),
    "an error, whole": ("chat", False, lambda key: Reply.of_json({"error": _said(key)})),
    "a long error": (
        "chat",
        False,
        lambda key: Failure(status=400, message=f"{'.' * 360}{key}"),
    ),
}


@pytest.mark.parametrize(("api", "stream", "echo"), ECHOES.values(), ids=ECHOES)
async def test_what_succeeds_over_http_does_not_tell(
    on_stage: Any, ask: Any, key: str, api: Any, echo: Any, *, stream: bool
) -> None:
    """No error that an answer tells of holds the key, nor the beginning of it."""
    async with on_stage([echo(key)], api=api) as stage:
        provider = stage.provider
        answering = (
            provider.stream_action(ask(), [].append) if stream else provider.generate_action(ask())
        )
        with pytest.raises(ProviderError) as caught:
            await answering
    assert key[:12] not in _shown(caught.value)
    assert len(str(caught.value)) <= 400
    assert (caught.value.__cause__, caught.value.__context__) == (None, None)


async def test_values_do_not_tell(on_stage: Any, ask: Any, key: str, logged: Any) -> None:
    """Neither the provider, nor its settings, nor what it asks and answers show the key."""
    async with on_stage([Answer(text="x")]) as stage:
        provider = stage.provider
        decision = await provider.generate_action(ask())
        shown = [repr(provider), str(provider), f"{provider.settings}", repr(decision)]
        shown += [repr(attrs.asdict(provider.settings)), str(stage.bodies())]
        with pytest.raises(TypeError):
            pickle.dumps(provider.settings)
    assert key not in "".join(shown)
    assert key not in logged.text


async def test_configuration_does_not_tell(key: str) -> None:
    """A key that stands where its reference should is refused, and not repeated."""
    with pytest.raises(InvalidConfiguration) as caught:
        async with open_provider("openai", {"model": "m", "api_key": key}):
            pytest.fail("opened")
    assert key not in "".join(traceback.format_exception(caught.value))


async def test_cancellation_does_not_tell(on_stage: Any, ask: Any, key: str, logged: Any) -> None:
    """A call that is given up leaves nothing of the key in the logs."""
    answer = Answer(text="x", sending=broken_off(Cut(), after=0))
    async with on_stage([answer]) as stage:
        with trio.CancelScope() as scope:
            scope.cancel()
            await stage.provider.generate_action(ask())
    assert key not in logged.text
