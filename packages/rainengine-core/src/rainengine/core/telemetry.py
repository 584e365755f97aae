"""Spans by the OpenTelemetry conventions for generative AI; their names stand only here.

https://opentelemetry.io/docs/specs/semconv/gen-ai/

Costs nothing where no OpenTelemetry SDK is set up. Message content never enters a span.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from opentelemetry.trace import Link, Tracer

INVOKE_AGENT = "invoke_agent"
CHAT = "chat"
EXECUTE_TOOL = "execute_tool"

OPERATION = "gen_ai.operation.name"
AGENT_NAME = "gen_ai.agent.name"
CONVERSATION = "gen_ai.conversation.id"
MODEL = "gen_ai.request.model"
TOOL_NAME = "gen_ai.tool.name"
TOOL_CALL = "gen_ai.tool.call.id"

_NOTHING: AbstractContextManager[object] = nullcontext()


@cache
def _tracer() -> Tracer | None:
    from opentelemetry import trace

    provider = trace.get_tracer_provider()
    if isinstance(provider, trace.ProxyTracerProvider | trace.NoOpTracerProvider):
        return None
    return trace.get_tracer("rainengine.core")


def span(
    operation: str, subject: str | None, attributes: dict[str, str], traceparent: str | None = None
) -> AbstractContextManager[object]:
    """Open a span named `operation subject`, linked to the trace that began the run."""
    tracer = _tracer()
    if tracer is None:
        return _NOTHING
    return tracer.start_as_current_span(
        f"{operation} {subject}" if subject else operation,
        attributes={OPERATION: operation, **attributes},
        links=_links(traceparent),
    )


def _links(traceparent: str | None) -> list[Link] | None:
    if traceparent is None:
        return None
    from opentelemetry import trace
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    began = TraceContextTextMapPropagator().extract({"traceparent": traceparent})
    return [trace.Link(trace.get_current_span(began).get_span_context())]


def current_traceparent() -> str | None:
    """The W3C traceparent of the span that is open now, to be stored with a trigger."""
    if _tracer() is None:
        return None
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    carrier: dict[str, str] = {}
    TraceContextTextMapPropagator().inject(carrier)
    return carrier.get("traceparent")
