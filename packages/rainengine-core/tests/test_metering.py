"""Metrics and contents of model calls, by the conventions for generative AI."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import trio
from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from rainengine.core import FallbackProvider, ProviderConfig, Respond
from rainengine.core.abc import ProviderDecision, Usage
from rainengine.core.errors import ProviderError
from rainengine.core.inmemory import ScriptedProvider

CAPTURE = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"
SECRET = "a-very-secret-word"


@pytest.fixture
def reader(monkeypatch: pytest.MonkeyPatch) -> Iterator[InMemoryMetricReader]:
    """Set up an SDK that keeps metrics in memory, for one test."""
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader])
    monkeypatch.setattr(metrics, "get_meter_provider", lambda: provider)
    yield reader
    provider.shutdown()


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> Iterator[InMemorySpanExporter]:
    """Set up an SDK that keeps finished spans in memory, for one test."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", provider)
    yield exporter
    provider.shutdown()


def measured(reader: InMemoryMetricReader) -> dict[str, list[tuple[dict[str, Any], Any, int]]]:
    """The attributes, the sum and the count of each point of each metric."""
    data: Any = reader.get_metrics_data()
    found: dict[str, list[tuple[dict[str, Any], Any, int]]] = {}
    for metric in data.resource_metrics[0].scope_metrics[0].metrics if data else ():
        points = [(dict(p.attributes), p.sum, p.count) for p in metric.data.data_points]
        found[f"{metric.name} {metric.unit}"] = points
    return found


def answer(**figures: Any) -> ProviderDecision:
    """A reply with this usage."""
    return ProviderDecision(action=Respond(SECRET), usage=Usage(**figures), model="m-1")


async def test_tokens_and_durations_are_measured(stage: Any, reader: InMemoryMetricReader) -> None:
    """A call is a point of each of the conventions' histograms, with model and provider."""

    async def slowly(_: Any) -> ProviderDecision:
        await trio.sleep(2)
        return answer(input_tokens=70, output_tokens=9)

    provider = FallbackProvider({"a": ScriptedProvider(slowly)})
    engine = stage.engine([], provider=provider)
    await engine.advance(stage.request(provider=ProviderConfig(model="m")))
    about = {
        "gen_ai.operation.name": "chat",
        "gen_ai.request.model": "m",
        "gen_ai.response.model": "m-1",
        "gen_ai.provider.name": "a",
    }
    assert measured(reader) == {
        "gen_ai.client.operation.duration s": [(about, 2.0, 1)],
        "gen_ai.client.token.usage {token}": [
            ({**about, "gen_ai.token.type": "input"}, 70, 1),
            ({**about, "gen_ai.token.type": "output"}, 9, 1),
        ],
    }


async def test_failures_are_measured(stage: Any, reader: InMemoryMetricReader) -> None:
    """A call that failed has a duration, by the kind of failure, and no tokens."""
    error = ProviderError(SECRET, kind="timeout", retryable=False)
    await stage.engine([error]).advance(stage.request())
    about = {"gen_ai.operation.name": "chat", "error.type": "timeout"}
    assert measured(reader) == {"gen_ai.client.operation.duration s": [(about, 0.0, 1)]}


@pytest.mark.parametrize("figure", [-1, float("nan"), "many", None, True, 10**30])
async def test_figures_that_cannot_be_are_not_measured(
    stage: Any, reader: InMemoryMetricReader, figure: Any
) -> None:
    """What no call can have used is left out."""
    await stage.engine([answer(input_tokens=figure, output_tokens=9), Respond("x")]).advance(
        stage.request()
    )
    (point,) = measured(reader)["gen_ai.client.token.usage {token}"]
    assert (point[0]["gen_ai.token.type"], point[1]) == ("output", 9)


async def test_no_content_is_measured(stage: Any, reader: InMemoryMetricReader) -> None:
    """Nothing that was said stands in a metric."""
    await stage.engine([answer(input_tokens=1)]).advance(stage.request(text=SECRET))
    data = reader.get_metrics_data()
    assert data is not None
    assert SECRET not in data.to_json()


@pytest.mark.parametrize("value", ["", "false", "no_content", "event_only", "1"])
async def test_content_is_told_to_nobody(
    stage: Any, spans: InMemorySpanExporter, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the environment's consent no span holds what was said."""
    monkeypatch.setenv(CAPTURE, value)
    await stage.engine([Respond(SECRET)]).advance(stage.request(text=SECRET))
    assert SECRET not in "".join(span.to_json() for span in spans.get_finished_spans())


@pytest.mark.parametrize("value", ["true", "TRUE", "span_only", "SPAN_AND_EVENT"])
async def test_content_is_told_where_it_is_asked_for(
    stage: Any, spans: InMemorySpanExporter, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With it, a call's span holds the messages and the action, as JSON."""
    monkeypatch.setenv(CAPTURE, value)
    await stage.engine([Respond("good day")]).advance(stage.request(text="hello"))
    chat = spans.get_finished_spans()[0].attributes
    assert chat is not None
    (message,) = json.loads(str(chat["gen_ai.input.messages"]))
    assert (message["role"], message["parts"][0]["text"]) == ("user", "hello")
    assert json.loads(str(chat["gen_ai.output.messages"]))["content"] == "good day"


async def test_content_that_cannot_be_shown_ends_nothing(
    stage: Any, spans: InMemorySpanExporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An answer that is no JSON is left out, and the run goes on."""
    monkeypatch.setenv(CAPTURE, "true")
    garbage: Any = ProviderDecision(action=object())  # type: ignore[arg-type]
    results = await stage.play(stage.engine([garbage, Respond("x")]))
    assert results[-1].outcome.response == "x"
    assert len(spans.get_finished_spans()) == 4
