"""Beginnings of prompts that may be kept, and their names: pure.

A beginning is named by the digest of all that is in it, and Google is given that name as the
cache's display name. So what is kept can be found again by whoever has the same beginning, after
a restart and in another process, without asking the ledger.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from itertools import accumulate
from typing import Any

import attrs

from rainengine.core.records import JsonObject
from rainengine.provider_gemini._values import as_list, as_object

NAMED = "rainengine-"
"""How the names of our caches begin."""

_KEPT = ("systemInstruction", "tools", "toolConfig")
"""What a cache holds besides turns; a request that uses one may not have it."""

_CHARACTERS_A_TOKEN = 4
_TOKENS_AN_ATTACHMENT = 258
"""What Gemini counts for a small picture; see https://ai.google.dev/gemini-api/docs/tokens"""


@attrs.frozen(kw_only=True)
class Prefix:
    """The first so many turns of a prompt, with all that comes before them."""

    name: str
    turns: int
    tokens: int


def prefixes_of(model: str, body: Mapping[str, Any], min_tokens: int = 0) -> list[Prefix]:
    """Return the beginnings of a prompt that could be kept, shortest first, with rough sizes.

    There are none where the longest has less than `min_tokens`. What follows on one begins with
    no function responses, and is never empty.
    """
    head = {"model": model, **{name: body[name] for name in _KEPT if name in body}}
    turns: list[Any] = body["contents"]
    sizes = list(accumulate(map(_tokens_in, turns), initial=_tokens_in(head)))
    ends = [end for end, turn in enumerate(turns) if not _has_responses(turn)]
    if not ends or sizes[ends[-1]] < min_tokens:
        return []
    names = _names(head, turns)
    return [Prefix(name=names[end], turns=end, tokens=sizes[end]) for end in ends]


def _names(head: object, turns: list[Any]) -> list[str]:
    """Return the names of the beginnings of 0, 1, 2 and so many turns."""
    digest = hashlib.sha256(_written(head))
    names = [NAMED + digest.hexdigest()]
    for turn in turns:
        digest.update(_written(turn))
        names.append(NAMED + digest.hexdigest())
    return names


def _has_responses(turn: Mapping[str, Any]) -> bool:
    return any("functionResponse" in part for part in turn["parts"])


def _written(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def _tokens_in(value: object) -> int:
    return _characters_in(value) // _CHARACTERS_A_TOKEN


def _characters_in(value: object) -> int:
    if isinstance(value, str):
        return len(value)
    given = as_object(value)
    if given is None:
        return sum(map(_characters_in, as_list(value) or ())) + 1
    if "inlineData" in given or "fileData" in given:
        return _TOKENS_AN_ATTACHMENT * _CHARACTERS_A_TOKEN
    return sum(len(name) + _characters_in(inner) for name, inner in given.items())


def creation_body(model: str, body: Mapping[str, Any], prefix: Prefix, ttl_s: int) -> JsonObject:
    """Return the body that keeps the beginning of a prompt for so many seconds."""
    creation: dict[str, Any] = {name: body[name] for name in _KEPT if name in body}
    if prefix.turns:
        creation["contents"] = body["contents"][: prefix.turns]
    named = model if "/" in model else f"models/{model}"
    return {**creation, "model": named, "displayName": prefix.name, "ttl": f"{ttl_s}s"}


def after(body: Mapping[str, Any], prefix: Prefix, cache: str) -> JsonObject:
    """Return the body that asks for an answer to a prompt whose beginning is kept."""
    rest = {name: value for name, value in body.items() if name not in _KEPT}
    return {**rest, "contents": body["contents"][prefix.turns :], "cachedContent": cache}
