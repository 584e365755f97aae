"""Answers that are failures, as errors."""

from __future__ import annotations

from rainengine.core.errors import ProviderError


def unreadable(reason: str) -> ProviderError:
    """Return the error for an answer that is none."""
    return ProviderError(
        f"the endpoint's answer cannot be read: {reason}", kind="invalid_response", retryable=True
    )


def broken_off() -> ProviderError:
    """Return the error for a stream that ended before its answer did."""
    return ProviderError("the stream ended before the answer did", kind="transport", retryable=True)


def filtered() -> ProviderError:
    """Return the error for an answer that a content filter withheld."""
    return ProviderError(
        "the endpoint's content filter withheld the answer",
        kind="invalid_response",
        retryable=False,
    )


def refused(refusal: str) -> ProviderError:
    """Return the error for a refusal where an answer has to fit a schema."""
    return ProviderError(
        f"the model refused to answer: {refusal}", kind="invalid_response", retryable=False
    )


def not_streamed() -> ProviderError:
    """Return the error for an endpoint that answers whole where a stream was asked for."""
    return ProviderError(
        "the endpoint does not stream: give the engine no on_delta",
        kind="configuration",
        retryable=False,
    )
