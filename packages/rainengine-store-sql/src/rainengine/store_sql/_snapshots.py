"""Which snapshots are worth storing."""

from __future__ import annotations

from rainengine.core.abc import Snapshot
from rainengine.core.codec import check_identifier
from rainengine.core.errors import InadmissibleValue
from rainengine.store_sql._rows import Key, SnapshotRow

_LARGEST = 2**63 - 1


def admitted(key: Key, snapshot: Snapshot) -> SnapshotRow | None:
    """Return the row to store, or None where a database would balk at it."""
    try:
        check_identifier("session_id", key[1])
        snapshot.payload.encode()
    except (InadmissibleValue, UnicodeEncodeError):
        return None
    numbers = (snapshot.projection_version, snapshot.sequence)
    if "\0" in snapshot.payload or not all(0 <= number <= _LARGEST for number in numbers):
        return None
    return SnapshotRow(*key, *numbers, snapshot.hash, snapshot.payload)
