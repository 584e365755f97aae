"""Records of waiting for others: approvals, doubts put to people, and delegations."""

from __future__ import annotations

from typing import ClassVar, Literal

import attrs

from rainengine.core.records._actions import (
    Delegate,
    DelegatedTask,
    DelegationTarget,
    PlannedSkillCall,
)
from rainengine.core.records._base import JsonValue, Record
from rainengine.core.records._triggers import DoubtVerdict


@attrs.frozen(kw_only=True)
class PendingApproval(Record):
    """The run waits for a person.

    What is asked is whether `calls` may run, or whether `delegation` may go out, or what became
    of the calls in `doubts`; with none of them, whether to go on at all.
    `calls_hash` is the SHA-256 (hex) over skill, manifest and arguments of every call:
    what is approved is what was shown. `approver_scopes` are needed to answer, and whoever is the
    `excluded_approver` may not. `expires_at_ms` is Unix time.
    """

    kind: ClassVar[str] = "pending_approval"
    resume_token: str
    reason: str
    step: int
    calls: tuple[PlannedSkillCall, ...] = ()
    calls_hash: str = ""
    delegation: Delegate | None = None
    doubts: tuple[str, ...] = ()
    granted_scopes: tuple[str, ...] = ()
    approver_scopes: tuple[str, ...] = ()
    excluded_approver: str | None = None
    expires_at_ms: int | None = None


@attrs.frozen(kw_only=True)
class ApprovalResolution(Record):
    """A person answered, and with that the token is spent.

    Approved calls may have been edited; `edited_calls` are then those that run.
    Doubts are `answered`, by `verdicts`.
    """

    kind: ClassVar[str] = "approval_resolution"
    resume_token: str
    decision: Literal["approved", "rejected", "answered"]
    approver: str
    metadata: JsonValue = None
    edited_calls: tuple[PlannedSkillCall, ...] | None = None
    verdicts: tuple[DoubtVerdict, ...] = ()


@attrs.frozen(kw_only=True)
class Delegation(Record):
    """Work was handed to another worker.

    Its budget (millionths of a currency unit, and tokens) counts as reserved until its result is
    there. `depth` is how many delegations led to it, itself included; one that no person was
    asked about is `automatic`. After `expires_at_ms` (Unix time) no result is waited for any more.
    """

    kind: ClassVar[str] = "delegation"
    correlation_id: str
    target: DelegationTarget
    task: DelegatedTask
    step: int
    granted_scopes: tuple[str, ...] = ()
    budget_micros: int | None = None
    budget_tokens: int | None = None
    depth: int = 1
    automatic: bool = True
    expires_at_ms: int | None = None
