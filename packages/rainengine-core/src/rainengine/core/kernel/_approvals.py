"""When a person has to be asked before something happens."""

from __future__ import annotations

from rainengine.core.projection import SessionProjection
from rainengine.core.records import AgentProfile, SkillManifest


def approval_reason(
    manifest: SkillManifest, profile: AgentProfile, *, native: bool, asked_for: str | None
) -> str | None:
    """Return why a call needs an approval, or None. `asked_for` is what its skill says itself."""
    if asked_for is not None:
        return asked_for
    if manifest.approval_required:
        return f"{manifest.name} needs an approval"
    reserved = profile.escalation.require_human_approval_scopes
    escalated = [scope for scope in manifest.required_scopes if scope in reserved]
    if escalated:
        return f"{manifest.name} uses {', '.join(escalated)}, which a person has to allow"
    if native and profile.review.require_review_for_native_skills:
        return f"{manifest.name} is a native skill, and these are reviewed"
    return None


def delegation_review(projection: SessionProjection, profile: AgentProfile) -> str | None:
    """Return why a delegation needs an approval, or None."""
    if profile.review.require_review_for_delegation:
        return "delegations are reviewed"
    limit = profile.escalation.max_auto_delegations
    if projection.auto_delegations >= limit:
        return f"{limit} delegations went out unasked, which is the limit"
    return None
