"""The name by which receivers know a row of the outbox."""

from __future__ import annotations

from rainengine.core.abc import OutboxEntry


def _key(tenant: str, session_id: str) -> str:
    return OutboxEntry(
        tenant=tenant,
        session_id=session_id,
        sequence=7,
        ordinal=0,
        topic="t",
        payload=None,
        attempts=1,
        claim=1,
    ).key


def test_a_key_is_made_of_its_parts() -> None:
    """A key can be read by people."""
    assert "acme/s/7/0" == _key("acme", "s")


def test_no_two_rows_have_one_key() -> None:
    """Whatever names tenants and sessions have, keys of different ones differ."""
    names = ["a", "a/b", "b/c", "c", "a%2Fb", "%", "/"]
    keys = {_key(tenant, session_id) for tenant in names for session_id in names}
    assert len(names) ** 2 == len(keys)
