"""Hashes: of requests, of tool calls, of prompts, and the chain through a session's records."""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import sha256

import msgspec
import rfc8785

from rainengine.core.codec._wire import EncodedRecord, encode_value
from rainengine.core.records import JsonObject, JsonValue, SkillManifest, Trigger

_sorted = msgspec.json.Encoder(order="sorted")
_DIGITS_TO_ZERO = bytes.maketrans(b"123456789", b"000000000")


def _may_differ(value: JsonValue, payload: bytes) -> bool:
    """Whether msgspec's form may not be the standard's, which is slower to make.

    They differ in how floats are written, in integers beyond 2^53 (16 digits) and in the order
    of keys that are not ASCII; in nothing else (a test compares every character).
    """
    digits = payload.translate(_DIGITS_TO_ZERO)
    if not payload.isascii() or b"0" * 16 in digits:
        return True
    return (b"0.0" in digits or b"0e" in digits) and _holds_float(value)


def _holds_float(value: JsonValue | tuple[JsonValue, ...]) -> bool:
    if isinstance(value, dict):
        return any(map(_holds_float, value.values()))
    if isinstance(value, list | tuple):
        return any(map(_holds_float, value))
    return isinstance(value, float)


def canonical_json(value: JsonValue) -> bytes:
    """Return the RFC 8785 form (JSON Canonicalization Scheme), to be hashed.

    A value with integers beyond 2^53 has none there. They are written as text with a leading
    `#`, text that begins with one is given another, and `#` precedes the whole, so that no two
    values read the same.
    """
    quick = _sorted.encode(value)
    if not _may_differ(value, quick):
        return quick
    try:
        return rfc8785.dumps(value)
    except rfc8785.IntegerDomainError:
        return b"#" + rfc8785.dumps(_integers_as_text(value))


def _integers_as_text(value: JsonValue | tuple[JsonValue, ...]) -> JsonValue:
    if isinstance(value, dict):
        return {key: _integers_as_text(item) for key, item in value.items()}
    if isinstance(value, list | tuple):  # msgspec leaves tuples as they are
        return [_integers_as_text(item) for item in value]
    if isinstance(value, str) and value.startswith("#"):
        return f"#{value}"
    if isinstance(value, int) and abs(value) > 2**53 - 1:
        return f"#{value}"
    return value


def body_hash(trigger: Trigger, scopes: Iterable[str]) -> str:
    """Hash a request, so that the same key with another body is noticed. Hex SHA-256."""
    names: list[JsonValue] = [*sorted(scopes)]
    body: JsonObject = {"scopes": names, "trigger": msgspec.to_builtins(trigger)}
    return sha256(canonical_json(body)).hexdigest()


def call_key(tenant: str, session_id: str, graph_id: str, call_id: str, args: JsonObject) -> str:
    """The idempotency key of a tool call: the same on every attempt and after every crash.

    Hex SHA-256 over the names and the arguments' canonical form, each preceded by its length.
    """
    names = (tenant.encode(), session_id.encode(), graph_id.encode(), call_id.encode())
    return sha256(_lengthed(*names, canonical_json(args))).hexdigest()


def manifest_version(manifest: SkillManifest) -> str:
    """What a skill is known by when somebody lets it run: its version and, behind ``#``, a digest.

    That is half of the SHA-256 (hex) over the canonical form of the whole manifest: whoever changes
    a schema, scopes or effects may forget the version.
    """
    digest = sha256(canonical_json(msgspec.to_builtins(manifest))).hexdigest()
    return f"{manifest.version}#{digest[:32]}"


def calls_hash(calls: Iterable[tuple[str, str, JsonObject]]) -> str:
    """Hash what is shown to whoever approves calls: skill, version and arguments of each.

    The versions are those of `manifest_version`. Hex SHA-256 over the canonical form of the list.
    """
    shown: list[JsonValue] = [[name, version, args] for name, version, args in calls]
    return sha256(canonical_json(shown)).hexdigest()


def prompt_hash(*parts: object) -> str:
    """Hash what a model is shown. Hex SHA-256."""
    return sha256(encode_value(parts)).hexdigest()


def genesis_hash(tenant: str, session_id: str) -> bytes:
    """The hash before a session's first record: what ties the chain to its place."""
    return sha256(_lengthed(b"rainengine ledger 1", tenant.encode(), session_id.encode())).digest()


def chain_hash(previous: bytes, sequence: int, record: EncodedRecord) -> bytes:
    """The hash of a record: SHA-256 over the one before it and all stored fields.

    Fields are preceded by their length, so that no two different records read the same.
    """
    place = b"%d" % sequence
    kind = record.kind.encode()
    version = b"%d" % record.version
    time = b"%d" % record.occurred_at_ms
    run = b"-" if record.trigger_id is None else b"+" + record.trigger_id.encode()
    key = b"-" if record.idempotency_key is None else b"+" + record.idempotency_key.encode()
    payload = record.payload.encode()
    return sha256(
        b"%b%d:%b%d:%b%d:%b%d:%b%d:%b%d:%b%d:%b"  # in one go: a third faster than field by field
        % (
            *(previous, len(place), place, len(kind), kind, len(version), version),
            *(len(time), time, len(run), run, len(key), key, len(payload), payload),
        )
    ).digest()


def _lengthed(*fields: bytes) -> bytes:
    return b"".join([b"%d:%b" % (len(field), field) for field in fields])
