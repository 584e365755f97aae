"""What the API's errors, the clients' errors and unwanted endings mean to the engine.

All of it stands in tables, which `docs/reference/provider-gemini.md` shows.
Errors of the API are judged by their status, as Google's error model names it
(https://cloud.google.com/apis/design/errors), or by the HTTP status where there is no such name.
Errors of the clients below the SDKs are judged by the class's name, so that no client has to be
imported, and httpx and httpx2 have one table.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import contextmanager
from typing import Any, TypeAlias

import attrs

from rainengine.core.errors import ProviderError, ProviderErrorKind
from rainengine.provider_gemini._delays import delay_ms
from rainengine.provider_gemini._values import as_list, as_object

Conceal: TypeAlias = Callable[[str], str]
"""Takes secrets out of a text. What is made here may hold some: see `presentable`."""


@attrs.frozen
class Verdict:
    """What kind of failure something is, and whether the engine should try again."""

    kind: ProviderErrorKind
    retryable: bool


_WRONG = Verdict("configuration", retryable=False)
_DOWN = Verdict("transport", retryable=True)
_FAILED = Verdict("internal", retryable=True)
_LATE = Verdict("timeout", retryable=True)
_LIMITED = Verdict("rate_limited", retryable=True)
_EXHAUSTED = Verdict("rate_limited", retryable=False)
_GARBLED = Verdict("invalid_response", retryable=True)
_REFUSED = Verdict("invalid_response", retryable=False)
_BROKEN = Verdict("internal", retryable=False)

STATUSES: Mapping[str, Verdict] = {
    "INVALID_ARGUMENT": _WRONG,
    "FAILED_PRECONDITION": _WRONG,
    "OUT_OF_RANGE": _WRONG,
    "UNAUTHENTICATED": _WRONG,
    "PERMISSION_DENIED": _WRONG,
    "NOT_FOUND": _WRONG,
    "ALREADY_EXISTS": _WRONG,
    "UNIMPLEMENTED": _WRONG,
    "RESOURCE_EXHAUSTED": _LIMITED,
    "ABORTED": _FAILED,
    "CANCELLED": _DOWN,
    "UNAVAILABLE": _FAILED,
    "INTERNAL": _FAILED,
    "UNKNOWN": _FAILED,
    "DATA_LOSS": _FAILED,
    "DEADLINE_EXCEEDED": _LATE,
}
"""By the name of the status in the body of an error."""

HTTP_STATUSES: Mapping[int, Verdict] = {
    400: _WRONG,
    401: _WRONG,
    403: _WRONG,
    404: _WRONG,
    408: _LATE,
    409: _FAILED,
    413: _WRONG,
    429: _LIMITED,
    499: _DOWN,
    500: _FAILED,
    501: _WRONG,
    502: _FAILED,
    503: _FAILED,
    504: _LATE,
}
"""By the HTTP status, where a body names none."""

ENDINGS: Mapping[str, Verdict] = {
    "SAFETY": _REFUSED,
    "RECITATION": _GARBLED,
    "LANGUAGE": _REFUSED,
    "OTHER": _GARBLED,
    "BLOCKLIST": _REFUSED,
    "PROHIBITED_CONTENT": _REFUSED,
    "SPII": _REFUSED,
    "MISSING_THOUGHT_SIGNATURE": _WRONG,
    "ESCALATION": _REFUSED,
    "PUP_LIMITED_DISABLED": _WRONG,
    "MODEL_ARMOR": _REFUSED,
    "IMAGE_SAFETY": _REFUSED,
    "IMAGE_PROHIBITED_CONTENT": _REFUSED,
    "IMAGE_RECITATION": _REFUSED,
    "IMAGE_OTHER": _REFUSED,
    "NO_IMAGE": _REFUSED,
    "FINISH_REASON_UNSPECIFIED": _GARBLED,
}
"""By the reason why an answer ended, if it is no answer to be read (see `_decisions`)."""

BLOCKS: Mapping[str, Verdict] = {
    "SAFETY": _REFUSED,
    "OTHER": _REFUSED,
    "BLOCKLIST": _REFUSED,
    "PROHIBITED_CONTENT": _REFUSED,
    "IMAGE_SAFETY": _REFUSED,
    "MODEL_ARMOR": _REFUSED,
    "JAILBREAK": _REFUSED,
    "BLOCKED_REASON_UNSPECIFIED": _REFUSED,
    "BLOCK_REASON_UNSPECIFIED": _REFUSED,
}
"""By the reason why a prompt was blocked."""

CLIENT_ERRORS: Mapping[str, Verdict] = {
    "httpx.TimeoutException": _LATE,
    "httpx.UnsupportedProtocol": _WRONG,
    "httpx.LocalProtocolError": _BROKEN,
    "httpx.TransportError": _DOWN,
    "httpx.DecodingError": _GARBLED,
    "httpx.TooManyRedirects": _WRONG,
    "httpx.RequestError": _DOWN,
    "httpx.HTTPError": _DOWN,
    "httpx.InvalidURL": _WRONG,
    "httpx.CookieConflict": _BROKEN,
    "httpx.StreamError": _BROKEN,
    "google.genai.UnknownApiResponseError": _GARBLED,
    "pydantic_core.ValidationError": _GARBLED,
    "requests.Timeout": _LATE,
    "requests.InvalidJSONError": _GARBLED,
    "requests.ContentDecodingError": _GARBLED,
    "requests.ChunkedEncodingError": _DOWN,
    "requests.SSLError": _DOWN,
    "requests.ConnectionError": _DOWN,
    "requests.TooManyRedirects": _WRONG,
    "requests.URLRequired": _WRONG,
    "requests.MissingSchema": _WRONG,
    "requests.InvalidSchema": _WRONG,
    "requests.InvalidURL": _WRONG,
    "requests.InvalidHeader": _WRONG,
    "requests.StreamConsumedError": _BROKEN,
    "requests.UnrewindableBodyError": _BROKEN,
    "requests.RequestException": _DOWN,
    "google.auth.TransportError": _DOWN,
    "google.auth.TimeoutError": _LATE,
    "google.auth.GoogleAuthError": _WRONG,
    "google.api_core.RetryError": _LATE,
    "google.api_core.GoogleAPIError": _BROKEN,
    "google.protobuf.ParseError": _GARBLED,
    "urllib3.HTTPError": _DOWN,
    "json.JSONDecodeError": _GARBLED,
    "builtins.OSError": _DOWN,
    "builtins.ValueError": _GARBLED,
}
"""By class, or else by the nearest of its bases that stands here."""

_MESSAGE_CHARACTERS = 400
_QUOTA_FAILURE = "type.googleapis.com/google.rpc.QuotaFailure"


def failed(verdict: Verdict, message: str, retry_after_ms: int | None = None) -> ProviderError:
    """Return the error that the engine is told."""
    return ProviderError(
        message, kind=verdict.kind, retryable=verdict.retryable, retry_after_ms=retry_after_ms
    )


def of_ending(reason: str | None, message: str) -> ProviderError:
    """An answer that ended for another reason than that the model was done."""
    if reason is None:
        return failed(_DOWN, "the answer broke off: it has no finish reason")
    said = f": {message}" if message else ""
    verdict = ENDINGS.get(reason, _REFUSED)
    return failed(verdict, f"the answer ended with {reason}{said}")


def of_block(reason: str, message: str) -> ProviderError:
    """A prompt that the API would not answer."""
    said = f": {message}" if message else ""
    return failed(BLOCKS.get(reason, _REFUSED), f"the prompt was blocked for {reason}{said}")


def of_lost_cache(error: ProviderError) -> ProviderError:
    """A request whose cache may have vanished: it is worth asking once more without it."""
    return failed(_DOWN, f"with a cache, which is now forgotten: {error}")


def of_missing_file(name: str, error: Exception | None = None) -> ProviderError:
    """An attachment that cannot be sent: nobody finds it, or finding it fails."""
    if error is None:
        reason = "it is not inline: open the provider with resolve=, which finds such files"
        return failed(_WRONG, f"attachment {name!r} cannot be sent: {reason}")
    told = f"{type(error).__name__}: {error}"
    return failed(_FAILED, f"attachment {name!r} cannot be found: {told}")


def of_garbled(message: str) -> ProviderError:
    """An answer that is none."""
    return failed(_GARBLED, message)


def of_response(
    code: object, body: object, headers: Mapping[str, str], now_ms: int
) -> ProviderError:
    """An error that the API answered with; `code` is what it says is the HTTP status.

    `now_ms` is Unix time.
    """
    code = _http_status(code)
    error = _error_in(body)
    status, said = str(error.get("status") or ""), str(error.get("message") or "")
    details = [item for item in map(as_object, as_list(error.get("details")) or ()) if item]
    verdict = STATUSES.get(status) or of_code(code)
    if verdict is _LIMITED and _is_used_up(details):
        verdict = _EXHAUSTED
    message = f"{code} {status}".strip() + f": {said}"
    return failed(verdict, message, delay_ms(details, headers, now_ms))


def of_code(code: int) -> Verdict:
    """Judge an HTTP status."""
    return HTTP_STATUSES.get(code) or (_FAILED if code >= 500 else _WRONG)  # noqa: PLR2004


def _http_status(code: object) -> int:
    """Read a status as a number or its digits; anything else is 500."""
    digits = re.fullmatch(r"[1-9][0-9]{2}(\.0)?", str(code))
    return int(digits[0][:3]) if digits else 500


def of_client_error(error: Exception) -> ProviderError:
    """An error of a client, which the API has no part in."""
    return failed(verdict_on(type(error)), f"{type(error).__name__}: {error}")


@contextmanager
def while_asking() -> Generator[None]:
    """Turn what a client says against a request, before it is sent, into a `ProviderError`."""
    try:
        yield
    except Exception as error:
        message = f"{type(error).__name__}: {error}"
        raise failed(_WRONG, f"the request cannot be sent: {message}") from error


def presentable(error: ProviderError, conceal: Conceal) -> ProviderError:
    """Return the error that the engine is told of: in short, with no secret, cause or context."""
    verdict = Verdict(error.kind, retryable=error.retryable)
    return failed(verdict, conceal(str(error))[:_MESSAGE_CHARACTERS], error.retry_after_ms)


def parsed(text: object) -> object:
    """Return what a body holds. Raises `ProviderError` if it is no JSON."""
    try:
        value: object = json.loads(text if isinstance(text, str) else "")
    except (ValueError, RecursionError) as error:
        raise of_garbled(f"the answer is no JSON: {error}") from error
    return value


def verdict_on(error_class: type[BaseException]) -> Verdict:
    """Judge a class of errors."""
    named = (CLIENT_ERRORS.get(_name(base)) for base in error_class.__mro__)
    return next((verdict for verdict in named if verdict is not None), _BROKEN)


def _name(error_class: type[Any]) -> str:
    words = error_class.__module__.split(".")
    package = ".".join(words[:2]) if words[0] == "google" else words[0].replace("httpx2", "httpx")
    return f"{package}.{error_class.__name__}"


def _error_in(body: object) -> dict[str, Any]:
    listed = as_list(body)
    if listed:  # as the API answers where it would have streamed
        return _error_in(listed[0])
    given = as_object(body) or {}
    error = given.get("error", given)
    return as_object(error) or {"message": str(error)}


def _is_used_up(details: Iterable[Mapping[str, Any]]) -> bool:
    """Whether a quota of a whole day is used up, so that soon will not do."""
    quotas = (detail for detail in details if detail.get("@type") == _QUOTA_FAILURE)
    violations = (one for quota in quotas for one in as_list(quota.get("violations")) or ())
    return any("PerDay" in str((as_object(one) or {}).get("quotaId")) for one in violations)
