"""What a session has to go on to tune itself. Bounded, and replaced rather than changed."""

from __future__ import annotations

from typing import Literal

import attrs

from rainengine.core.records import ProfilePatch

EVIDENCE = 8
PATCHES = 32


@attrs.frozen(kw_only=True)
class LimitHistory:
    """How a limit of the policy ended runs, since it was last tuned.

    It did so `stops` times; `evidence` are the newest of these runs, by their triggers, and
    `allowed` is what it allowed the last one. `since`: so many runs had ended before the first.
    `rollbacks` is how often a tuning of it was taken back, ever.
    """

    stops: int = 0
    since: int = 0
    allowed: int = 0
    evidence: tuple[str, ...] = ()
    rollbacks: int = 0


@attrs.frozen(kw_only=True)
class Proposal:
    """A tuning that was recorded and is not in force. `value` is the one that it would set.

    `confirmations` later runs were ended by the limit before they reached `value`; the newest of
    them are `confirmed_by`. Where it was `rejected_unsafe`, `value` is the limit that stays.
    """

    tuning_id: str
    sequence: int
    status: Literal["proposed", "rejected_unsafe"]
    value: int
    confirmations: int = 0
    confirmed_by: tuple[str, ...] = ()


@attrs.frozen(kw_only=True)
class TuningReference:
    """Where a tuning stands in the ledger."""

    tuning_id: str
    sequence: int


@attrs.frozen(kw_only=True)
class Learning:
    """What was learned from the `runs` that have ended.

    `limits` and `proposals` go by the policy's field, `tuned` says where each value of the overlay
    comes from. `patches` of the agent's profile wait for an answer; the newest of those that have
    one are `resolved_patches`.
    """

    runs: int = 0
    limits: dict[str, LimitHistory] = attrs.field(factory=dict[str, LimitHistory])
    proposals: dict[str, Proposal] = attrs.field(factory=dict[str, Proposal])
    tuned: dict[str, TuningReference] = attrs.field(factory=dict[str, TuningReference])
    last_rollback: TuningReference | None = None
    patches: dict[str, ProfilePatch] = attrs.field(factory=dict[str, ProfilePatch])
    resolved_patches: dict[str, Literal["approved", "rejected"]] = attrs.field(
        factory=dict[str, Literal["approved", "rejected"]]
    )
