"""What becomes of the errors of the SDK, of HTTP and of the API: one table.

Errors are looked up by the names of their classes, so that nothing here imports the SDK, and so
that an HTTP client of `httpx` is treated as one of `httpx2` is.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import attrs

from rainengine.core.errors import ProviderError, ProviderErrorKind
from rainengine.core.settings import Secret
from rainengine.provider_openai._advice import advised_wait_ms, should_retry
from rainengine.provider_openai._values import as_object, as_text

_MESSAGE = 400


@attrs.frozen
class Verdict:
    """What an error is to the engine."""

    kind: ProviderErrorKind
    retryable: bool


_CONFIGURATION = Verdict("configuration", retryable=False)
_RATE_LIMITED = Verdict("rate_limited", retryable=True)
_TIMEOUT = Verdict("timeout", retryable=True)
_TRANSPORT = Verdict("transport", retryable=True)
_INTERNAL = Verdict("internal", retryable=True)
_REFUSED = Verdict("invalid_response", retryable=False)
_GARBLED = Verdict("invalid_response", retryable=True)

BY_CODE: Mapping[str, Verdict] = {
    "content_filter": _REFUSED,
    "content_policy_violation": _REFUSED,
    "invalid_prompt": _REFUSED,
    "insufficient_quota": _CONFIGURATION,
    "billing_hard_limit_reached": _CONFIGURATION,
    "billing_not_active": _CONFIGURATION,
    "context_length_exceeded": _CONFIGURATION,
    "invalid_api_key": _CONFIGURATION,
    "model_not_found": _CONFIGURATION,
    "invalid_request_error": _CONFIGURATION,
    "rate_limit_exceeded": _RATE_LIMITED,
    "rate_limit_error": _RATE_LIMITED,
    "server_error": _INTERNAL,
    "server_is_overloaded": _INTERNAL,
    "overloaded_error": _INTERNAL,
    "vector_store_timeout": _TIMEOUT,
}
"""By the API's own word: the `code` of an error, and where there is no status also its `type`.

It goes before the status.
"""

BY_STATUS: Mapping[int, Verdict] = {
    400: _CONFIGURATION,
    401: _CONFIGURATION,
    403: _CONFIGURATION,
    404: _CONFIGURATION,
    408: _TIMEOUT,
    409: _INTERNAL,
    413: _CONFIGURATION,
    422: _CONFIGURATION,
    425: _TRANSPORT,
    429: _RATE_LIMITED,
    500: _INTERNAL,
    502: _INTERNAL,
    503: _INTERNAL,
    504: _TIMEOUT,
}
"""By the status. Any other from 500 on is as 500 is, any other as 400 is."""

BY_CLASS: Mapping[str, Verdict] = {
    "APITimeoutError": _TIMEOUT,
    "APIConnectionError": _TRANSPORT,
    "APIResponseValidationError": _GARBLED,
    "LengthFinishReasonError": _REFUSED,
    "ContentFilterFinishReasonError": _REFUSED,
    "APIError": _INTERNAL,
    "OpenAIError": _CONFIGURATION,
    "TimeoutException": _TIMEOUT,
    "DecodingError": _GARBLED,
    "RequestError": _TRANSPORT,
    "JSONDecodeError": _GARBLED,
    "UnicodeDecodeError": _GARBLED,
    "Exception": Verdict("internal", retryable=False),
}
"""By the class of an error without a status, or the nearest of its bases."""


def verdict_of(error: Exception) -> Verdict:
    """Return what an error of a call is."""
    told, status = as_object(getattr(error, "body", None)), getattr(error, "status_code", None)
    if isinstance(status, int) and status >= HTTPStatus.MULTIPLE_CHOICES:
        return _by_word(told, "code") or _by_status(status)
    return _by_word(told, "code", "type") or _by_class(type(error))


def _by_word(told: dict[str, Any], *fields: str) -> Verdict | None:
    words = (as_text(told.get(field)) for field in fields)
    return next((BY_CODE[word] for word in words if word in BY_CODE), None)


def _by_status(status: int) -> Verdict:
    fallback = 500 if status >= HTTPStatus.INTERNAL_SERVER_ERROR else 400
    return BY_STATUS.get(status, BY_STATUS[fallback])


def _by_class(error: type[Exception]) -> Verdict:
    names = (one.__name__ for one in error.__mro__)
    return next(BY_CLASS[name] for name in names if name in BY_CLASS)


def failure_of(error: Exception, *, now_ms: int) -> ProviderError:
    """Return what an error of a call is to the engine. Its message may hold the secret."""
    if isinstance(error, ProviderError):
        return error
    verdict = verdict_of(error)
    headers: Mapping[str, str] = getattr(getattr(error, "response", None), "headers", {})
    return ProviderError(
        _message(error),
        kind=verdict.kind,
        retryable=should_retry(headers, default=verdict.retryable),
        retry_after_ms=advised_wait_ms(headers, now_ms),
    )


def _message(error: Exception) -> str:
    """Return who failed, and what they said."""
    told = as_object(getattr(error, "body", None))
    status = getattr(error, "status_code", None)
    name = type(error).__name__ if status is None else f"{type(error).__name__} ({status})"
    return f"{name}: {as_text(told.get('message')) or error}"


def told_failure(told: dict[str, Any]) -> ProviderError:
    """Return the error for one that an answer tells of: a `code` or `type`, and a `message`."""
    inner = as_object(told.get("error")) or told
    code = str(inner.get("code") or "")
    status = int(code) if re.fullmatch("[45][0-9]{2}", code) else None
    verdict = _by_word(inner, "code", "type") or _by_status(
        status or HTTPStatus.INTERNAL_SERVER_ERROR
    )
    word = code or as_text(inner.get("type")) or "error"
    said = as_text(inner.get("message")) or as_text(told.get("error"))
    message = f"the endpoint failed: {word}: {said}"
    return ProviderError(message, kind=verdict.kind, retryable=verdict.retryable)


def raise_if_told(answer: dict[str, Any]) -> None:
    """Raise `ProviderError` for an error that an answer of HTTP status 200 tells of.

    A response that failed tells of it by its `status` too, which `read` looks at.
    """
    if answer.get("error"):
        raise told_failure(answer)


def presentable(failure: ProviderError, secret: Secret) -> ProviderError:
    """Return the error that the engine is told of: in short, and without the secret."""
    told = str(failure)
    shown = told.replace(secret.reveal(), "[api key]")[:_MESSAGE]
    if shown == told:
        return failure
    return ProviderError(
        shown,
        kind=failure.kind,
        retryable=failure.retryable,
        retry_after_ms=failure.retry_after_ms,
    )
