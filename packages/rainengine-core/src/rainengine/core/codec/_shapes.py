"""Python types of skills to JSON Schema, and values to and from those types."""

from __future__ import annotations

from typing import Any, TypeVar, cast

import msgspec

from rainengine.core.codec import _admission as admission
from rainengine.core.codec._wire import encode_value
from rainengine.core.errors import InadmissibleValue
from rainengine.core.records import JsonObject, JsonValue


def parameter_shape(name: str, parameters: list[tuple[str, Any] | tuple[str, Any, Any]]) -> Any:
    """Make a type of a function's parameters: (name, type) or (name, type, default)."""
    return msgspec.defstruct(name, parameters, kw_only=True, forbid_unknown_fields=True)


def parameters_of(value: object) -> dict[str, Any]:
    """The parameters held by an instance of such a type, by name."""
    return msgspec.structs.asdict(value)  # type: ignore[arg-type]  # defstruct's result has no static type


def schema_of(shape: Any) -> JsonObject:
    """The JSON Schema (draft 2020-12) of a type. Raises `TypeError` where it has none."""
    schema = msgspec.json.schema(shape)
    definitions = schema.get("$defs", {})
    reference = schema.pop("$ref", None)
    if reference is not None:
        schema.update(definitions.pop(reference.rpartition("/")[2]))
    if not definitions:
        schema.pop("$defs", None)
    return schema


def structure(value: JsonValue, shape: Any) -> Any:
    """Turn a JSON value into an instance of `shape`. Raises `InadmissibleValue`."""
    try:
        return msgspec.convert(value, shape)
    except msgspec.ValidationError as error:
        reason, _, path = str(error).partition(" - at `")
        raise InadmissibleValue(path.rstrip("`") or "$", reason) from error


def to_json(value: object, *, cap: int = admission.MAX_PAYLOAD_BYTES) -> JsonValue:
    """Turn what a skill or a model gave into an admitted JSON value. Raises `InadmissibleValue`."""
    try:
        plain: JsonValue = msgspec.to_builtins(value, str_keys=False)
        payload = encode_value(plain)
        admitted = not admission.suspicious(payload) and msgspec.json.decode(payload) == plain
    except (TypeError, ValueError, RecursionError) as error:
        admission.explain(value)
        raise InadmissibleValue("$", str(error)) from error
    if not admitted:
        admission.explain(plain)
        plain = msgspec.json.decode(payload)  # tuples have become lists
    admission.check_size(payload, cap)
    return plain


T = TypeVar("T", bound=JsonValue)


def copy_json(value: T) -> T:
    """Copy a JSON value, so that whoever has one of the two cannot change the other.

    What is no JSON value comes back as it is, for the admission rule to find.
    """
    try:
        return cast(T, msgspec.to_builtins(value))
    except (TypeError, ValueError, RecursionError):
        return value


def to_json_object(value: object, *, cap: int = admission.MAX_PAYLOAD_BYTES) -> JsonObject:
    """As `to_json`, for what has to be a JSON object."""
    plain = to_json(value, cap=cap)
    if not isinstance(plain, dict):
        raise InadmissibleValue("$", f"expected an object, got {type(value).__name__}")
    return plain
