"""What errors mean to the engine, and that the reference says so."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from email.utils import formatdate
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import rainengine.provider_gemini._generativeai  # noqa: F401  # quiets the SDK's warnings
from rainengine.core.errors import ProviderError
from rainengine.core.records import JsonValue
from rainengine.provider_gemini import _failures as failures
from rainengine.provider_gemini._decisions import TOLD
from rainengine.provider_gemini._delays import delay_ms
from rainengine.provider_gemini._events import BadEvent
from rainengine.provider_gemini._genai import _of_event as of_event

_FIELDS = st.sampled_from(["error", "code", "status", "message", "details", "@type"])

PAGE = Path(__file__).parents[3] / "docs/reference/provider-gemini.md"

NOW_MS = 1_792_567_590_000
"""07:26:30 on 21 October 2026, UTC."""

API_ERRORS = {
    "google.genai.errors": "APIError",
    "google.api_core.exceptions": "GoogleAPICallError",
}
"""What the SDKs raise over an answer of the API, which is judged by its status."""

MODULES = [
    "google.genai.errors",
    "google.api_core.exceptions",
    "google.auth.exceptions",
    "google.protobuf.json_format",
    "httpx2",
    "requests.exceptions",
]

UNREACHABLE = {
    # Of features that are not used: automatic function calling, and interactions.
    "ContinuationInterruptedError",
    "FunctionInvocationError",
    "UnknownFunctionCallArgumentError",
    "UnsupportedFunctionError",
    "SerializeToJsonError",  # what comes in is never written as JSON by that library
    "EnumStringValueParseError",
    "Error",  # the base of the two in google.protobuf.json_format
    "AsyncRestUnsupportedParameterError",
}


def errors_of(module: str) -> Iterator[type[Exception]]:
    """The errors that a module defines, or exports."""
    for _, value in inspect.getmembers(import_module(module), inspect.isclass):
        ours = value.__module__.partition(".")[0] == module.partition(".")[0]
        if ours and issubclass(value, Exception) and not issubclass(value, Warning):
            yield value


@pytest.mark.parametrize("module", MODULES)
def test_every_error_of_the_sdks_has_a_verdict(module: str) -> None:
    """Each class of errors stands in the table, by itself or by a base of its own package."""
    base = getattr(import_module(module), API_ERRORS.get(module, ""), ())
    judged_by_status = base if isinstance(base, type) else ()
    unjudged = [
        error.__name__
        for error in errors_of(module)
        if not issubclass(error, judged_by_status)
        and failures.verdict_on(error) is failures.verdict_on(Exception)
        and error.__name__ not in UNREACHABLE
        and not any(name in failures.CLIENT_ERRORS for name in named(error))
    ]
    assert [] == unjudged


def named(error: type[Exception]) -> list[str]:
    """The names that a class may stand under."""
    return [failures._name(base) for base in error.__mro__]


def test_every_status_of_an_sdk_has_a_verdict() -> None:
    """Each class of errors of the API has a status that stands in a table."""
    known = import_module("google.api_core.exceptions")
    codes = {error.code for error in errors_of(known.__name__) if getattr(error, "code", None)}
    # Redirections, and conditions that are never asked for, count as any other of their kind.
    assert {code for code in codes if code >= 400} - {405, 411, 412, 416} <= set(
        failures.HTTP_STATUSES
    )
    statuses = {
        error.grpc_status_code.name
        for error in errors_of(known.__name__)
        if getattr(error, "grpc_status_code", None)
    }
    assert set(failures.STATUSES) == statuses


def test_every_reason_of_the_sdks_is_known() -> None:
    """Each reason to end an answer, or to block a prompt, stands in a table."""
    types = import_module("google.genai.types")
    protos = import_module("google.generativeai.protos")
    ended = {one.name for one in (*types.FinishReason, *protos.Candidate.FinishReason)}
    assert {"STOP"} == ended - failures.ENDINGS.keys() - TOLD
    blocked = {
        one.name
        for one in (
            *types.BlockedReason,
            *protos.GenerateContentResponse.PromptFeedback.BlockReason,
        )
    }
    assert blocked <= failures.BLOCKS.keys()


def rows(names: Mapping[Any, failures.Verdict]) -> Iterator[str]:
    """Lines of a table."""
    for name, verdict in names.items():
        again = "yes" if verdict.retryable else "no"
        yield f"| `{name}` | `{verdict.kind}` | {again} |"


def table() -> str:
    """All tables of the page."""
    told = dict.fromkeys(sorted(TOLD), "told to the model")
    sections: list[tuple[str, str, Iterator[str]]] = [
        ("Errors of the API, by their status", "status", rows(failures.STATUSES)),
        ("The same, where a body names none", "HTTP status", rows(failures.HTTP_STATUSES)),
        ("Answers, by why they ended", "finish reason", rows(failures.ENDINGS)),
        ("Prompts, by why they were blocked", "block reason", rows(failures.BLOCKS)),
        ("Errors of the SDKs and of HTTP, by their class", "class", rows(failures.CLIENT_ERRORS)),
    ]
    lines: list[str] = []
    for title, what, entries in sections:
        lines += [f"### {title}", "", f"| {what} | kind | again |", "|---|---|---|", *entries, ""]
    lines += ["### Answers that the model is told of", "", "| finish reason |", "|---|"]
    lines += [f"| `{name}` |" for name in told]
    return "\n".join(lines)


def test_reference_has_the_tables() -> None:
    """The page in the reference shows the tables as they are."""
    assert table() in PAGE.read_text("utf-8"), f"{PAGE.name} has to have these:\n\n{table()}"


@pytest.mark.parametrize(
    ("code", "body", "expected"),
    [
        (429, {"error": {"message": "m", "status": "RESOURCE_EXHAUSTED"}}, "rate_limited"),
        (429, [{"error": {"message": "m", "status": "UNAVAILABLE"}}], "internal"),
        (503, {"message": "m"}, "internal"),
        (504, "gateway", "timeout"),
        (404, None, "configuration"),
        (302, {}, "configuration"),
        (0, {"error": "odd"}, "internal"),
        ("503", {"error": {"code": "503"}}, "internal"),
        ("429", {}, "rate_limited"),
        (429.0, {}, "rate_limited"),
        (None, {}, "internal"),
        (True, {}, "internal"),
        ("9" * 5000, {}, "internal"),
        ({"a": 1}, {}, "internal"),
        (400, {"error": {"details": [3, {"@type": 4}], "status": 7}}, "configuration"),
    ],
)
def test_body_of_an_error(code: object, body: object, expected: str) -> None:
    """The status in a body counts before the HTTP status, and nothing in a body is an exception."""
    assert expected == failures.of_response(code, body, {}, 0).kind


_SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
_JSON = st.recursive(
    _SCALARS,
    lambda inner: st.lists(inner) | st.dictionaries(_FIELDS | st.text(), inner),
    max_leaves=12,
)


@given(code=_JSON, body=_JSON, header=st.text())
def test_any_error_is_a_failure(code: object, body: object, header: str) -> None:
    """Whatever stands in an error is an error for the engine, and no exception."""
    error = failures.of_response(code, body, {"retry-after": header}, NOW_MS)
    assert isinstance(error, ProviderError)
    assert isinstance(of_event(BadEvent("x", {"error": body}), 0), ProviderError)


@pytest.mark.parametrize(
    ("delay", "header", "expected"),
    [
        ("1.5s", "9", 1500),
        ("0s", "9", 0),
        ("999999999s", "9", 86_400_000),
        ("soon", "9", 9000),
        (None, "0.25", 250),
        (None, "9" * 5000, 86_400_000),
        ("9" * 5000 + "s", "", 86_400_000),
        ("-3s", "", None),
        ({"seconds": 3}, "", None),
        (None, "Wed, 21 Oct 2026 07:28:00 GMT", 90_000),
        (None, "Wednesday, 21-Oct-26 07:28:00 GMT", 90_000),
        (None, "Wed Oct 21 07:28:00 2026", 90_000),
        (None, "Wed, 21 Oct 2026 07:26:29 GMT", 0),
        (None, "Wed, 21 Oct 2099 07:28:00 GMT", 86_400_000),
        (None, "Wed, 21 Oct 99999 07:28:00 GMT", None),
        (None, "-3", None),
        (None, "", None),
    ],
)
def test_delay(delay: JsonValue, header: str, expected: int | None) -> None:
    """The delay is the one in the details, or else in the header: seconds or a date, but a day."""
    info = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": delay}
    body = {"error": {"status": "UNAVAILABLE", "details": [] if delay is None else [info]}}
    error = failures.of_response(503, body, {"retry-after": header}, NOW_MS)
    assert expected == error.retry_after_ms


_WORDS = st.sampled_from(
    ["Wed,", "21", "Oct", "2026", "07:28:00", "GMT", "-0000", "+9999", "1e9", "."]
)
_SAID = st.text() | st.lists(_WORDS | st.integers().map(str)).map(" ".join) | st.floats().map(str)


@given(delay=_SAID | _JSON, header=_SAID, now_ms=st.integers(min_value=0, max_value=2**53))
def test_any_delay_is_at_most_a_day(delay: JsonValue, header: str, now_ms: int) -> None:
    """Whatever an error says about waiting, nobody waits for longer than a day, or backwards."""
    details = [{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": delay}]
    waits = [
        delay_ms(details, {}, now_ms),
        delay_ms([], {"retry-after": header}, now_ms),
        delay_ms(details, {"retry-after": header}, now_ms),
    ]
    assert all(wait is None or 0 <= wait <= 86_400_000 for wait in waits)
    assert (waits[1] if waits[0] is None else waits[0]) == waits[2]


@given(at_s=st.integers(min_value=0, max_value=2**32), wait_s=st.integers(0, 86_400))
def test_date_is_the_delay_until_then(at_s: int, wait_s: int) -> None:
    """A date is as good as the seconds until then."""
    date = formatdate(at_s + wait_s, usegmt=True)
    assert wait_s * 1000 == delay_ms([], {"retry-after": date}, at_s * 1000)
