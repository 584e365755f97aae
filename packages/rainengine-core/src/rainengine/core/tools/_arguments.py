"""Arguments of tools against their JSON Schema, draft 2020-12, within bounds.

How it is done, and why not by `jsonschema` alone, is told in `_schemas`.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from functools import cache
from typing import Any

from rainengine.core.records import JsonObject, JsonValue
from rainengine.core.tools._checks import MAX_ERRORS, Check, Run, TooMuchWork, error_text
from rainengine.core.tools._places import Document, SchemaRefused
from rainengine.core.tools._schemas import Compilation, copy_of

MAX_WORK = 500_000
"""Units of work for one call, each about a keyword applied to a value: tenths of a second."""

MAX_CACHED = 512


def check_schema(schema: JsonObject) -> None:
    """Raise `SchemaRefused`, a `ValueError`, where arguments could not be checked by `schema`.

    Its text is the reason: what breaks draft 2020-12 or names another dialect; references out of
    the document; look-around and back-references in patterns; more than 256 KiB, 2,000
    subschemas or 64 levels of them.
    """
    copy = copy_of(schema)
    document = Document(copy)
    _conforms(copy)
    Compilation(document)
    for part in document.parts[1:]:
        _conforms(part)


def _conforms(schema: Any) -> None:
    try:
        broken = next(_metaschema().iter_errors(schema), None)
    except RecursionError as error:
        raise SchemaRefused("is nested too deeply") from error
    if broken is not None:
        raise SchemaRefused(
            f"breaks draft 2020-12 at {broken.json_path:.80}: {broken.message:.100}"
        )


@cache
def _metaschema() -> Any:
    # Importing jsonschema takes 40 ms, more than all of core; only registration needs it.
    from jsonschema import Draft202012Validator

    return Draft202012Validator(Draft202012Validator.META_SCHEMA)


def argument_errors(schema: JsonObject, args: JsonValue) -> tuple[str, ...]:
    """Say what is wrong with `args`; nothing where they are valid.

    At most 8 texts of at most 200 characters, each naming the place and the keyword.
    Never raises and never hangs: what would need too much work or depth is an error as well,
    and so is a schema that `check_schema` refuses.
    The compiled schema is kept: a schema must not be changed once it was used.
    """
    errors: list[str] = []
    run = Run(MAX_WORK, errors)
    try:
        holds = _compiled(schema)(args, None, run, None)
    except TooMuchWork:
        return (
            *errors[: MAX_ERRORS - 1],
            error_text(None, "needs too much work to check: send less"),
        )
    except RecursionError:
        return (error_text(None, "is nested too deeply to check"),)
    except SchemaRefused as error:
        return (error_text(None, f"cannot be checked, the schema {error}"),)
    return () if holds else tuple(errors)


class _Cache:
    """Compiled schemas, by identity first and by content where that is new.

    Both are bounded; the oldest go first.

    An entry by identity keeps its schema alive, so no other can come to have its `id`.
    """

    def __init__(self) -> None:
        self.by_identity: OrderedDict[int, tuple[JsonObject, Check]] = OrderedDict()
        self.by_content: OrderedDict[str, Check] = OrderedDict()

    def get(self, schema: JsonObject) -> Check:
        known = self.by_identity.get(id(schema))
        if known is not None:
            return known[1]
        check = self._by_content(schema)
        self.by_identity[id(schema)] = schema, check
        _bound(self.by_identity)
        return check

    def _by_content(self, schema: JsonObject) -> Check:
        copy = copy_of(schema)
        content = json.dumps(copy)
        check = self.by_content.get(content)
        if check is None:
            check = self.by_content[content] = Compilation(Document(copy)).check
            _bound(self.by_content)
        return check


def _bound(entries: OrderedDict[Any, Any]) -> None:
    while len(entries) > MAX_CACHED:
        entries.popitem(last=False)


_compiled = _Cache().get
