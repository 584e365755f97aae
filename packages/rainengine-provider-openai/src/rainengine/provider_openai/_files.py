"""Attachments: what of them goes over the wire, and as what."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Any, TypeAlias

import attrs

from rainengine.core.errors import ProviderError
from rainengine.core.records import Attachment, AttachmentPart, BlobRef, ChatMessage

Files: TypeAlias = Mapping[BlobRef, str]
"""Where files that are not inline can be read: a URL (`https:`, `data:`), or a file's id."""

_TEXTS = frozenset({"application/json", "application/xml", "application/yaml"})
_AUDIO = {"audio/wav": "wav", "audio/x-wav": "wav", "audio/mpeg": "mp3", "audio/mp3": "mp3"}


@attrs.frozen(kw_only=True)
class _Source:
    """A file with the one way in which it can be read."""

    attachment: Attachment
    text: str | None = None
    url: str | None = None
    file_id: str | None = None

    @property
    def name(self) -> str:
        return self.attachment.name or "file"

    @property
    def is_image(self) -> bool:
        return self.attachment.media_type.startswith("image/")

    @property
    def inline(self) -> str | None:
        """The data URL of a file that goes along."""
        return self.url if self.url is not None and self.url.startswith("data:") else None


def references(messages: tuple[ChatMessage, ...]) -> dict[BlobRef, Attachment]:
    """Return the attachments that are not inline, by their reference."""
    attachments = [
        part.attachment
        for message in messages
        for part in message.parts
        if isinstance(part, AttachmentPart)
    ]
    return {one.blob: one for one in attachments if one.data is None and one.blob is not None}


def data_url(attachment: Attachment, data: str) -> str:
    """Return a file as a URL; `data` is base64."""
    return f"data:{attachment.media_type};base64,{data}"


def chat_part(attachment: Attachment, files: Files) -> dict[str, Any]:
    """Return a content part of chat completions."""
    source = _source(attachment, files)
    if source.text is not None:
        return {"type": "text", "text": source.text}
    if source.is_image and source.url is not None:
        return {"type": "image_url", "image_url": {"url": source.url}}
    audio = _AUDIO.get(attachment.media_type)
    if audio is not None and source.inline is not None:
        data = source.inline.partition(",")[2]
        return {"type": "input_audio", "input_audio": {"data": data, "format": audio}}
    if source.file_id is not None and not source.is_image:
        return {"type": "file", "file": {"file_id": source.file_id}}
    if source.inline is None:
        raise _not_taken(attachment, "chat completions take it inline only")
    return {"type": "file", "file": {"filename": source.name, "file_data": source.inline}}


def response_part(attachment: Attachment, files: Files) -> dict[str, Any]:
    """Return a content part of the responses API."""
    source = _source(attachment, files)
    if source.text is not None:
        return {"type": "input_text", "text": source.text}
    if source.is_image:
        place = "image_url" if source.file_id is None else "file_id"
        return {"type": "input_image", "detail": "auto", place: source.url or source.file_id}
    if source.inline is not None:
        return {"type": "input_file", "filename": source.name, "file_data": source.inline}
    place = "file_url" if source.file_id is None else "file_id"
    return {"type": "input_file", place: source.url or source.file_id}


def _source(attachment: Attachment, files: Files) -> _Source:
    if attachment.data is not None:
        text = _text(attachment, attachment.data)
        url = data_url(attachment, attachment.data)
        return _Source(attachment=attachment, text=text, url=None if text is not None else url)
    reference = None if attachment.blob is None else files.get(attachment.blob)
    if not reference:
        raise _not_taken(
            attachment, "it is not inline: open the provider with resolve=, which finds such files"
        )
    if reference.startswith(("https:", "http:")):
        return _Source(attachment=attachment, url=reference)
    if reference.startswith("data:"):
        inline = attrs.evolve(attachment, data=reference.partition(",")[2])
        return _source(inline, files)
    return _Source(attachment=attachment, file_id=reference)


def _text(attachment: Attachment, data: str) -> str | None:
    """Return a file of text, under its name."""
    media_type = attachment.media_type.partition(";")[0].strip().lower()
    if not media_type.startswith("text/") and media_type not in _TEXTS:
        return None
    try:
        content = base64.b64decode(data, validate=True).decode()
    except (binascii.Error, ValueError):
        return None
    return f"{attachment.name}:\n{content}"


def _not_taken(attachment: Attachment, reason: str) -> ProviderError:
    return ProviderError(
        f"attachment {attachment.name!r} ({attachment.media_type}) cannot be sent: {reason}",
        kind="configuration",
        retryable=False,
    )
