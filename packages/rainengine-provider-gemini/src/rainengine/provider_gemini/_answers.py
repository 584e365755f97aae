"""What the model answers, put together from the pieces of a stream or from the one whole body."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import attrs

from rainengine.core.records import JsonObject, JsonValue
from rainengine.core.tool_calling import RESERVED, ToolUse
from rainengine.provider_gemini import _failures as failures
from rainengine.provider_gemini._opaque import pack
from rainengine.provider_gemini._values import as_object, list_in, object_in, text_in


@attrs.frozen(kw_only=True)
class Counted:
    """Tokens as the API counts them; `prompt` includes `cached`, `output` what was thought."""

    prompt: int
    cached: int
    output: int


@attrs.define
class Answer:
    """An answer in the making: `add` what comes in, in order, then `check`, then look."""

    model: str | None = None
    ending: str | None = None
    ending_message: str = ""
    _parts: list[Mapping[str, Any]] = attrs.field(factory=list[Mapping[str, Any]])
    _usage: object = None
    _block: str | None = None
    _block_message: str = ""
    _fault: Exception | None = None

    def add(self, piece: object) -> str:
        """Take in a response, or a piece of one, and return the text that it brings."""
        try:
            return self._add(object_in("nothing" if piece is None else piece))
        except (TypeError, ValueError) as error:
            self._fault = error
            return ""

    def _add(self, piece: Mapping[str, Any]) -> str:
        self.model = text_in(piece.get("modelVersion")) or self.model
        self._usage = piece.get("usageMetadata") or self._usage
        feedback = object_in(piece.get("promptFeedback"))
        self._block = text_in(feedback.get("blockReason")) or self._block
        self._block_message = text_in(feedback.get("blockReasonMessage")) or self._block_message
        candidates = list_in(piece.get("candidates"))
        return self._add_candidate(object_in(candidates[0])) if candidates else ""

    def _add_candidate(self, candidate: Mapping[str, Any]) -> str:
        self.ending = text_in(candidate.get("finishReason")) or self.ending
        self.ending_message = text_in(candidate.get("finishMessage")) or self.ending_message
        content = object_in(candidate.get("content"))
        parts = [object_in(part) for part in list_in(content.get("parts"))]
        self._parts += parts
        return _said(parts)

    @property
    def complete(self) -> bool:
        """Whether it has ended, so that nothing can spoil it any more."""
        return self.ending is not None

    def check(self, endings: frozenset[str]) -> None:
        """Raise `ProviderError` if the answer cannot be read, is blocked, or ended otherwise."""
        if self._fault is not None:
            raise failures.of_garbled(f"the answer cannot be read: {self._fault}")
        if self._block is not None:
            raise failures.of_block(self._block, self._block_message)
        if self.ending not in endings:
            raise failures.of_ending(self.ending, self.ending_message)

    @property
    def counted(self) -> Counted | None:
        """The tokens, as the last piece that had any counts them; None where they make no sense."""
        try:
            return _counted(self._usage)
        except (TypeError, ValueError):
            return None

    @property
    def text(self) -> str:
        """All that the model said, without what it only thought."""
        return _said(self._parts)

    def uses(self, model: str) -> tuple[ToolUse, ...]:
        """The calls in order. The first call of a skill carries what stood before all calls.

        Raises `ProviderError` where one has no name.
        """
        called = [part for part in self._parts if "functionCall" in part]
        before: list[JsonValue] = []
        for part in self._parts[: self._parts.index(called[0])] if called else ():
            _keep(before, part)
        uses: list[ToolUse] = []
        for part in called:
            call = as_object(part["functionCall"]) or {}
            name = call.get("name")
            if not name or not isinstance(name, str):
                raise failures.of_garbled(f"a function call has no name: {call!r}")
            carried, before = ([], before) if name.startswith(RESERVED) else (before, [])
            opaque = pack(model, part.get("thoughtSignature"), carried)
            uses.append(_use(name, call, opaque))
        return tuple(uses)


def _use(name: str, call: Mapping[str, Any], opaque: str | None) -> ToolUse:
    call_id = call.get("id")
    return ToolUse(
        name=name,
        args=call.get("args"),
        call_id=call_id if isinstance(call_id, str) else None,
        opaque=opaque,
    )


def _keep(kept: list[JsonValue], part: Mapping[str, Any]) -> None:
    """Add what has to be sent back of a part that stands before a call: said, or signed."""
    text, signature = part.get("text") or "", part.get("thoughtSignature")
    last = as_object(kept[-1]) if kept else None
    if signature is not None:
        thought: JsonObject = {"thought": True} if part.get("thought") else {}
        kept.append({"text": text, "thoughtSignature": signature, **thought})
    elif text and not part.get("thought"):
        if last is not None and last.keys() == {"text"}:  # pieces of one
            last["text"] += text
        else:
            kept.append({"text": text})


def _said(parts: Iterable[Mapping[str, Any]]) -> str:
    return "".join(text_in(part.get("text")) or "" for part in parts if not part.get("thought"))


def _counted(given: object) -> Counted | None:
    if given is None:
        return None
    usage = object_in(given)
    prompt = _amount(usage, "promptTokenCount") + _amount(usage, "toolUsePromptTokenCount")
    output = _amount(usage, "candidatesTokenCount") + _amount(usage, "thoughtsTokenCount")
    # The old SDK has no field for what was thought, but the total includes it.
    output = max(output, _amount(usage, "totalTokenCount") - prompt)
    return Counted(prompt=prompt, cached=_amount(usage, "cachedContentTokenCount"), output=output)


def _amount(usage: Mapping[str, Any], name: str) -> int:
    value = usage.get(name) or 0
    if isinstance(value, str):  # as 64-bit integers come in protocol buffers' JSON
        value = int(value)
    if not isinstance(value, int | float) or not math.isfinite(value) or value < 0:
        raise ValueError(f"{name} is {value!r}")
    return int(value)
