"""Manifests: how a decorator makes one of a function, and what an engine asks of any."""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast, get_args

import attrs

from rainengine.core import codec
from rainengine.core.errors import InadmissibleValue, InvalidSkill
from rainengine.core.records import EffectClass, ResourcePolicy, SkillManifest
from rainengine.core.tools._native import AskApproval
from rainengine.core.tools._signatures import Signature, first_paragraph, read_signature

_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")


@attrs.frozen(kw_only=True)
class Declaration:
    """What a decorator was told of the skill that it makes. None: as the function says."""

    name: str | None
    description: str | None
    version: str
    scopes: Sequence[str]
    effects: EffectClass
    resources: ResourcePolicy
    approval_required: bool | AskApproval
    circuit_breaker_threshold: float

    @property
    def asks(self) -> AskApproval | None:
        """What says by a call's arguments whether it needs an approval."""
        return None if isinstance(self.approval_required, bool) else self.approval_required

    def read(
        self, function: Callable[..., Any], local_names: Mapping[str, Any]
    ) -> tuple[SkillManifest, Signature]:
        """Make a manifest of it and the function. Raises `InvalidSkill`."""
        name = self.name or str(getattr(function, "__name__", "?"))
        _check_function(name, function)
        _check_asking(name, self.asks)
        signature = read_signature(name, function, local_names)
        manifest = SkillManifest(
            name=name,
            description=self.description or first_paragraph(function.__doc__),
            input_schema=signature.schema,
            version=self.version,
            effects=self.effects,
            required_scopes=_scopes(name, self.scopes),
            resource_policy=self.resources,
            approval_required=self.approval_required is True,
            circuit_breaker_threshold=self.circuit_breaker_threshold,
        )
        _check_options(manifest)
        return manifest, signature


def names_of_caller() -> Mapping[str, Any]:
    """Return the names where a decorated function is defined: its types may be local there.

    To be called by the function that is called there.
    """
    frame = inspect.currentframe()
    for _ in range(2):
        frame = frame and frame.f_back
    return frame.f_locals if frame else {}


def _check_function(name: str, function: object) -> None:
    if not inspect.isfunction(function):
        raise InvalidSkill(
            name, f"{type(function).__name__} is no function: decorate an `async def` or a `def`"
        )
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise InvalidSkill(name, "is a generator: return one value, such as a list")


def _check_asking(name: str, asks: object) -> None:
    if asks is None or (callable(asks) and not inspect.iscoroutinefunction(asks)):
        return
    raise InvalidSkill(
        name,
        f"approval_required={asks!r:.100} is neither True nor a plain function of the arguments",
    )


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
