"""Messages: what a model is shown. Built for each call, never stored."""

from __future__ import annotations

from typing import Literal, TypeAlias

import attrs

from rainengine.core.records._base import JsonObject, JsonValue
from rainengine.core.records._tools import ToolFailure
from rainengine.core.records._triggers import Attachment

Role: TypeAlias = Literal["system", "user", "assistant", "tool"]


@attrs.frozen
class TextPart:
    """Plain text."""

    text: str
    type: Literal["text"] = attrs.field(default="text", init=False, repr=False)


@attrs.frozen
class JsonPart:
    """A JSON value."""

    value: JsonValue
    type: Literal["json"] = attrs.field(default="json", init=False, repr=False)


@attrs.frozen
class AttachmentPart:
    """A file, inline or by reference."""

    attachment: Attachment
    type: Literal["attachment"] = attrs.field(default="attachment", init=False, repr=False)


@attrs.frozen(kw_only=True)
class ToolCallPart:
    """The model called a tool. `opaque` is what the provider wants back with the call."""

    call_id: str
    name: str
    args: JsonObject
    opaque: str | None = None
    type: Literal["tool_call"] = attrs.field(default="tool_call", init=False, repr=False)


@attrs.frozen(kw_only=True)
class ToolResultPart:
    """What came of a tool call."""

    call_id: str
    name: str
    value: JsonValue = None
    failure: ToolFailure | None = None
    type: Literal["tool_result"] = attrs.field(default="tool_result", init=False, repr=False)


Part: TypeAlias = TextPart | JsonPart | AttachmentPart | ToolCallPart | ToolResultPart


@attrs.frozen
class ChatMessage:
    """One message of the conversation with the model."""

    role: Role
    parts: tuple[Part, ...]
