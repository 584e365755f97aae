"""The protocol of skills: what an agent can do."""

from __future__ import annotations

from typing import Protocol, TypeAlias, runtime_checkable

import attrs

from rainengine.core.records import JsonObject, JsonValue, SkillManifest


@attrs.frozen(kw_only=True)
class SkillContext:
    """Where a call comes from and what it may do. `fence` rises with each holder of the session."""

    tenant: str
    session_id: str
    trigger_id: str
    graph_id: str
    step: int
    granted_scopes: tuple[str, ...]
    fence: int


@attrs.frozen(kw_only=True)
class SkillInvocation:
    """One call of a skill.

    `idempotency_key` is the same on every attempt and after every crash:
    pass it on to whatever is changed outside. `attempt` counts from 1.
    """

    call_id: str
    name: str
    args: JsonObject
    idempotency_key: str
    attempt: int
    dry_run: bool
    context: SkillContext


@attrs.frozen
class Settled:
    """The call did happen, with this value."""

    value: JsonValue


@attrs.frozen
class NotStarted:
    """The call did not happen, and the system behind it refuses the older attempt from now on."""


@attrs.frozen
class Undetermined:
    """It cannot be found out whether the call happened."""


Reconciliation: TypeAlias = Settled | NotStarted | Undetermined


@runtime_checkable
class Skill(Protocol):
    """Something an agent can do. `native` skills run in this process, without a sandbox."""

    @property
    def manifest(self) -> SkillManifest:
        """Name, contract and needs."""
        ...

    @property
    def native(self) -> bool:
        """Whether it runs unsandboxed."""
        ...

    async def invoke(self, invocation: SkillInvocation) -> object:
        """Do it and return a JSON value, or something that turns into one (attrs, dataclass).

        Any exception is a failed call. `EffectNotApplied` says that nothing happened outside;
        `SkillFailure` chooses the kind of failure.
        """
        ...


@runtime_checkable
class AsksApproval(Protocol):
    """A skill that says by a call's arguments whether a person has to allow it."""

    def approval_reason(self, args: JsonObject) -> str | bool | None:
        """Return why the call needs an approval, or whether it does.

        Pure, and asked of arguments that fit the schema, in which defaults are not filled in.
        An exception counts as a reason.
        """
        ...


@runtime_checkable
class Reconciler(Protocol):
    """A skill that can find out what became of a call that was interrupted."""

    async def reconcile(self, invocation: SkillInvocation) -> Reconciliation:
        """Say whether the call happened. An exception counts as `Undetermined`."""
        ...
