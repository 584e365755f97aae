"""The decorator that makes a skill of a function."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ParamSpec, TypeVar, overload

from rainengine.core.errors import InvalidSkill
from rainengine.core.records import EffectClass, ResourcePolicy, RetryPolicy, SkillManifest
from rainengine.core.tools._manifests import Declaration, names_of_caller
from rainengine.core.tools._native import AskApproval, NativeSkill, Reconcile, ReconcilingSkill
from rainengine.core.tools._signatures import Signature

P = ParamSpec("P")
R = TypeVar("R")


@overload
def skill(function: Callable[P, R], /) -> NativeSkill[P, R]: ...


@overload
def skill(
    *,
    name: str | None = None,
    description: str | None = None,
    version: str = "1",
    scopes: Sequence[str] = (),
    effects: EffectClass = "unsafe",
    timeout_ms: int = 5_000,
    retry: RetryPolicy | None = None,
    priority: int = 0,
    approval_required: bool | AskApproval = False,
    dry_run: bool = False,
    circuit_breaker_threshold: float = 0.5,
    reconcile: Reconcile | None = None,
) -> Callable[[Callable[P, R]], NativeSkill[P, R]]: ...


def skill(
    function: Callable[..., Any] | None = None,
    /,
    *,
    name: str | None = None,
    description: str | None = None,
    version: str = "1",
    scopes: Sequence[str] = (),
    effects: EffectClass = "unsafe",
    timeout_ms: int = 5_000,
    retry: RetryPolicy | None = None,
    priority: int = 0,
    approval_required: bool | AskApproval = False,
    dry_run: bool = False,
    circuit_breaker_threshold: float = 0.5,
    reconcile: Reconcile | None = None,
) -> Any:
    """Make a skill of a function; its type hints and docstring make the manifest.

    Parameters take plain types, `Literal`, lists, dicts, attrs classes, dataclasses, `TypedDict`
    and constraints by `Annotated`. One annotated `SkillInvocation` or `SkillContext` is filled in
    by the engine and is no argument of the model's.
    The docstring's first paragraph is the description, its `Args:` section describes parameters.

    `effects` says what running it twice does; see `EffectClass`.
    `timeout_ms` is for one attempt; what it means for a function that is not `async` is told at
    `NativeSkill`. Of skills that are ready together, higher `priority` begins first.
    `dry_run=True` promises that nothing happens when `SkillInvocation.dry_run` is set.
    `approval_required` has a person asked before each call, or a function of the call's arguments
    says which ones: it returns the reason, or whether, and gets them as the model gave them.
    `reconcile` finds out what became of an interrupted call, and makes the skill an
    `abc.Reconciler`. An open circuit is at `circuit_breaker_threshold` failures a call.

    Raises `InvalidSkill`, naming the skill and what to change.
    """
    declaration = Declaration(
        name=name,
        description=description,
        version=version,
        scopes=scopes,
        effects=effects,
        resources=ResourcePolicy(
            timeout_ms=timeout_ms,
            priority_class=priority,
            retry_policy=retry or RetryPolicy(),
            dry_run_supported=dry_run,
        ),
        approval_required=approval_required,
        circuit_breaker_threshold=circuit_breaker_threshold,
    )

    def decorate(undecorated: Callable[..., Any]) -> NativeSkill[..., Any]:
        return make(undecorated, names_of_caller())

    def make(undecorated: Callable[..., Any], beside: Mapping[str, Any]) -> NativeSkill[..., Any]:
        manifest, signature = declaration.read(undecorated, beside)
        _check_transactions(manifest, signature)
        _check_dry_run(manifest, signature)
        return _build(undecorated, manifest, signature, reconcile, declaration.asks)

    return decorate if function is None else make(function, names_of_caller())


def _build(
    function: Callable[..., Any],
    manifest: SkillManifest,
    signature: Signature,
    reconcile: Reconcile | None,
    asks: AskApproval | None,
) -> NativeSkill[..., Any]:
    asynchronous = inspect.iscoroutinefunction(function)
    if reconcile is None:
        return NativeSkill(function, manifest, signature, asynchronous, approval_reason=asks)
    if not inspect.iscoroutinefunction(reconcile):
        raise InvalidSkill(manifest.name, "reconcile is no async function: write `async def`")
    return ReconcilingSkill(
        function, manifest, signature, asynchronous, reconcile, approval_reason=asks
    )


def _check_transactions(manifest: SkillManifest, signature: Signature) -> None:
    if manifest.effects == "transactional" or "transaction" in signature.injected.values():
        raise InvalidSkill(
            manifest.name,
            "it is to run in a transaction, for which it needs the decorator transactional_skill",
        )


def _check_dry_run(manifest: SkillManifest, signature: Signature) -> None:
    told = "invocation" in signature.injected.values()
    if manifest.resource_policy.dry_run_supported and not told and manifest.effects != "pure":
        raise InvalidSkill(
            manifest.name,
            "dry_run=True needs a parameter annotated SkillInvocation: how else would the"
            " function know that it must not act?",
        )
