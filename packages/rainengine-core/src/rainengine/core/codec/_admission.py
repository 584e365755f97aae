"""The admission rule: which text and JSON a ledger takes. One rule for all stores.

A value is admitted when what is written reads back equal and no database balks at it:
no NUL, no lone surrogate, no NaN or infinity, integers within 64 bits, text keys without
duplicates, nesting at most 200, size at most the cap.

Looking at every value in Python would cost more than storing it.
So the codec encodes first and looks for signs in the text, which is quick,
and `explain` walks the value only to name the culprit.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from typing import Any, NoReturn

import attrs

from rainengine.core.errors import InadmissibleValue
from rainengine.core.records import JsonValue

MAX_NESTING = 200
MAX_PAYLOAD_BYTES = 4 * 1024 * 1024
MAX_IDENTIFIER_BYTES = 512
MIN_INTEGER, MAX_INTEGER = -(2**63), 2**64 - 1

_DIGITS_TO_ZERO = bytes.maketrans(b"123456789", b"000000000")
_LONG_INTEGER = b"0" * 19  # after the digits were mapped to zero; a regex takes ten times as long
_OPENING = b"{["
_SURROGATE = re.compile("[\ud800-\udfff]")


def suspicious(payload: bytes) -> bool:
    """Whether an encoded value has to be walked before it may be admitted."""
    looked_at = payload.translate(_DIGITS_TO_ZERO, _OPENING)  # in one pass, as counting is slow
    return (
        _LONG_INTEGER in looked_at
        or len(payload) - len(looked_at) >= MAX_NESTING  # what is innermost is a level too
        or (b"\\" in payload and b"\\u0000" in payload)
    )


def check_size(payload: bytes, cap: int) -> None:
    """Raise `InadmissibleValue` where `payload` is larger than `cap` bytes."""
    if len(payload) > cap:
        raise InadmissibleValue(
            "$", f"{len(payload)} bytes of JSON, the cap is {cap}: keep large values in blobs"
        )


def explain(value: object) -> None:
    """Walk `value` and raise `InadmissibleValue` for the first part that breaks the rule."""
    pending: list[tuple[str, int, Any]] = [("$", 1, value)]
    while pending:
        path, depth, part = pending.pop()
        if depth > MAX_NESTING:
            raise InadmissibleValue(_short(path), f"nested deeper than {MAX_NESTING} levels")
        shape: type[Any] = part.__class__
        if issubclass(shape, dict):
            pending += [(f"{path}.{key}", depth + 1, item) for key, item in _items(path, part)]
        elif issubclass(shape, list | tuple):
            pending += [(f"{path}[{i}]", depth + 1, item) for i, item in enumerate(part)]
        elif attrs.has(shape):
            names = [field.name for field in attrs.fields(shape)]
            pending += [(f"{path}.{name}", depth + 1, getattr(part, name)) for name in names]
        else:
            _check_scalar(path, part)


def _items(path: str, part: dict[Any, Any]) -> list[tuple[str, Any]]:
    for key in part:
        if not isinstance(key, str):
            raise InadmissibleValue(_short(path), f"key {key!r} is not text")
        _check_text(path, key)
    return list(part.items())


def _check_scalar(path: str, part: object) -> None:
    if isinstance(part, str):
        _check_text(path, part)
    elif isinstance(part, float):
        if not math.isfinite(part):
            raise InadmissibleValue(_short(path), f"{part} has no form in JSON")
    elif isinstance(part, int):
        if not MIN_INTEGER <= part <= MAX_INTEGER:
            raise InadmissibleValue(_short(path), "integer needs more than 64 bits")
    elif part is not None and not isinstance(part, bytes):
        raise InadmissibleValue(_short(path), f"{type(part).__name__} has no form in JSON")


def _check_text(path: str, text: str) -> None:
    if "\0" in text:
        raise InadmissibleValue(_short(path), "text holds a NUL character")
    if _SURROGATE.search(text):
        raise InadmissibleValue(_short(path), "text holds a lone surrogate")


def _short(path: str) -> str:
    return path if len(path) <= MAX_NESTING else f"{path[:100]}…{path[-20:]}"


def check_identifier(name: str, value: object) -> str:
    """Return a session id, tenant or key unchanged, or raise `InadmissibleValue`."""
    if type(value) is str and value.isascii() and 0 < len(value) <= MAX_IDENTIFIER_BYTES:
        if "\0" not in value:
            return value
    elif not isinstance(value, str):
        raise InadmissibleValue(name, f"expected text, got {type(value).__name__}")
    _check_text(name, value)
    if not 0 < len(value.encode()) <= MAX_IDENTIFIER_BYTES:
        raise InadmissibleValue(name, f"has to have 1 to {MAX_IDENTIFIER_BYTES} bytes")
    return value


def check_text(name: str, value: object) -> None:
    """Raise `InadmissibleValue` where `value` is no text."""
    if not isinstance(value, str):
        raise InadmissibleValue(name, f"expected text, got {type(value).__name__}")


def check_integer(name: str, value: object, low: int, high: int) -> None:
    """Raise `InadmissibleValue` where `value` is no integer from `low` to `high`."""
    if type(value) is not int:
        raise InadmissibleValue(name, f"expected an integer, got {type(value).__name__}")
    if not low <= value <= high:
        raise InadmissibleValue(name, f"{value} is not from {low} to {high}")


def clean_text(text: str) -> str:
    """Replace what the rule forbids by U+FFFD; for text that a model wrote."""
    if not text.isascii():
        text = _SURROGATE.sub("\ufffd", text)
    return text.replace("\0", "\ufffd")


def shown(value: object, by: Callable[[object], str]) -> str:
    """Show somebody else's value by `str` or `repr`, which may be their code too, and clean it."""
    try:
        return clean_text(by(value))
    except Exception:  # noqa: BLE001  # whatever their code raises
        return f"a {type(value).__name__} that cannot be shown"


def clean_json(value: JsonValue) -> JsonValue:
    """Replace by U+FFFD what the rule forbids in all texts of a JSON value; for a model's."""
    if isinstance(value, str):
        return clean_text(value)
    if isinstance(value, dict):
        return {clean_text(key): clean_json(item) for key, item in value.items()}
    return [clean_json(item) for item in value] if isinstance(value, list) else value


def parse_json(text: str | bytes) -> JsonValue:
    """Parse JSON from outside under the admission rule.

    Raises `InadmissibleValue`, for what is no JSON as well as for what breaks the rule.
    """
    try:
        value: JsonValue = json.loads(
            text, object_pairs_hook=_unique_keys, parse_constant=_refuse_constant
        )
    except RecursionError as error:
        raise InadmissibleValue("$", f"nested deeper than {MAX_NESTING} levels") from error
    except ValueError as error:
        raise InadmissibleValue("$", f"is not JSON: {error}") from error
    explain(value)
    return value


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise InadmissibleValue("$", f"key {twice!r} stands twice in one object")
    return found


def _refuse_constant(name: str) -> NoReturn:
    raise InadmissibleValue("$", f"{name} has no form in JSON")
