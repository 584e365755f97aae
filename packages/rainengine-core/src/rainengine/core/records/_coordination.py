"""Records of waiting for others: approvals and delegations."""

from __future__ import annotations

from typing import ClassVar, Literal

import attrs

from rainengine.core.records._actions import DelegatedTask, DelegationTarget, PlannedSkillCall
from rainengine.core.records._base import JsonValue, Record


@attrs.frozen(kw_only=True)
class PendingApproval(Record):
    """The run waits for a person.

    `calls_hash` is the SHA-256 (hex) over skill, version and arguments of every call:
    what is approved is what was shown. `expires_at_ms` is Unix time.
    """

    kind: ClassVar[str] = "pending_approval"
    resume_token: str
    reason: str
    calls: tuple[PlannedSkillCall, ...] = ()
    calls_hash: str = ""
    granted_scopes: tuple[str, ...] = ()
    approver_scopes: tuple[str, ...] = ()
    expires_at_ms: int | None = None


@attrs.frozen(kw_only=True)
class ApprovalResolution(Record):
    """A person answered. Approved calls may have been edited."""

    kind: ClassVar[str] = "approval_resolution"
    resume_token: str
    decision: Literal["approved", "rejected"]
    approver: str
    metadata: JsonValue = None
    edited_calls: tuple[PlannedSkillCall, ...] | None = None


@attrs.frozen(kw_only=True)
class Delegation(Record):
    """Work was handed to another worker."""

    kind: ClassVar[str] = "delegation"
    correlation_id: str
    target: DelegationTarget
    task: DelegatedTask
    granted_scopes: tuple[str, ...] = ()
    budget_micros: int | None = None
