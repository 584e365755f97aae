"""What a function's signature and docstring say about it as a skill."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any, get_origin, get_type_hints

import attrs

from rainengine.core import codec
from rainengine.core.abc import SkillContext, SkillInvocation, Transaction
from rainengine.core.errors import InadmissibleValue, InvalidSkill
from rainengine.core.records import JsonObject
from rainengine.core.tools._arguments import check_schema

_INJECTED: dict[Any, str] = {
    SkillInvocation: "invocation",
    SkillContext: "context",
    Transaction: "transaction",
}
_ARGS_HEADING = re.compile(r"(Args|Arguments|Parameters):")
_ARGS_ENTRY = re.compile(r"(\w+)(?: *\([^)]*\))?: *(.*)")
_REFUSED_KINDS: dict[Any, str] = {
    inspect.Parameter.POSITIONAL_ONLY: "is positional-only: remove the /",
    inspect.Parameter.VAR_POSITIONAL: "is *args: take a list instead",
    inspect.Parameter.VAR_KEYWORD: "is **kwargs: take a dict instead",
}


@attrs.frozen
class Signature:
    """A function as a skill: the type of its arguments, their schema, what is injected."""

    shape: Any
    schema: JsonObject
    injected: dict[str, str]


def read_signature(
    name: str, function: Callable[..., object], local_names: Mapping[str, Any]
) -> Signature:
    """Read the parameters of `function`. Raises `InvalidSkill`, saying what to change."""
    parameters: list[inspect.Parameter] = []
    injected: dict[str, str] = {}
    for parameter in _signature_of(name, function).parameters.values():
        hint = _hint(name, function, parameter, local_names)
        what = get_origin(hint) or hint  # `Transaction` may say of which connection
        if isinstance(what, type) and what in _INJECTED:
            injected[parameter.name] = _INJECTED[what]
        else:
            parameters.append(parameter.replace(annotation=hint))
    for parameter in parameters:
        _check_type(name, parameter)
    shape = _shape_of(name, parameters)
    schema = _schema_of(parameters, shape, argument_descriptions(function.__doc__))
    _check_schema(name, schema)
    return Signature(shape, schema, injected)


def _signature_of(name: str, function: Callable[..., object]) -> inspect.Signature:
    try:
        return inspect.signature(function)
    except (TypeError, ValueError, NameError) as error:
        raise InvalidSkill(name, f"its signature cannot be read: {error}") from error


def _hint(
    name: str,
    function: Callable[..., object],
    parameter: inspect.Parameter,
    local_names: Mapping[str, Any],
) -> Any:
    refused = _REFUSED_KINDS.get(parameter.kind)
    if refused:
        raise InvalidSkill(name, f"parameter {parameter.name!r} {refused}")
    if parameter.annotation is inspect.Parameter.empty:
        raise InvalidSkill(
            name,
            f"parameter {parameter.name!r} has no type hint: write one, such as"
            f" `{parameter.name}: str` (a method cannot be a skill, a function can)",
        )
    annotated = SimpleNamespace(__annotations__={parameter.name: parameter.annotation})
    names = {**inspect.getclosurevars(function).nonlocals, **local_names}
    names_of_module: dict[str, Any] = getattr(function, "__globals__", {})
    try:
        hints = get_type_hints(annotated, names_of_module, names, include_extras=True)
        return hints[parameter.name]
    except Exception as error:  # any code may stand in a hint
        raise InvalidSkill(
            name,
            f"the type hint of parameter {parameter.name!r} cannot be resolved ({error}):"
            " define the type before the function, at module level or beside it,"
            " and import it outside `if TYPE_CHECKING`",
        ) from error


def _check_type(name: str, parameter: inspect.Parameter) -> None:
    try:
        codec.schema_of(parameter.annotation)
    except (TypeError, NameError) as error:
        reason = str(error).rpartition("\n")[2]
        raise InvalidSkill(
            name,
            f"parameter {parameter.name!r} has a type that JSON cannot carry ({reason}):"
            " use plain types, Literal, list, dict, attrs classes, dataclasses or TypedDict;"
            " for any JSON take JsonValue",
        ) from error


def _shape_of(name: str, parameters: list[inspect.Parameter]) -> Any:
    # Python fills in the defaults when it calls; here they only mark what may be left out.
    fields: list[tuple[str, Any] | tuple[str, Any, Any]] = [
        (one.name, one.annotation)
        if one.default is inspect.Parameter.empty
        else (one.name, one.annotation, None)
        for one in parameters
    ]
    try:
        return codec.parameter_shape("Arguments", fields)
    except (TypeError, ValueError) as error:
        raise InvalidSkill(name, f"its parameters cannot be arguments: {error}") from error


def _schema_of(
    parameters: list[inspect.Parameter], shape: Any, descriptions: Mapping[str, str]
) -> JsonObject:
    schema = codec.schema_of(shape)
    del schema["title"]
    properties: Any = schema["properties"]
    for one in parameters:
        described = properties[one.name]
        described.pop("default", None)
        if one.default is not inspect.Parameter.empty:
            described |= _default(one.default)
        if one.name in descriptions:
            described.setdefault("description", descriptions[one.name])
    return schema


def _check_schema(name: str, schema: JsonObject) -> None:
    try:
        check_schema(schema)
    except ValueError as error:
        raise InvalidSkill(name, f"the schema of its parameters {error}") from error


def _default(value: object) -> JsonObject:
    try:
        return {"default": codec.to_json(value)}
    except InadmissibleValue:  # such as a sentinel: the parameter is optional all the same
        return {}


def first_paragraph(docstring: str | None) -> str:
    """The first paragraph of a docstring, on one line."""
    text = inspect.cleandoc(docstring or "").partition("\n\n")[0]
    return "" if _ARGS_HEADING.fullmatch(text.partition("\n")[0]) else " ".join(text.split())


def argument_descriptions(docstring: str | None) -> dict[str, str]:
    """What the docstring's `Args:` section says, by parameter."""
    lines = inspect.cleandoc(docstring or "").split("\n")
    begin = next((i for i, line in enumerate(lines) if _ARGS_HEADING.fullmatch(line)), len(lines))
    found: dict[str, str] = {}
    margin, name = 0, ""
    for line in lines[begin + 1 :]:
        indent = len(line) - len(line.lstrip())
        if line and not indent:
            break
        margin = margin or indent
        entry = _ARGS_ENTRY.fullmatch(line.strip()) if indent == margin else None
        if entry:
            name = entry[1]
            found[name] = entry[2]
        elif name and line.strip():
            found[name] = f"{found[name]} {line.strip()}".strip()
    return found
