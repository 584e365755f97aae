"""Attachments: what of them goes over the wire, and as what."""

from __future__ import annotations

import base64
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TypeAlias

import attrs

from rainengine.core.records import Attachment, AttachmentPart, BlobRef, ChatMessage, JsonObject
from rainengine.provider_gemini import _failures as failures

Resolve: TypeAlias = Callable[[Attachment], Awaitable[bytes | str]]
"""Finds an attachment that is not inline: its bytes, or a URI where Gemini can read it."""

Files: TypeAlias = Mapping[BlobRef, str]
"""What was found: a URI, or the file as a `data:` URL."""

_TEXTS = frozenset({"application/json", "application/xml", "application/yaml"})


def _references(messages: Sequence[ChatMessage]) -> dict[BlobRef, Attachment]:
    """Return the attachments that are not inline, by their reference."""
    parts = (part for message in messages for part in message.parts)
    attachments = [part.attachment for part in parts if isinstance(part, AttachmentPart)]
    return {one.blob: one for one in attachments if one.data is None and one.blob is not None}


def file_part(attachment: Attachment, files: Files) -> JsonObject:
    """Return a file as a part of a turn. Raises `ProviderError` where it cannot be had."""
    if attachment.data is not None:
        return _inline(attachment, attachment.data)
    found = None if attachment.blob is None else files.get(attachment.blob)
    if not found:
        raise failures.of_missing_file(attachment.name)
    if found.startswith("data:"):
        return file_part(attrs.evolve(attachment, data=found.partition(",")[2]), files)
    return {"fileData": {"mimeType": attachment.media_type, "fileUri": found}}


def _inline(attachment: Attachment, data: str) -> JsonObject:
    text = _text(attachment.media_type, data)
    if text is not None:
        return {"text": f"{attachment.name}:\n{text}"}
    return {"inlineData": {"mimeType": attachment.media_type, "data": data}}


def _text(media_type: str, data: str) -> str | None:
    """Return a file of text as one: the API does not take all of these types."""
    plain = media_type.partition(";")[0].strip().lower()
    if not plain.startswith("text/") and plain not in _TEXTS:
        return None
    try:
        return base64.b64decode(data, validate=True).decode()
    except ValueError:
        return None


async def resolved(messages: Sequence[ChatMessage], resolve: Resolve | None) -> Files:
    """Find all files that are not inline. Raises `ProviderError` where finding one fails."""
    if resolve is None:
        return {}
    return {
        blob: await _find(resolve, attachment) for blob, attachment in _references(messages).items()
    }


async def _find(resolve: Resolve, attachment: Attachment) -> str:
    try:
        found = await resolve(attachment)
    except Exception as error:
        raise failures.of_missing_file(attachment.name, error) from error
    if isinstance(found, str):
        return found
    return f"data:{attachment.media_type};base64,{base64.b64encode(found).decode()}"
