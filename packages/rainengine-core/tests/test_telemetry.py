"""Spans: what they are called, what they say, and that they tell nobody's secrets."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from rainengine.core import Continue, ProviderConfig, Respond, Webhook, telemetry
from rainengine.core.errors import InadmissibleValue, ProviderError
from rainengine.core.records import TriggerRecord

SECRET = "a-very-secret-word"


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> Iterator[InMemorySpanExporter]:
    """Set up an SDK that keeps finished spans in memory, for one test."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", provider)
    yield exporter
    provider.shutdown()


def facts(span: ReadableSpan) -> tuple[str, dict[str, Any]]:
    """A span's name and attributes."""
    return span.name, dict(span.attributes or {})


async def test_a_run_has_the_conventions_spans(stage: Any, spans: InMemorySpanExporter) -> None:
    """An advance, a model call and a tool call are spans by the conventions' names."""
    engine = stage.engine([stage.calls("read"), Respond("x")], stage.skill("read"))
    await stage.play(engine, stage.request(provider=ProviderConfig(model="m")))
    about = {"gen_ai.conversation.id": "s"}
    chat = {"gen_ai.operation.name": "chat", "gen_ai.request.model": "m", **about}
    agent = {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "default", **about}
    tool = {
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.name": "read",
        "gen_ai.tool.call.id": "c1",
    }
    assert [facts(span) for span in spans.get_finished_spans()] == [
        ("chat m", chat),
        ("execute_tool read", tool),
        ("invoke_agent default", agent),
        ("chat m", chat),
        ("invoke_agent default", agent),
    ]


async def test_spans_are_nested(stage: Any, spans: InMemorySpanExporter) -> None:
    """Model and tool calls are children of their advance."""
    engine = stage.engine([stage.calls("read")], stage.skill("read"))
    await engine.advance(stage.request())
    chat, tool, agent = spans.get_finished_spans()
    assert [span.parent and span.parent.span_id for span in (chat, tool, agent)] == [
        agent.context.span_id,
        agent.context.span_id,
        None,
    ]


async def test_a_model_without_a_name_is_left_out(stage: Any, spans: InMemorySpanExporter) -> None:
    """Where no model is configured the span names none."""
    await stage.engine([Respond("x")]).advance(stage.request())
    name, attributes = facts(spans.get_finished_spans()[0])
    assert (name, "gen_ai.request.model" in attributes) == ("chat", False)


async def test_failures_are_marked_by_their_kind(stage: Any, spans: InMemorySpanExporter) -> None:
    """A failed call's span has an error status and the kind of failure as `error.type`."""
    bad = stage.skill("bad", stage.returning(ValueError(SECRET)))
    error = ProviderError(SECRET, kind="rate_limited", retryable=False)
    await stage.play(stage.engine([stage.calls("bad"), error], bad))
    failed = [span for span in spans.get_finished_spans() if not span.status.is_ok]
    assert [facts(span)[1]["error.type"] for span in failed] == ["internal", "rate_limited"]


async def test_no_content_enters_a_span(stage: Any, spans: InMemorySpanExporter) -> None:
    """Neither messages nor arguments, results or error texts are in any span."""
    skill = stage.skill("read", stage.returning(SECRET))
    bad = stage.skill("bad", stage.returning(ValueError(SECRET)))
    calls = stage.calls("read", "bad")
    calls = type(calls)([stage.call("read", args={"q": SECRET}), stage.call("bad", "c2")])
    await stage.play(stage.engine([calls, Respond(SECRET)], skill, bad), stage.request(text=SECRET))
    assert SECRET not in "".join(span.to_json() for span in spans.get_finished_spans())


async def test_an_exception_is_told_by_its_type_alone(
    stage: Any, spans: InMemorySpanExporter
) -> None:
    """An advance that raises has an error status and no text of the exception."""
    trigger = Webhook(source="w", payload={SECRET: float("nan")})
    with pytest.raises(InadmissibleValue, match=SECRET):
        await stage.engine([]).advance(stage.request(trigger=trigger))
    (span,) = spans.get_finished_spans()
    assert (span.status.is_ok, facts(span)[1]["error.type"]) == (False, "InadmissibleValue")
    assert SECRET not in span.to_json()


async def test_a_resumed_run_is_linked_to_its_beginning(
    stage: Any, spans: InMemorySpanExporter
) -> None:
    """The trigger stores its trace; advances in other traces are linked to it, its own is not."""
    engine = stage.engine([Continue(), Respond("x")])
    await stage.play(engine)
    (record,) = await stage.records(TriggerRecord)
    first, second = (s for s in spans.get_finished_spans() if s.name.startswith("invoke_agent"))
    assert record.traceparent is not None
    assert record.traceparent.split("-")[1:3] == [
        f"{first.context.trace_id:032x}",
        f"{first.context.span_id:016x}",
    ]
    assert ([link.context.span_id for link in second.links], list(first.links)) == (
        [first.context.span_id],
        [],
    )


async def test_nothing_happens_where_no_sdk_is_set_up(stage: Any) -> None:
    """Without an SDK there is no tracer, no traceparent, and the run is the same."""
    assert telemetry.span("chat", None, {}) is telemetry.span("chat", "m", {})
    await stage.engine([Respond("x")]).advance(stage.request())
    (record,) = await stage.records(TriggerRecord)
    assert record.traceparent is None


async def test_an_sdk_may_be_set_up_late(stage: Any, request: pytest.FixtureRequest) -> None:
    """An SDK that is set up after the first run gets the spans of the next."""
    engine = stage.engine(lambda _: Respond("x"))
    await engine.advance(stage.request())
    late: InMemorySpanExporter = request.getfixturevalue("spans")
    await engine.advance(stage.request())
    assert len(late.get_finished_spans()) == 2
