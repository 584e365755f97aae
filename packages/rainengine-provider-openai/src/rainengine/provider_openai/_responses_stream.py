"""A stream of the responses API, put together to the response that it is."""

from __future__ import annotations

from typing import Any

import attrs

from rainengine.provider_openai._failing import broken_off
from rainengine.provider_openai._failures import told_failure
from rainengine.provider_openai._values import as_object, as_text

_TEXT = frozenset({"response.output_text.delta", "response.refusal.delta"})
_LAST = frozenset({"response.completed", "response.incomplete", "response.failed"})


@attrs.define(eq=False)
class ResponseStream:
    """Takes events in, and gives the response that they make."""

    _items: list[dict[str, Any]] = attrs.field(factory=list[dict[str, Any]], init=False)
    _text: str = attrs.field(default="", init=False)
    _response: dict[str, Any] | None = attrs.field(default=None, init=False)

    def feed(self, event: dict[str, Any]) -> str:
        """Take in an event; return what it adds to the text. Raises `ProviderError`."""
        kind = event.get("type")
        if kind == "error":
            raise told_failure(event)
        if kind in _LAST:
            self._response = as_object(event.get("response"))
        elif kind == "response.output_item.done":
            self._items.append(as_object(event.get("item")))
        text = as_text(event.get("delta")) if kind in _TEXT else ""
        self._text += text
        return text

    @property
    def complete(self) -> bool:
        """Whether all of the response is there."""
        return self._response is not None

    def whole(self, *, ended: bool) -> dict[str, Any]:
        """Return the response. Raises `ProviderError` where the stream broke off."""
        if self._response is None:
            raise broken_off()
        # Some endpoints do not repeat at the end what they streamed.
        output = self._response.get("output") or self._items or self._streamed()
        return {**self._response, "output": output}

    def _streamed(self) -> list[dict[str, Any]]:
        if not self._text:
            return []
        return [{"type": "message", "content": [{"type": "output_text", "text": self._text}]}]
