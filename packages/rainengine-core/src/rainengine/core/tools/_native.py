"""Python functions as skills."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from functools import partial, update_wrapper
from typing import Any, Generic, ParamSpec, TypeAlias, TypeVar

import attrs
import trio

from rainengine.core import codec
from rainengine.core.abc import Reconciliation, SkillInvocation
from rainengine.core.errors import InadmissibleValue, SkillFailure
from rainengine.core.records import JsonObject, JsonValue, SkillManifest
from rainengine.core.tools._arguments import argument_errors

P = ParamSpec("P")
R_co = TypeVar("R_co", covariant=True)

Reconcile: TypeAlias = Callable[[SkillInvocation], Awaitable[Reconciliation]]
"""Finds out what became of an interrupted call; see `abc.Reconciler`."""


class CallRefused(SkillFailure):
    """The function was not called: nothing happened, whatever its effects are."""


@attrs.define(eq=False, slots=False)
class NativeSkill(Generic[P, R_co]):
    """A function that is a skill; `skill` makes it. Called itself, it is still the function.

    A function that is not `async` runs in a worker thread, which nobody can stop.
    Where its effects are pure, a timeout or a cancellation leaves it to end by itself and drops
    its result. In any other case both wait for it, and its result counts although it is late:
    better late than in doubt. So give what it waits for (sockets, databases) timeouts of its own.
    """

    function: Callable[P, R_co]
    manifest: SkillManifest = attrs.field(repr=False)
    _shape: Any = attrs.field(repr=False)
    _injected: dict[str, str] = attrs.field(repr=False)
    _asynchronous: bool = attrs.field(repr=False)
    _has_patterns: bool = attrs.field(init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        self._has_patterns = '"pattern"' in json.dumps(self.manifest.input_schema)
        update_wrapper(self, self.function, updated=())

    @property
    def native(self) -> bool:
        """True: it runs in this process, unsandboxed."""
        return True

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co:
        """Call the function as if it were undecorated."""
        return self.function(*args, **kwargs)

    async def invoke(self, invocation: SkillInvocation) -> object:
        """Turn the arguments into the annotated types and run the function.

        Raises a `SkillFailure` of kind `invalid_arguments` where they do not fit, and of kind
        `capability_denied` for a dry run that the skill does not support.
        """
        if invocation.dry_run and not self.manifest.resource_policy.dry_run_supported:
            raise CallRefused("capability_denied", f"{invocation.name} has no dry run")
        function: Callable[..., Any] = self.function
        call = partial(function, **self._arguments(invocation))
        if self._asynchronous:
            return await call()
        return await trio.to_thread.run_sync(
            call, abandon_on_cancel=self.manifest.effects == "pure"
        )

    def _arguments(self, invocation: SkillInvocation) -> dict[str, Any]:
        self._check_patterns(invocation.args)
        given = codec.parameters_of(_structured(invocation.args, self._shape))
        arguments = {name: given[name] for name in invocation.args}
        for name, what in self._injected.items():
            arguments[name] = invocation if what == "invocation" else invocation.context
        return arguments

    def _check_patterns(self, args: JsonObject) -> None:
        # The conversion runs patterns by `re`, which may need 2^n steps to find that a text
        # does not match: so those never get there, even where the engine's check is off.
        errors = argument_errors(self.manifest.input_schema, args) if self._has_patterns else ()
        if errors:
            raise CallRefused("invalid_arguments", "; ".join(errors))


@attrs.define(eq=False, slots=False)
class ReconcilingSkill(NativeSkill[P, R_co]):
    """A `NativeSkill` that is an `abc.Reconciler` too."""

    _reconcile: Reconcile = attrs.field(repr=False)

    async def reconcile(self, invocation: SkillInvocation) -> Reconciliation:
        """Say whether the call happened."""
        return await self._reconcile(invocation)


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
