"""Python functions as skills."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial, update_wrapper
from typing import Any, Generic, ParamSpec, TypeAlias, TypeVar

import attrs
import trio

from rainengine.core.abc import Reconciliation, SkillInvocation, Transaction
from rainengine.core.records import JsonObject, SkillManifest
from rainengine.core.tools._binding import Binding, CallRefused, bind

P = ParamSpec("P")
R_co = TypeVar("R_co", covariant=True)

AskApproval: TypeAlias = Callable[[JsonObject], str | bool | None]
"""Says why a call with these arguments needs an approval, or whether; see `abc.AsksApproval`."""

Reconcile: TypeAlias = Callable[[SkillInvocation], Awaitable[Reconciliation]]
"""Finds out what became of an interrupted call; see `abc.Reconciler`."""


@attrs.define(eq=False, slots=False)
class _FunctionSkill(Generic[P, R_co]):
    """What skills made of functions share. Called itself, each is still the function."""

    function: Callable[P, R_co]
    manifest: SkillManifest = attrs.field(repr=False)
    _binding: Binding = attrs.field(repr=False, converter=bind, alias="signature")
    approval_reason: AskApproval | None = attrs.field(default=None, repr=False, kw_only=True)
    """Makes it an `abc.AsksApproval`, where there is one."""

    def __attrs_post_init__(self) -> None:
        update_wrapper(self, self.function, updated=())

    @property
    def native(self) -> bool:
        """True: it runs in this process, unsandboxed."""
        return True

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co:
        """Call the function as if it were undecorated."""
        return self.function(*args, **kwargs)


@attrs.define(eq=False, slots=False)
class NativeSkill(_FunctionSkill[P, R_co]):
    """A function that is a skill; `skill` makes it. Called itself, it is still the function.

    A function that is not `async` runs in a worker thread, which nobody can stop.
    Where its effects are pure, a timeout or a cancellation leaves it to end by itself and drops
    its result. In any other case both wait for it, and its result counts although it is late:
    better late than in doubt. So give what it waits for (sockets, databases) timeouts of its own.
    """

    _asynchronous: bool = attrs.field(repr=False)

    async def invoke(self, invocation: SkillInvocation) -> object:
        """Turn the arguments into the annotated types and run the function.

        Raises a `SkillFailure` of kind `invalid_arguments` where they do not fit, and of kind
        `capability_denied` for a dry run that the skill does not support.
        """
        if invocation.dry_run and not self.manifest.resource_policy.dry_run_supported:
            raise CallRefused("capability_denied", f"{invocation.name} has no dry run")
        function: Callable[..., Any] = self.function
        call = partial(function, **self._binding.arguments(invocation))
        if self._asynchronous:
            return await call()
        return await trio.to_thread.run_sync(
            call, abandon_on_cancel=self.manifest.effects == "pure"
        )


@attrs.define(eq=False, slots=False)
class ReconcilingSkill(NativeSkill[P, R_co]):
    """A `NativeSkill` that is an `abc.Reconciler` too."""

    _reconcile: Reconcile = attrs.field(repr=False)

    async def reconcile(self, invocation: SkillInvocation) -> Reconciliation:
        """Say whether the call happened."""
        return await self._reconcile(invocation)


@attrs.define(eq=False, slots=False)
class NativeTransactionalSkill(_FunctionSkill[P, R_co]):
    """A function that is an `abc.TransactionalSkill`; `transactional_skill` makes it.

    Called itself, it is still the function, and begins no transaction.
    """

    def apply(self, transaction: Transaction[Any], invocation: SkillInvocation) -> object:
        """Turn the arguments into the annotated types and call the function.

        Raises a `SkillFailure` of kind `invalid_arguments` where they do not fit.
        """
        function: Callable[..., Any] = self.function
        return function(**self._binding.arguments(invocation, transaction))
