"""Tool arguments against JSON Schema, draft 2020-12, by jsonschema-rs.

Schemas may come from third parties, so they are not trusted: a reference may only point into the
schema itself, and patterns are matched by an engine whose time is linear in the text
(look-around and back-references, which that engine cannot do, are refused at registration).
As the standard says, `format` is an annotation and asserts nothing.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, NoReturn

from rainengine.core import codec
from rainengine.core.records import JsonObject

if TYPE_CHECKING:
    from jsonschema_rs import Draft202012Validator

MAX_ERRORS = 8
MAX_ERROR_CHARACTERS = 200


def check_schema(schema: JsonObject) -> None:
    """Raise `ValueError`, saying what is wrong, where `schema` is none that can be used."""
    _validator(codec.encode_value(schema))


def argument_errors(schema: JsonObject, args: JsonObject) -> tuple[str, ...]:
    """Return what is wrong with the arguments, each with its JSON path; empty where they fit.

    At most 8 errors of at most 200 characters.
    """
    validator = _validator_of(schema)
    if validator.is_valid(args):
        return ()
    errors: list[str] = []
    for error in validator.iter_errors(args):
        errors.append(f"{_path(error.instance_path)}: {error.message}"[:MAX_ERROR_CHARACTERS])
        if len(errors) == MAX_ERRORS:
            break
    return tuple(errors)


def _path(parts: list[str | int]) -> str:
    return "$" + "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in parts)


_BY_IDENTITY: dict[int, tuple[JsonObject, Draft202012Validator]] = {}
_MAX_BY_IDENTITY = 1024


def _validator_of(schema: JsonObject) -> Draft202012Validator:
    known = _BY_IDENTITY.get(id(schema))
    if known is not None and known[0] is schema:
        return known[1]
    validator = _validator(codec.encode_value(schema))
    if len(_BY_IDENTITY) >= _MAX_BY_IDENTITY:
        _BY_IDENTITY.clear()
    _BY_IDENTITY[id(schema)] = schema, validator
    return validator


@lru_cache(maxsize=1024)
def _validator(schema: bytes) -> Draft202012Validator:
    # Needed only once a skill is registered; importing it here keeps it off the start-up path.
    from jsonschema_rs import Draft202012Validator, RegexOptions, ValidationError

    try:
        return Draft202012Validator(
            schema.decode(), retriever=_refuse, pattern_options=RegexOptions()
        )
    except ValidationError as error:
        raise ValueError(error.message) from error


def _refuse(uri: str) -> NoReturn:
    raise ValueError(f"refers to {uri}: only references into the schema itself are allowed")
