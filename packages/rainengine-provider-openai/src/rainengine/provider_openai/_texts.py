"""The messages of a request as both APIs need them."""

from __future__ import annotations

from collections.abc import Iterable

import attrs

from rainengine.core.abc import ProviderRequest
from rainengine.core.records import (
    AttachmentPart,
    ChatMessage,
    JsonPart,
    Part,
    TextPart,
    ToolCallPart,
    ToolResultPart,
)
from rainengine.core.tool_calling import json_text, unique_ids


def text_of(part: Part) -> str | None:
    """Return what a part says in words, or None where it says nothing."""
    if isinstance(part, TextPart):
        return part.text
    if isinstance(part, JsonPart):
        return json_text(part.value)
    return f"[attachment: {part.attachment.name}]" if isinstance(part, AttachmentPart) else None


def texts_of(parts: Iterable[Part]) -> str:
    """Return all that parts say in words."""
    return "\n\n".join(text for part in parts if (text := text_of(part)) is not None)


@attrs.frozen
class Paired:
    """A message, and the ids that its calls or results have on the wire, in order."""

    message: ChatMessage
    ids: tuple[str, ...]

    def calls(self) -> list[tuple[str, ToolCallPart]]:
        """Its calls, each with its id."""
        calls = [part for part in self.message.parts if isinstance(part, ToolCallPart)]
        return list(zip(self.ids, calls, strict=True))

    def results(self) -> list[tuple[str, ToolResultPart]]:
        """Its results, each with the id of its call."""
        results = [part for part in self.message.parts if isinstance(part, ToolResultPart)]
        return list(zip(self.ids, results, strict=True))


def paired(request: ProviderRequest) -> list[Paired]:
    """Return the messages with ids that are unique in the conversation.

    A result belongs to the newest call before it that has its call id.
    """
    calls = [
        part.call_id
        for message in request.messages
        for part in message.parts
        if isinstance(part, ToolCallPart)
    ]
    unique = iter(unique_ids(calls))
    newest: dict[str, str] = {}
    messages: list[Paired] = []
    for message in request.messages:
        ids: list[str] = []
        for part in message.parts:
            if isinstance(part, ToolCallPart):
                newest[part.call_id] = next(unique)
            if isinstance(part, ToolCallPart | ToolResultPart):
                ids.append(newest.get(part.call_id, part.call_id))
        messages.append(Paired(message, tuple(ids)))
    return messages
