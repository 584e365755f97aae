"""Every error that RainEngine raises on purpose.

There is one root and two families.
A `UsageError` is the caller's mistake: the same call fails again until it is changed.
A `FaultError` is the world's failure: the same call may succeed later.
Each leaf carries the facts as attributes and says in its message what to do about them.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

ProviderErrorKind: TypeAlias = Literal[
    "timeout", "transport", "rate_limited", "invalid_response", "configuration", "internal"
]
"""What went wrong with a model provider; `ProviderError.kind`."""

FailureKind: TypeAlias = Literal[
    "permission_denied",
    "capability_denied",
    "invalid_arguments",
    "timeout",
    "memory_limit_exceeded",
    "trap",
    "invalid_response",
    "internal",
    "unknown_outcome",
    "cancelled",
]
"""Why a tool call failed. `unknown_outcome`: it was started, and what it did is not known."""

WakeRefusal: TypeAlias = Literal["not_allowed", "too_many", "fired"]
"""Why a wake was not scheduled; `WakeRefused.reason`."""

PatchRefusal: TypeAlias = Literal["too_many", "known", "unknown", "approved", "rejected"]
"""Why a patch was not proposed or not resolved; `ProfilePatchRefused.reason`."""


class RainEngineError(Exception):
    """The root of all errors that RainEngine raises on purpose."""


class UsageError(RainEngineError):
    """The caller's mistake; the call has to change."""


class FaultError(RainEngineError):
    """The world's failure; the call may succeed when it is made again."""


# The caller's mistakes.


class InadmissibleValue(UsageError):
    """A value breaks the admission rule that holds on every store.

    `path` is a JSON path to the offending part (`$` is the whole), `reason` says what is wrong.
    """

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = path
        self.reason = reason


class InvalidConfiguration(UsageError):
    """A setting is missing or wrong; `field` names it."""

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(f"{field}: {reason}")
        self.field = field
        self.reason = reason


class InvalidSkill(UsageError):
    """A skill cannot be registered as it is declared."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"skill {name!r}: {reason}")
        self.name = name
        self.reason = reason


class SessionNotFound(UsageError):
    """The ledger holds nothing under this session id."""

    def __init__(self, session_id: str) -> None:
        super().__init__(
            f"session {session_id!r} has no records: start it with a ProcessRequest"
            " before you continue or read it"
        )
        self.session_id = session_id


class IdempotencyMismatch(UsageError):
    """The idempotency key was used before, with another request body."""

    def __init__(self, idempotency_key: str, trigger_id: str) -> None:
        super().__init__(
            f"idempotency key {idempotency_key!r} already belongs to trigger {trigger_id}, whose"
            " trigger, attachments or scopes differ: use a new key for a new request"
        )
        self.idempotency_key = idempotency_key
        self.trigger_id = trigger_id


class TransactionMisused(UsageError):
    """A function did with a borrowed transaction what it may not, or left it unfit to be stored.

    It tried to end it, to change the ledger's own tables, or left a constraint unfulfilled. Have
    it run statements on tables of its own, and nothing else. What it wrote was rolled back,
    unless `undone` is False: then the database could not keep it from ending the transaction,
    and what it wrote until then may be stored.
    """

    def __init__(self, reason: str, *, undone: bool = True) -> None:
        told = "nothing was stored" if undone else "what it wrote may be stored without a result"
        super().__init__(f"{told}: the function {reason}")
        self.undone = undone


class AgentMismatch(UsageError):
    """The run belongs to an agent that this engine does not serve."""

    def __init__(self, wanted: str, served: str) -> None:
        super().__init__(
            f"the run belongs to agent {wanted!r} and this engine serves {served!r}:"
            " hand the session to the engine of its agent"
        )
        self.wanted = wanted
        self.served = served


class RunOpen(UsageError):
    """A run is open, and the agent's profile has further messages rejected; nothing was stored."""

    def __init__(self, session_id: str, trigger_id: str) -> None:
        super().__init__(
            f"session {session_id!r} is busy with the run of trigger {trigger_id}, and its agent"
            " takes no message meanwhile: send it again once that run has ended"
        )
        self.session_id = session_id
        self.trigger_id = trigger_id


class WakeRefused(UsageError):
    """The wake was not scheduled; nothing was stored.

    `reason` says why: the agent's `WakePolicy` does not allow it (`not_allowed`), or no more than
    are pending (`too_many`), or the wake was there before and has fired (`fired`).
    """

    def __init__(self, session_id: str, wake_id: str, reason: WakeRefusal) -> None:
        super().__init__(
            f"wake {wake_id!r} of session {session_id!r} was not scheduled:"
            f" {_WAKE_REFUSALS[reason]}"
        )
        self.session_id = session_id
        self.wake_id = wake_id
        self.reason: WakeRefusal = reason


_WAKE_REFUSALS: dict[WakeRefusal, str] = {
    "not_allowed": "its agent's WakePolicy does not allow scheduled wakes",
    "too_many": "as many are pending as its agent's WakePolicy allows: wait until one has fired",
    "fired": "it has fired already, and a wake fires once: schedule a new one under a new id",
}


class ProfilePatchRefused(UsageError):
    """A patch of the agent's profile was not proposed or not resolved; nothing was stored.

    `reason` says why: too many wait for an answer (`too_many`), the id stands for another patch or
    one that is resolved (`known`), there is none of this id (`unknown`), or it was resolved before,
    by which it was `approved` or `rejected`.
    """

    def __init__(self, session_id: str, patch_id: str, reason: PatchRefusal) -> None:
        super().__init__(
            f"patch {patch_id!r} of the profile in session {session_id!r}:"
            f" {_PATCH_REFUSALS[reason]}"
        )
        self.session_id = session_id
        self.patch_id = patch_id
        self.reason: PatchRefusal = reason


_PATCH_REFUSALS: dict[PatchRefusal, str] = {
    "too_many": "too many wait for an answer already: resolve some of them",
    "known": "its id was used before: propose it under a new one",
    "unknown": "it does not wait for an answer: it is not known here, or was resolved long ago",
    "approved": "it is approved already",
    "rejected": "it is rejected already",
}


class UnknownPlugin(UsageError):
    """No installed distribution offers this name in the entry-point group."""

    def __init__(self, group: str, name: str, available: tuple[str, ...]) -> None:
        offered = ", ".join(available) or "none"
        super().__init__(
            f"nothing installed offers {name!r} in {group!r} (offered: {offered}):"
            " install the distribution that does"
        )
        self.group = group
        self.name = name
        self.available = available


class DuplicatePlugin(UsageError):
    """Two installed distributions claim one name in an entry-point group."""

    def __init__(self, group: str, name: str, distributions: tuple[str, ...]) -> None:
        super().__init__(
            f"{name!r} in {group!r} is claimed by {' and '.join(distributions)}: uninstall one"
        )
        self.group = group
        self.name = name
        self.distributions = distributions


class SchemaMismatch(UsageError):
    """The database holds another version of the ledger schema than this code speaks."""

    def __init__(self, found: str | None, expected: str, remedy: str) -> None:
        super().__init__(f"ledger schema is {found or 'absent'}, expected {expected}: {remedy}")
        self.found = found
        self.expected = expected
        self.remedy = remedy


# The world's failures: the ledger.


class LedgerError(FaultError):
    """The ledger could not do what was asked."""


class LedgerUnavailable(LedgerError):
    """The storage did not take the request; nothing of it was stored. Try again later."""


class LedgerBusy(LedgerUnavailable):
    """Another writer kept the storage locked for longer than the configured wait."""


class TransactionTimeout(LedgerUnavailable):
    """A transaction took longer than it may and was rolled back; have it do less."""


class LedgerFull(LedgerUnavailable):
    """The storage has no room left; free some, then try again."""


class LedgerReadOnly(LedgerUnavailable):
    """The storage does not allow writing; check permissions and mount options."""


class LedgerAccessDenied(LedgerUnavailable):
    """The storage refuses this user: correct the credentials, or grant the missing rights."""


class LedgerIOError(LedgerUnavailable):
    """The operating system failed to read or write the storage."""


class LedgerClosed(LedgerUnavailable):
    """The ledger handle was closed; open it again."""


class LedgerCorrupt(LedgerError):
    """What is stored cannot be what was written; restore from a backup or an export."""


class AppendUnknown(LedgerError):
    """Whether the append was stored could not be found out; load the session again to see."""


class SequenceConflict(LedgerError):
    """The session's head is not the one that the append expected; nothing was stored."""

    def __init__(self, session_id: str, expected: int, actual: int) -> None:
        super().__init__(
            f"session {session_id!r} is at sequence {actual}, not the head expected at {expected}:"
            " read what came in between and decide again"
        )
        self.session_id = session_id
        self.expected = expected
        self.actual = actual


class FenceLost(LedgerError):
    """A newer holder has taken the session's lease; nothing was stored. Stop working on it."""

    def __init__(self, session_id: str, fence: int, current: int) -> None:
        super().__init__(
            f"session {session_id!r} moved on to fence {current}; fence {fence} may no longer write"
        )
        self.session_id = session_id
        self.fence = fence
        self.current = current


class LeaseHeld(LedgerError):
    """Somebody else holds the session's lease; nothing was stored."""

    def __init__(self, session_id: str, owner: str, expires_at_ms: int) -> None:
        super().__init__(
            f"session {session_id!r} is leased to {owner!r} until {expires_at_ms} ms:"
            " wait or let the holder go on"
        )
        self.session_id = session_id
        self.owner = owner
        self.expires_at_ms = expires_at_ms


class DuplicateTrigger(LedgerError):
    """A trigger with this idempotency key is already in the session; nothing was stored."""

    def __init__(self, session_id: str, idempotency_key: str, sequence: int) -> None:
        super().__init__(
            f"session {session_id!r} already holds idempotency key {idempotency_key!r}"
            f" at sequence {sequence}"
        )
        self.session_id = session_id
        self.idempotency_key = idempotency_key
        self.sequence = sequence


# The world's failures: the engine.


class SessionBusy(FaultError):
    """Another process is advancing the session; come back after its lease or submit instead."""

    def __init__(self, session_id: str, owner: str, expires_at_ms: int) -> None:
        super().__init__(
            f"session {session_id!r} is being advanced by {owner!r} (lease until"
            f" {expires_at_ms} ms): try again later, or use submit() to queue the trigger"
        )
        self.session_id = session_id
        self.owner = owner
        self.expires_at_ms = expires_at_ms


class RunInProgress(FaultError):
    """The same request is already being worked on elsewhere and did not end in time."""

    def __init__(self, session_id: str, trigger_id: str) -> None:
        super().__init__(
            f"trigger {trigger_id} of session {session_id!r} is still running elsewhere:"
            " ask again later with the same idempotency key"
        )
        self.session_id = session_id
        self.trigger_id = trigger_id


class ProviderError(FaultError):
    """A model provider failed. `retry_after_ms` is the provider's own advice, where it gave one."""

    def __init__(
        self,
        message: str,
        *,
        kind: ProviderErrorKind,
        retryable: bool,
        retry_after_ms: int | None = None,
    ) -> None:
        super().__init__(message)
        self.kind: ProviderErrorKind = kind
        self.retryable = retryable
        self.retry_after_ms = retry_after_ms


class EffectNotApplied(FaultError):
    """Raised by an unsafe skill that failed before anything happened outside.

    The engine then knows that the call is not in doubt, and may retry it.
    """


class Undeliverable(FaultError):
    """Raised by an `OutboxPublisher` for a row that its receiver will never accept."""


class NoSuchAgent(FaultError):
    """There is no engine for an agent here. Give `engine_for` one, and it is tried again."""

    def __init__(self, agent: str) -> None:
        super().__init__(f"engine_for() has no engine for agent {agent!r}: give it one")
        self.agent = agent


class SkillFailure(FaultError):
    """Raised by a skill to fail with a kind of its own choosing, such as `permission_denied`."""

    def __init__(self, kind: FailureKind, message: str) -> None:
        super().__init__(message)
        self.kind: FailureKind = kind
