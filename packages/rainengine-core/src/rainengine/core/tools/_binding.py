"""A call's arguments as those of a function."""

from __future__ import annotations

import json
from typing import Any

import attrs

from rainengine.core import codec
from rainengine.core.abc import SkillInvocation, Transaction
from rainengine.core.errors import InadmissibleValue, SkillFailure
from rainengine.core.records import JsonObject, JsonValue
from rainengine.core.tools._arguments import argument_errors
from rainengine.core.tools._signatures import Signature


class CallRefused(SkillFailure):
    """The function was not called: nothing happened, whatever its effects are."""


@attrs.frozen(eq=False)
class Binding:
    """Fills in a function's parameters: by the model's arguments, and by what the engine knows."""

    _signature: Signature
    _has_patterns: bool

    def arguments(
        self, invocation: SkillInvocation, transaction: Transaction[Any] | None = None
    ) -> dict[str, Any]:
        """Return the parameters by name. Raises `CallRefused` where the arguments do not fit."""
        self._check_patterns(invocation.args)
        given = codec.parameters_of(_structured(invocation.args, self._signature.shape))
        arguments = {name: given[name] for name in invocation.args}
        known = {
            "invocation": invocation,
            "context": invocation.context,
            "transaction": transaction,
        }
        return arguments | {name: known[what] for name, what in self._signature.injected.items()}

    def _check_patterns(self, args: JsonObject) -> None:
        # The conversion runs patterns by `re`, which may need 2^n steps to find that a text
        # does not match: so those never get there, even where the engine's check is off.
        errors = argument_errors(self._signature.schema, args) if self._has_patterns else ()
        if errors:
            raise CallRefused("invalid_arguments", "; ".join(errors))


def bind(signature: Signature) -> Binding:
    """Return the binding to a function with this signature."""
    return Binding(signature, '"pattern"' in json.dumps(signature.schema))


def _structured(args: JsonObject, shape: Any) -> Any:
    try:
        return codec.structure(args, shape)
    except InadmissibleValue:
        pass
    try:  # to JSON Schema 1.0 is an integer, to Python's types it is none
        return codec.structure(_whole_numbers(args), shape)
    except InadmissibleValue as error:
        raise CallRefused("invalid_arguments", str(error)) from error


def _whole_numbers(value: JsonValue) -> JsonValue:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, dict):
        return {key: _whole_numbers(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_whole_numbers(item) for item in value]
    return value
