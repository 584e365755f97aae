"""The protocol of retrieval: finding again what a session has been through."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import attrs


@attrs.frozen(kw_only=True)
class MemoryHit:
    """A record that was found: what it says, and how well it fits (a higher score is better)."""

    sequence: int
    text: str
    score: float


class Retrieval(Protocol):
    """Searches sessions. Bound to one tenant, like the ledger it reads."""

    async def search(self, session_id: str, query: str, limit: int) -> Sequence[MemoryHit]:
        """Return up to `limit` records that fit, best first.

        An exception is told to the model as a search that failed.
        """
        ...
