"""Values as text for a model."""

from __future__ import annotations

import json

from rainengine.core.records import JsonValue, ToolResultPart


def json_text(value: JsonValue) -> str:
    """Return compact JSON, with letters as they are."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def result_text(result: ToolResultPart) -> str:
    """Return what came of a call: a text as it is, JSON, or `{"error": {"kind", "message"}}`."""
    failure = result.failure
    if failure is not None:
        return json_text({"error": {"kind": failure.kind, "message": failure.message}})
    return result.value if isinstance(result.value, str) else json_text(result.value)


def shortened(text: str, max_bytes: int) -> str:
    """Return a text of at most about so many bytes of UTF-8, cut between characters.

    Where something is cut, a line says how much; it comes on top of `max_bytes`.
    """
    data = text.encode(errors="surrogatepass")
    if len(data) <= max_bytes:
        return text
    kept = data[: max(max_bytes, 0)].decode(errors="ignore")
    cut = len(data) - len(kept.encode())
    return f"{kept}\n[{cut} of {len(data)} bytes were left out]"
