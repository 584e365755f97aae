"""Why a tool call may not start. Asked in this order; the first reason counts."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import attrs

from rainengine.core.projection import SkillRecord
from rainengine.core.records import (
    EnginePolicy,
    FailureKind,
    PlannedSkillCall,
    SkillManifest,
    ToolFailure,
)

BREAKER_MIN_CALLS = 3
BREAKER_COOL_DOWN_MS = 30_000


@attrs.frozen(kw_only=True)
class CallFacts:
    """What the kernel has to know of a call to let it start.

    `approval` is why it needs one that it does not have; `tried`: another call of the same skill in
    the same graph was let through.
    """

    call: PlannedSkillCall
    manifest: SkillManifest | None
    native: bool
    allowed: bool
    argument_errors: tuple[str, ...]
    granted_scopes: tuple[str, ...]
    history: SkillRecord | None
    now_ms: int
    approval: str | None = None
    tried: bool = False


Refusal: TypeAlias = Callable[[CallFacts, SkillManifest, EnginePolicy], str | None]


def breaker_is_open(
    history: SkillRecord, threshold: float, now_ms: int, *, tried: bool = False
) -> bool:
    """Whether a skill has failed too often of late to be called.

    Open at `failures / calls >= threshold` over the newest calls, once there are three.
    After a cool-down one trial call at a time is let through: a success closes the circuit until
    the next failure, a failure opens it for another cool-down. `tried` says that there is a
    trial already.
    """
    recent = history.recent
    if len(recent) < BREAKER_MIN_CALLS or recent.count(False) / len(recent) < threshold:
        return False
    # A clock that was set back counts as cooled down: better one trial too early than none.
    if 0 <= now_ms - history.last_failure_at_ms < BREAKER_COOL_DOWN_MS:
        return True
    return tried and not recent[-1]


def _arguments(facts: CallFacts, manifest: SkillManifest, policy: EnginePolicy) -> str | None:
    if not policy.validate_tool_args or not facts.argument_errors:
        return None
    return "; ".join(facts.argument_errors)


def _scopes(facts: CallFacts, manifest: SkillManifest, policy: EnginePolicy) -> str | None:
    missing = [s for s in manifest.required_scopes if s not in facts.granted_scopes]
    return f"missing scopes: {', '.join(missing)}" if missing else None


def _profile(facts: CallFacts, manifest: SkillManifest, policy: EnginePolicy) -> str | None:
    return None if facts.allowed else "the agent's profile does not allow this skill"


def _native(facts: CallFacts, manifest: SkillManifest, policy: EnginePolicy) -> str | None:
    if policy.allow_native_skills or not facts.native:
        return None
    return "the policy does not allow native skills"


def _approval(facts: CallFacts, manifest: SkillManifest, policy: EnginePolicy) -> str | None:
    return None if facts.approval is None else f"not approved: {facts.approval}"


def _dry_run(facts: CallFacts, manifest: SkillManifest, policy: EnginePolicy) -> str | None:
    if not facts.call.dry_run:
        return None
    if not policy.enable_tool_dry_run:
        return "the policy does not allow dry runs"
    return None if manifest.resource_policy.dry_run_supported else "does not support dry runs"


def _circuit(facts: CallFacts, manifest: SkillManifest, policy: EnginePolicy) -> str | None:
    threshold = manifest.circuit_breaker_threshold
    history, now_ms, tried = facts.history, facts.now_ms, facts.tried
    if history is None or not breaker_is_open(history, threshold, now_ms, tried=tried):
        return None
    return "its circuit breaker is open: it failed too often of late"


REFUSALS: tuple[tuple[FailureKind, Refusal], ...] = (
    ("invalid_arguments", _arguments),
    ("permission_denied", _scopes),
    ("permission_denied", _profile),
    ("permission_denied", _native),
    ("permission_denied", _approval),
    ("capability_denied", _dry_run),
    ("internal", _circuit),
)


def refusal(facts: CallFacts, policy: EnginePolicy) -> ToolFailure | None:
    """Return why the call may not start, or None."""
    if facts.manifest is None:
        message = f"there is no skill named {facts.call.name!r:.200}"
        return ToolFailure(kind="invalid_arguments", message=message)
    for kind, reason_of in REFUSALS:
        reason = reason_of(facts, facts.manifest, policy)
        if reason is not None:
            return ToolFailure(kind=kind, message=reason)
    return None


def offered_skills(
    manifests: tuple[SkillManifest, ...],
    granted_scopes: tuple[str, ...],
    allowed: tuple[str, ...] | None,
    history: dict[str, SkillRecord],
) -> tuple[SkillManifest, ...]:
    """Return the skills that a model may be told of, with a warning on those that keep failing."""
    return tuple(
        _with_warning(manifest, history.get(manifest.name))
        for manifest in manifests
        if all(scope in granted_scopes for scope in manifest.required_scopes)
        and (allowed is None or manifest.name in allowed)
    )


def _with_warning(manifest: SkillManifest, history: SkillRecord | None) -> SkillManifest:
    if history is None or history.preference == "none":
        return manifest
    warning = "It has failed often of late; prefer another way where there is one."
    return attrs.evolve(manifest, description=f"{manifest.description}\n\n{warning}")
