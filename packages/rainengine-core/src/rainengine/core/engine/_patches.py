"""Patches of the agent's profile: proposing and resolving them. None is applied here.

A patch that widens waits for somebody's word, unless the operator wants none; then, and if it
only narrows, it is approved as it is recorded. Either way it does nothing by itself: the profile
is what the operator's code gives to the engine.
"""

from __future__ import annotations

from typing import Literal

import attrs

from rainengine.core import codec
from rainengine.core.abc import IdSource
from rainengine.core.engine._requests import Agent
from rainengine.core.engine._session import OpenSession, Outdated
from rainengine.core.errors import (
    AgentMismatch,
    InadmissibleValue,
    PatchRefusal,
    ProfilePatchRefused,
)
from rainengine.core.kernel import widening
from rainengine.core.projection import PATCHES, Learning
from rainengine.core.records import EnginePolicy, JsonObject, ProfilePatch

_MAX_PATCH_BYTES = 64 * 1024


@attrs.frozen(kw_only=True, eq=False)
class Patches:
    """Proposes and resolves patches of one agent's profile."""

    agent: Agent
    policy: EnginePolicy
    ids: IdSource

    def proposal(self, patch: JsonObject, patch_id: str | None, reason: str) -> ProfilePatch:
        """Make the record of a patch, under a new id if it has none. Raises `InadmissibleValue`."""
        patch_id = self.ids.new_id() if patch_id is None else patch_id
        codec.check_identifier("patch_id", patch_id)
        own = codec.to_json_object(patch, cap=_MAX_PATCH_BYTES)
        widened = widening(self.agent.profile, own)
        asks = self.policy.self_improvement.require_approval_for_scope_expansion
        return ProfilePatch(
            patch_id=patch_id,
            patch=own,
            widens=bool(widened),
            widening=widened,
            status="proposed" if widened and asks else "approved",
            agent=self.agent.ref,
            reason=reason,
        )

    async def propose(self, session: OpenSession, record: ProfilePatch) -> ProfilePatch:
        """Record a patch, unless it is there. Raises `ProfilePatchRefused`."""
        learning = await _up_to_date(session)
        pending = learning.patches.get(record.patch_id)
        if pending is not None and pending.patch == record.patch:
            return pending
        if pending is not None or record.patch_id in learning.resolved_patches:
            raise ProfilePatchRefused(session.session_id, record.patch_id, "known")
        if record.status == "proposed" and len(learning.patches) >= PATCHES:
            raise ProfilePatchRefused(session.session_id, record.patch_id, "too_many")
        await session.note(record)
        return record

    async def resolve(
        self,
        session: OpenSession,
        patch_id: str,
        status: Literal["approved", "rejected"],
        resolved_by: str,
    ) -> ProfilePatch:
        """Record what was said to a patch. Raises `ProfilePatchRefused` and `AgentMismatch`."""
        learning = await _up_to_date(session)
        pending = learning.patches.get(patch_id)
        if pending is None:
            reason: PatchRefusal = learning.resolved_patches.get(patch_id) or "unknown"
            raise ProfilePatchRefused(session.session_id, patch_id, reason)
        if pending.agent.name != self.agent.name:
            raise AgentMismatch(pending.agent.name, self.agent.name)
        record = attrs.evolve(pending, status=status, resolved_by=resolved_by)
        await session.note(record)
        return record


def check_answer(status: object, resolved_by: object) -> None:
    """Raise `InadmissibleValue` for what is no answer to a patch."""
    if status not in ("approved", "rejected"):
        raise InadmissibleValue("status", f"{status!r:.100} is neither approved nor rejected")
    codec.check_identifier("resolved_by", resolved_by)


async def _up_to_date(session: OpenSession) -> Learning:
    if session.tenure.may_be_behind() and not await session.refresh():
        raise Outdated
    return session.projection.learning
