"""Saved projections, with a digest: what was damaged or edited is not believed.

A snapshot stands in for the records before it, so nothing else would notice.
"""

from __future__ import annotations

from hashlib import sha256

from rainengine.core.abc import Snapshot
from rainengine.core.codec._wire import decode_value, encode_value
from rainengine.core.errors import LedgerCorrupt
from rainengine.core.projection import PROJECTION_VERSION, SessionProjection
from rainengine.core.records import Head


def save_projection(projection: SessionProjection, head: Head) -> Snapshot:
    """Make a snapshot of a projection as of `head`."""
    body = encode_value(projection)
    digest = _digest(PROJECTION_VERSION, head, body)
    return Snapshot(
        projection_version=PROJECTION_VERSION,
        sequence=head.sequence,
        hash=head.hash,
        payload=f"{digest}\n{body.decode()}",
    )


def restore_projection(snapshot: Snapshot) -> SessionProjection:
    """Return the projection that was saved. Raises `LedgerCorrupt` where it was changed."""
    digest, _, body = snapshot.payload.partition("\n")
    head = Head(snapshot.sequence, snapshot.hash)
    if digest != _digest(snapshot.projection_version, head, body.encode()):
        raise LedgerCorrupt(f"the snapshot at sequence {snapshot.sequence} is not what was saved")
    projection = decode_value(body, SessionProjection)
    if projection.sequence != snapshot.sequence:
        raise LedgerCorrupt(f"the snapshot at sequence {snapshot.sequence} is not of that sequence")
    return projection


def _digest(version: int, head: Head, body: bytes) -> str:
    return sha256(b"%d %d %b %b" % (version, head.sequence, head.hash, body)).hexdigest()
