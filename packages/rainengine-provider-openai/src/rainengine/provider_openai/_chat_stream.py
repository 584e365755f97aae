"""A stream of chat completions, put together to the answer that it is."""

from __future__ import annotations

from typing import Any

import attrs

from rainengine.provider_openai._chat import OF_A_CALL
from rainengine.provider_openai._failing import broken_off
from rainengine.provider_openai._values import as_object, as_objects, as_text, said_in

_ADDED_UP = ("content", "refusal", "reasoning_content", "reasoning")


@attrs.define(eq=False)
class ChatStream:
    """Takes chunks in, and gives the completion that they make."""

    _usage_asked: bool = attrs.field(default=True, alias="usage_asked")
    _head: dict[str, Any] = attrs.field(factory=dict[str, Any], init=False)
    _message: dict[str, Any] = attrs.field(factory=dict[str, Any], init=False)
    _calls: list[dict[str, Any]] = attrs.field(factory=list[dict[str, Any]], init=False)
    _places: dict[int | None, dict[str, Any]] = attrs.field(
        factory=dict[int | None, dict[str, Any]], init=False
    )
    _finish: str | None = attrs.field(default=None, init=False)

    def feed(self, chunk: dict[str, Any]) -> str:
        """Take in a chunk; return what it adds to the text."""
        for name in ("model", "usage"):
            if chunk.get(name):
                self._head[name] = chunk[name]
        choices = as_objects(chunk.get("choices"))
        choice = choices[0] if choices else as_object(None)
        self._finish = as_text(choice.get("finish_reason")) or self._finish
        delta = as_object(choice.get("delta"))
        for name in _ADDED_UP:
            more = said_in(delta.get(name))
            if more:
                self._message[name] = as_text(self._message.get(name)) + more
        details = as_objects(delta.get("reasoning_details"))
        if details:
            self._message.setdefault("reasoning_details", []).extend(details)
        for call in as_objects(delta.get("tool_calls")):
            self._add_to_call(call)
        return said_in(delta.get("content")) or as_text(delta.get("refusal"))

    def _add_to_call(self, delta: dict[str, Any]) -> None:
        call = self._call_of(delta)
        function, more = call["function"], as_object(delta.get("function"))
        call["id"] = call["id"] or as_text(delta.get("id"))
        function["name"] = function["name"] or as_text(more.get("name"))
        function["arguments"] = _joined(function["arguments"], more.get("arguments"))
        for name, value in delta.items():
            if name not in OF_A_CALL and value:
                call[name] = value

    def _call_of(self, delta: dict[str, Any]) -> dict[str, Any]:
        index = delta.get("index")
        place = index if isinstance(index, int) else None
        call = self._places.get(place)
        if call is None or _begins_another(call, delta):
            call = {"id": "", "type": "function", "function": {"name": "", "arguments": ""}}
            self._places[place] = call
            self._calls.append(call)
        return call

    @property
    def complete(self) -> bool:
        """Whether all of the completion is there."""
        return self._finish is not None and ("usage" in self._head or not self._usage_asked)

    def whole(self, *, ended: bool) -> dict[str, Any]:
        """Return the completion; `ended` tells whether the stream said that it was over.

        Raises `ProviderError` where it broke off.
        """
        if self._finish is None and not ended:
            raise broken_off()
        message = {**self._message, "tool_calls": self._calls}
        choice = {"message": message, "finish_reason": self._finish}
        return {**self._head, "choices": [choice]}


def _joined(arguments: Any, more: object) -> Any:  # noqa: ANN401  # JSON
    """Return the arguments of a call with what is added to them.

    Some endpoints send an object, whole; what cannot be joined becomes a list, which is refused.
    """
    if more is None or more == "":
        return arguments
    if isinstance(arguments, str) and isinstance(more, str):
        return arguments + more
    return more if arguments == "" else [arguments, more]


def _begins_another(call: dict[str, Any], delta: dict[str, Any]) -> bool:
    """Whether a piece is of another call, at a place that has one.

    Some endpoints give several calls the index 0, and tell them apart by their ids; some give
    no index at all.
    """
    call_id = as_text(delta.get("id"))
    if call_id and call["id"]:
        return bool(call_id != call["id"])
    named = as_text(as_object(delta.get("function")).get("name"))
    return delta.get("index") is None and bool(named and call["function"]["name"])
