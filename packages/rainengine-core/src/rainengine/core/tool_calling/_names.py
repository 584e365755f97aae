"""Names and ids as model APIs take them."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable

RESERVED = "rainengine_"
"""No skill goes to a model under a name that begins so."""

_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_-]{0,63}")
_ID = re.compile(r"[a-zA-Z0-9_.:-]{1,40}")
_MARK = 12


def tool_name(skill: str) -> str:
    """Return the name under which a model sees a skill: its own, where every API takes that.

    Any other is replaced by one with a mark that is the digest of the whole, so that two skills
    never share a name, and a skill has the same one in every request.
    """
    if _NAME.fullmatch(skill) and not skill.startswith(RESERVED):
        return skill
    return f"skill_{re.sub('[^a-zA-Z0-9_-]', '_', skill)[:45]}_{_mark(skill)}"


def unique_ids(call_ids: Iterable[str]) -> list[str]:
    """Return an id for each call of a conversation, in order, that APIs take and that is unique.

    An id stays as it is where it can: at most 40 plain characters, and not used before.
    """
    given: list[str] = []
    taken: set[str] = set()
    for call_id in call_ids:
        unique, number = call_id, 0
        while unique in taken or not _ID.fullmatch(unique):
            unique, number = f"call_{_mark(f'{number}:{call_id}')}", number + 1
        taken.add(unique)
        given.append(unique)
    return given


def _mark(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:_MARK]
