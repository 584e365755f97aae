"""Messages as Gemini's contents: turns of the user and of the model, one after the other.

What comes out keeps the API's rules (https://ai.google.dev/api/caching#Content and
https://ai.google.dev/gemini-api/docs/function-calling):

- turns of `user` and `model` alternate; the first and the last are the user's;
- a turn with function calls is followed by one that begins with their responses: as many, in the
  same order, by the same names and ids;
- no turn is without parts, and no part without content.

The API has no place for the operator's words between turns. System messages before all others are
the system instruction; a later one is a part of the user's turn that says whose it is. Moved to
the front it would say more than is known there, and would change with every step the beginning of
the prompt, which Gemini keeps (see `_caches`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import dropwhile, takewhile

import attrs

from rainengine.core.records import (
    AttachmentPart,
    ChatMessage,
    JsonObject,
    JsonPart,
    JsonValue,
    Part,
    TextPart,
    ToolCallPart,
    ToolResultPart,
)
from rainengine.core.tool_calling import json_text, result_text, shortened, tool_name, unique_ids
from rainengine.provider_gemini._files import Files, file_part
from rainengine.provider_gemini._opaque import unpack

UNSIGNED = "skip_thought_signature_validator"
"""Stands for a signature where there is none, as in calls that another model made.

See https://ai.google.dev/gemini-api/docs/thought-signatures
"""

_BEGINNING = "(What came before is left out.)"
_GO_ON = "(Go on.)"


@attrs.frozen(kw_only=True)
class Dialect:
    """What a model takes. `signed`: it wants a signature on the first call of each turn."""

    model: str
    files: Files
    max_output_bytes: int
    signed: bool


def system_texts(messages: Sequence[ChatMessage]) -> list[str]:
    """What the operator says before anybody else does."""
    return [text for message in takewhile(_is_system, messages) for text in _texts(message)]


def contents_of(messages: Sequence[ChatMessage], dialect: Dialect) -> list[JsonObject]:
    """Return the turns of the conversation, without what `system_texts` returns."""
    translator = _Translator(dialect, _ids(messages))
    turns = _Turns()
    for message in dropwhile(_is_system, messages):
        turns.add(*translator.turn(message))
    return turns.finished()


def _is_system(message: ChatMessage) -> bool:
    return message.role == "system"


def _texts(message: ChatMessage) -> Iterable[str]:
    for part in message.parts:
        if isinstance(part, TextPart) and part.text:
            yield part.text
        elif isinstance(part, JsonPart):
            yield json_text(part.value)


def _ids(messages: Sequence[ChatMessage]) -> Iterable[str]:
    """The ids of all calls, in order, as they go over the wire."""
    parts = (part for message in messages for part in message.parts)
    return iter(unique_ids(part.call_id for part in parts if isinstance(part, ToolCallPart)))


@attrs.define
class _Turns:
    """Turns in the making: whoever speaks twice in a row has one turn."""

    _turns: list[tuple[str, list[JsonValue]]] = attrs.field(
        factory=list[tuple[str, list[JsonValue]]]
    )

    def add(self, role: str, parts: list[JsonValue]) -> None:
        if not parts:
            return
        if self._turns and self._turns[-1][0] == role:
            self._turns[-1][1].extend(parts)
        else:
            self._turns.append((role, parts))

    def finished(self) -> list[JsonObject]:
        if not self._turns or self._turns[0][0] != "user":
            self._turns.insert(0, ("user", [{"text": _BEGINNING}]))
        if self._turns[-1][0] != "user":
            self._turns.append(("user", [{"text": _GO_ON}]))
        return [{"role": role, "parts": parts} for role, parts in self._turns]


@attrs.define
class _Translator:
    """Translates messages in order. It knows the ids of the calls to come and of the last ones."""

    _dialect: Dialect
    _coming: Iterable[str]
    _last: dict[str, str] = attrs.field(factory=dict[str, str])

    def turn(self, message: ChatMessage) -> tuple[str, list[JsonValue]]:
        """Return whose turn a message is, and its parts."""
        if message.role == "system":
            noted = [f"(From the system, not from the user: {text})" for text in _texts(message)]
            return "user", [{"text": text} for text in noted]
        if message.role != "assistant":
            return "user", [part for one in message.parts for part in self._parts(one)]
        self._last = {}
        return "model", [part for one in message.parts for part in self._parts(one)]

    def _parts(self, part: Part) -> list[JsonValue]:
        match part:
            case TextPart(text):
                return [{"text": text}] if text else []
            case JsonPart(value):
                return [{"text": json_text(value)}]
            case AttachmentPart(attachment):
                return [file_part(attachment, self._dialect.files)]
            case ToolCallPart():
                return self._call(part)
            case ToolResultPart():
                return [self._response(part)]

    def _call(self, part: ToolCallPart) -> list[JsonValue]:
        signature, before = unpack(self._dialect.model, part.opaque)
        if signature is None and self._dialect.signed and not self._last:
            signature = UNSIGNED
        call_id = self._last[part.call_id] = next(iter(self._coming))
        name = tool_name(part.name)
        call: JsonObject = {"functionCall": {"id": call_id, "name": name, "args": part.args}}
        if signature is not None:
            call["thoughtSignature"] = signature
        return [*before, call]

    def _response(self, part: ToolResultPart) -> JsonObject:
        response: JsonObject = {
            "id": self._last.get(part.call_id, part.call_id),
            "name": tool_name(part.name),
            "response": _told(part, self._dialect.max_output_bytes),
        }
        return {"functionResponse": response}


def _told(part: ToolResultPart, max_bytes: int) -> JsonObject:
    failure = part.failure
    if failure is not None:
        message = shortened(failure.message, max_bytes)
        return {"error": {"kind": failure.kind, "message": message}}
    text = result_text(part)
    kept = shortened(text, max_bytes)
    return {"output": part.value if kept == text else kept}
