"""Records to JSON text and back, by msgspec.

The tag of a record (its kind) and its version stand beside the JSON, those of a trigger,
an action or an event inside it as `type`.
What a release does not know becomes an `UnknownRecord` and survives unchanged.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, TypeVar, cast

import attrs
import msgspec

from rainengine.core.codec import _admission as admission
from rainengine.core.codec._families import FAMILIES, RECORDS
from rainengine.core.codec._upcasts import UPCASTS, Upcasts, upcast
from rainengine.core.errors import InadmissibleValue, LedgerCorrupt
from rainengine.core.records import NewRecord, Record, UnknownRecord

T = TypeVar("T")
R = TypeVar("R", bound=Record)

MAX_VERSION = 2**31 - 1
MIN_TIME, MAX_TIME = -(2**63), 2**63 - 1


@attrs.frozen
class EncodedRecord:
    """A record as it is stored: `payload` is the exact JSON text that is hashed."""

    kind: str
    version: int
    payload: str
    occurred_at_ms: int
    trigger_id: str | None
    idempotency_key: str | None


class _FromTheFuture(Exception):
    """A `type` that this release does not know."""


def _structure_family(family: type[Any], value: Any) -> Any:
    members = FAMILIES.get(family)
    if members is None or not isinstance(value, dict):
        raise msgspec.ValidationError(f"Expected `{family.__name__}`")
    tag: Any = cast("dict[str, Any]", value).get("type")
    member = members.get(tag)
    if member is None:
        raise _FromTheFuture(tag)
    return msgspec.convert(value, member, dec_hook=_structure_family)


_encoder = msgspec.json.Encoder()


def _make_decoder(shape: Any) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(shape, dec_hook=_structure_family)


_decoder: Callable[[Any], msgspec.json.Decoder[Any]] = cache(_make_decoder)


def encode(record: Record, *, cap: int = admission.MAX_PAYLOAD_BYTES) -> tuple[str, int, str]:
    """Return kind, version and JSON text of a record.

    What is returned reads back equal to `record`.
    Raises `InadmissibleValue`, naming the path, for anything else.
    """
    if type(record) is UnknownRecord:
        return _encode_unknown(record, cap)
    shape = type(record)
    if RECORDS.get(getattr(shape, "kind", "")) is not shape:
        raise InadmissibleValue("$", f"{shape.__name__} is not a kind of record")
    payload, _ = _written_and_read(record)
    admission.check_size(payload, cap)
    return shape.kind, shape.version, payload.decode()


def read_back(record: R, *, cap: int = admission.MAX_PAYLOAD_BYTES) -> R:
    """Return what the record would be read back as: equal to it, and with JSON of its own.

    Raises what `encode` raises.
    """
    payload, back = _written_and_read(record)
    admission.check_size(payload, cap)
    return back


def check_declared(value: object) -> None:
    """Raise `InadmissibleValue`, with its path, for a part of an attrs value of another type."""
    _written_and_read(value)


def _encode_unknown(record: UnknownRecord, cap: int) -> tuple[str, int, str]:
    kind, version, payload = record.stored_kind, record.stored_version, record.payload
    admission.check_identifier("$.stored_kind", kind)
    admission.check_integer("$.stored_version", version, 1, MAX_VERSION)
    admission.check_text("$.payload", payload)
    admission.parse_json(payload)  # before it is encoded to be measured: it may hold surrogates
    admission.check_size(payload.encode(), cap)
    if not _is_unknown(kind, version, payload):
        raise InadmissibleValue("$", f"a record of kind {kind!r} is known: append it as itself")
    return kind, version, payload


def _is_unknown(kind: str, version: int, payload: str) -> bool:
    try:
        return type(decode(kind, version, payload)) is UnknownRecord
    except LedgerCorrupt:
        return False


def _written_and_read(record: T) -> tuple[bytes, T]:
    try:
        payload = _encoder.encode(record)
        if admission.suspicious(payload):
            admission.explain(record)
        back: T = _decoder(type(record)).decode(payload)
    except msgspec.ValidationError as error:
        admission.explain(record)
        reason, _, path = str(error).partition(" - at `")
        raise InadmissibleValue(path.rstrip("`") or "$", reason) from error
    except (TypeError, ValueError, RecursionError, _FromTheFuture) as error:
        admission.explain(record)
        raise InadmissibleValue("$", str(error)) from error
    if not back == record:  # noqa: SIM201  # attrs makes `!=` of `==`, by a slower way
        admission.explain(record)
        _explain_difference(record, back)
    return payload, back


def _explain_difference(record: object, back: object) -> None:
    for field in attrs.fields(cast(Any, type(record))):
        if getattr(back, field.name) != getattr(record, field.name):
            raise InadmissibleValue(
                f"$.{field.name}",
                f"would read back as {getattr(back, field.name)!r:.80}: use the declared types",
            )


def encode_batch(
    records: Sequence[NewRecord], *, cap: int = admission.MAX_PAYLOAD_BYTES
) -> list[EncodedRecord]:
    """Encode an append. Raises `InadmissibleValue`; then none of it may be stored."""
    _check_envelopes(records)
    return [
        EncodedRecord(
            *encode(new.record, cap=cap), new.occurred_at_ms, new.trigger_id, new.idempotency_key
        )
        for new in records
    ]


def _check_envelopes(records: Sequence[NewRecord]) -> None:
    before: NewRecord | None = None
    for new in records:  # nearly all of which have the time and the trigger of the one before
        if before is None or new.occurred_at_ms is not before.occurred_at_ms:
            admission.check_integer("occurred_at_ms", new.occurred_at_ms, MIN_TIME, MAX_TIME)
        if before is None or new.trigger_id is not before.trigger_id:
            _check_optional("trigger_id", new.trigger_id)
        _check_optional("idempotency_key", new.idempotency_key)
        before = new


def _check_optional(name: str, value: str | None) -> None:
    if value is not None:
        admission.check_identifier(name, value)


def decode(kind: str, version: int, payload: str | bytes) -> Record:
    """Return the record, brought up to today's version.

    A kind, version or `type` from the future comes back as an `UnknownRecord`.
    Raises `LedgerCorrupt` where the text is not what this kind's version looks like.
    """
    shape = RECORDS.get(kind)
    if shape is None or version > shape.version:
        return _unknown(kind, version, payload)
    try:
        if version == shape.version:
            record: Record = _decoder(shape).decode(payload)  # `cast` would be called each time
            return record
        return cast(Record, read_older(shape, version, payload))
    except _FromTheFuture:
        return _unknown(kind, version, payload)
    except (msgspec.MsgspecError, ValueError, TypeError, LookupError, RecursionError) as error:
        raise LedgerCorrupt(f"a record of kind {kind!r} cannot be read: {error}") from error


def _unknown(kind: str, version: int, payload: str | bytes) -> UnknownRecord:
    try:
        text = payload if isinstance(payload, str) else payload.decode()
    except UnicodeError as error:
        raise LedgerCorrupt(f"a record of kind {kind!r} is no text: {error}") from error
    return UnknownRecord(stored_kind=kind, stored_version=version, payload=text)


def read_older(
    shape: type[Record], version: int, payload: str | bytes, upcasts: Upcasts = UPCASTS
) -> Any:
    """Return a record of `shape` from the text of an earlier version of it."""
    value = upcast(msgspec.json.decode(payload), shape.kind, version, shape.version, upcasts)
    return msgspec.convert(value, shape, dec_hook=_structure_family)


def encode_value(value: object) -> bytes:
    """Encode attrs values, such as a projection, that are no records."""
    return _encoder.encode(value)


def decode_value(payload: str | bytes, shape: type[T]) -> T:
    """Decode what `encode_value` wrote. Raises `LedgerCorrupt`."""
    try:
        return cast(T, _decoder(shape).decode(payload))
    except (msgspec.MsgspecError, UnicodeError, RecursionError, _FromTheFuture) as error:
        raise LedgerCorrupt(f"{shape.__name__} cannot be read: {error}") from error
