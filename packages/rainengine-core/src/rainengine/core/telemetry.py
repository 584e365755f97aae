"""Spans by the OpenTelemetry conventions for generative AI; their names stand only here.

https://opentelemetry.io/docs/specs/semconv/gen-ai/

Costs nothing where no OpenTelemetry SDK is set up. Message content enters a span only where the
environment's `OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT` asks for it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from opentelemetry.trace import Tracer

INVOKE_AGENT = "invoke_agent"
CHAT = "chat"
EXECUTE_TOOL = "execute_tool"

OPERATION = "gen_ai.operation.name"
AGENT_NAME = "gen_ai.agent.name"
CONVERSATION = "gen_ai.conversation.id"
MODEL = "gen_ai.request.model"
TOOL_NAME = "gen_ai.tool.name"
TOOL_CALL = "gen_ai.tool.call.id"
ERROR_TYPE = "error.type"
INPUT_MESSAGES = "gen_ai.input.messages"
OUTPUT_MESSAGES = "gen_ai.output.messages"

_CAPTURE = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"
_CAPTURING = frozenset({"true", "span_only", "span_and_event"})

_NOTHING: AbstractContextManager[object] = nullcontext()
_traced_by: ContextVar[Tracer | None] = ContextVar("rainengine_tracer", default=None)
"""The tracer of the invocation that is under way: it is looked for once an invocation."""


def _tracer() -> Tracer | None:
    """The tracer, once an SDK is set up, which may happen after the first run."""
    from opentelemetry import trace

    provider = trace.get_tracer_provider()
    if isinstance(provider, trace.ProxyTracerProvider | trace.NoOpTracerProvider):
        return None
    return provider.get_tracer("rainengine.core")


@contextmanager
def _invocation(tracer: Tracer, subject: str, attributes: dict[str, str]) -> Generator[None]:
    before = _traced_by.set(tracer)
    try:
        with span(INVOKE_AGENT, subject, attributes):
            yield
    finally:
        _traced_by.reset(before)


def invocation(subject: str, attributes: dict[str, str]) -> AbstractContextManager[object]:
    """Open a span for all that an agent does in one advance."""
    tracer = _tracer()
    return _NOTHING if tracer is None else _invocation(tracer, subject, attributes)


def span(
    operation: str, subject: str | None, attributes: dict[str, str]
) -> AbstractContextManager[object]:
    """Open a span named `operation subject` within an invocation."""
    tracer = _traced_by.get()
    if tracer is None:
        return _NOTHING
    name = f"{operation} {subject}" if subject else operation
    return _open(tracer, name, {OPERATION: operation, **attributes})


@contextmanager
def _open(tracer: Tracer, name: str, attributes: dict[str, str]) -> Generator[None]:
    # The text of an exception may quote a message: only its type is told.
    with tracer.start_as_current_span(
        name, attributes=attributes, record_exception=False, set_status_on_exception=False
    ):
        try:
            yield
        except Exception as error:
            mark_failed(type(error).__name__)
            raise


def mark_failed(error_type: str) -> None:
    """Say in the open span what kind of failure it ended in, and nothing of its message."""
    if _traced_by.get() is None:
        return
    from opentelemetry import trace

    current = trace.get_current_span()
    current.set_attribute(ERROR_TYPE, error_type)
    current.set_status(trace.StatusCode.ERROR)


def tell_content(attribute: str, content: Callable[[], str]) -> None:
    """Say in the open span what was said, where the environment asks for that."""
    if _traced_by.get() is None or os.environ.get(_CAPTURE, "").lower() not in _CAPTURING:
        return
    from opentelemetry import trace

    trace.get_current_span().set_attribute(attribute, content())


def link(traceparent: str | None) -> None:
    """Link the open span to the trace that began the run, where that is another one."""
    if traceparent is None or _traced_by.get() is None:
        return
    from opentelemetry import trace
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    carried = TraceContextTextMapPropagator().extract({"traceparent": traceparent})
    began = trace.get_current_span(carried).get_span_context()
    current = trace.get_current_span()
    if began.is_valid and began.trace_id != current.get_span_context().trace_id:
        current.add_link(began)


def current_traceparent() -> str | None:
    """The W3C traceparent of the span that is open now, to be stored with a trigger."""
    if _tracer() is None:
        return None
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    carrier: dict[str, str] = {}
    TraceContextTextMapPropagator().inject(carrier)
    return carrier.get("traceparent")
