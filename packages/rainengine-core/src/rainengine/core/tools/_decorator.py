"""The decorator that makes a skill of a function."""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ParamSpec, TypeVar, cast, get_args, overload

from rainengine.core import codec
from rainengine.core.errors import InadmissibleValue, InvalidSkill
from rainengine.core.records import EffectClass, ResourcePolicy, RetryPolicy, SkillManifest
from rainengine.core.tools._native import NativeSkill as NativeSkill
from rainengine.core.tools._native import Reconcile, ReconcilingSkill
from rainengine.core.tools._signatures import Signature, first_paragraph, read_signature

P = ParamSpec("P")
R = TypeVar("R")

_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")


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
    approval_required: bool = False,
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
    approval_required: bool = False,
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
    `reconcile` finds out what became of an interrupted call, and makes the skill an
    `abc.Reconciler`. An open circuit is at `circuit_breaker_threshold` failures a call.

    Raises `InvalidSkill`, naming the skill and what to change.
    """

    def decorate(undecorated: Callable[..., Any]) -> NativeSkill[..., Any]:
        return make(undecorated, _names_of_caller())

    def make(undecorated: Callable[..., Any], beside: Mapping[str, Any]) -> NativeSkill[..., Any]:
        named = name or str(getattr(undecorated, "__name__", "?"))
        _check_function(named, undecorated)
        signature = read_signature(named, undecorated, beside)
        manifest = SkillManifest(
            name=named,
            description=description or first_paragraph(undecorated.__doc__),
            input_schema=signature.schema,
            version=version,
            effects=effects,
            required_scopes=_scopes(named, scopes),
            resource_policy=ResourcePolicy(
                timeout_ms=timeout_ms,
                priority_class=priority,
                retry_policy=retry or RetryPolicy(),
                dry_run_supported=dry_run,
            ),
            approval_required=approval_required,
            circuit_breaker_threshold=circuit_breaker_threshold,
        )
        _check_options(manifest)
        _check_dry_run(manifest, signature)
        return _build(undecorated, manifest, signature, reconcile)

    return decorate if function is None else make(function, _names_of_caller())


def _names_of_caller() -> Mapping[str, Any]:
    """The names where the function is defined: its types may be local to another function."""
    frame = inspect.currentframe()
    for _ in range(2):
        frame = frame and frame.f_back
    return frame.f_locals if frame else {}


def _build(
    function: Callable[..., Any],
    manifest: SkillManifest,
    signature: Signature,
    reconcile: Reconcile | None,
) -> NativeSkill[..., Any]:
    parts = (function, manifest, signature.shape, signature.injected)
    asynchronous = inspect.iscoroutinefunction(function)
    if reconcile is None:
        return NativeSkill(*parts, asynchronous)
    if not inspect.iscoroutinefunction(reconcile):
        raise InvalidSkill(manifest.name, "reconcile is no async function: write `async def`")
    return ReconcilingSkill(*parts, asynchronous, reconcile)


def _check_function(name: str, function: object) -> None:
    if not inspect.isfunction(function):
        raise InvalidSkill(
            name, f"{type(function).__name__} is no function: decorate an `async def` or a `def`"
        )
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise InvalidSkill(name, "is a generator: return one value, such as a list")


def _scopes(name: str, scopes: Sequence[str]) -> tuple[str, ...]:
    if isinstance(scopes, str):
        raise InvalidSkill(name, f"scopes={scopes!r} is one text: write a list, [{scopes!r}]")
    if not all(map(_is_text, scopes)):
        raise InvalidSkill(name, f"scopes={scopes!r} holds what is no scope: use texts")
    return tuple(scopes)


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value)


def check_manifest(manifest: SkillManifest) -> None:
    """Raise `InvalidSkill` where an engine could not offer or record a skill; for any skill."""
    try:
        codec.to_json(manifest)
    except InadmissibleValue as error:
        raise InvalidSkill(f"{manifest.name!s:.64}", f"its manifest: {error}") from error
    rules = {
        "its name must be 1 to 64 of a-z A-Z 0-9 _ -, which model APIs take":
            _is_text(manifest.name) and _NAME.fullmatch(manifest.name),
        "its description must be a text": isinstance(cast(object, manifest.description), str),
        "its version must be a text that is not empty": _is_text(manifest.version),
        f"effects={manifest.effects!r} must be one of {', '.join(get_args(EffectClass))}":
            manifest.effects in get_args(EffectClass),
        "its required scopes must be a tuple of texts":
            isinstance(cast(object, manifest.required_scopes), tuple)
            and all(map(_is_text, manifest.required_scopes)),
    }  # fmt: skip
    for reason, holds in rules.items():
        if not holds:
            raise InvalidSkill(f"{manifest.name!s:.64}", reason)


def _check_options(manifest: SkillManifest) -> None:
    resources, retry = manifest.resource_policy, manifest.resource_policy.retry_policy
    breaker = manifest.circuit_breaker_threshold
    factor = retry.backoff_multiplier
    rules = {
        "its name must be 1 to 64 of a-z A-Z 0-9 _ -, which model APIs take: pass name=":
            _NAME.fullmatch(manifest.name),
        "it has no description: write a docstring or pass description=": manifest.description,
        f"version={manifest.version!r} must be a text that is not empty":
            _is_text(manifest.version),
        f"effects={manifest.effects!r} must be one of {', '.join(get_args(EffectClass))}":
            manifest.effects in get_args(EffectClass),
        f"timeout_ms={resources.timeout_ms!r} must be a whole number of at least 1":
            _whole(resources.timeout_ms, 1),
        f"priority={resources.priority_class!r} must be a whole number":
            _whole(resources.priority_class, -(2**63)),
        f"retry.max_attempts={retry.max_attempts!r} must be at least 1":
            _whole(retry.max_attempts, 1),
        "retry's intervals must be whole milliseconds, 0 or more":
            _whole(retry.initial_interval_ms, 0) and _whole(retry.max_interval_ms, 0),
        f"retry.backoff_multiplier={factor!r} must be at least 1":
            math.isfinite(factor) and factor >= 1,
        f"circuit_breaker_threshold={breaker!r} must be above 0, and at most 1": 0 < breaker <= 1,
    }  # fmt: skip
    for reason, holds in rules.items():
        if not holds:
            raise InvalidSkill(manifest.name, reason)


def _whole(value: object, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _check_dry_run(manifest: SkillManifest, signature: Signature) -> None:
    told = "invocation" in signature.injected.values()
    if manifest.resource_policy.dry_run_supported and not told and manifest.effects != "pure":
        raise InvalidSkill(
            manifest.name,
            "dry_run=True needs a parameter annotated SkillInvocation: how else would the"
            " function know that it must not act?",
        )
