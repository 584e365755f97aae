"""Triggers: what sets an agent in motion."""

from __future__ import annotations

from typing import Literal

import attrs

from rainengine.core.records._base import JsonObject, JsonValue, Trigger


@attrs.frozen(kw_only=True)
class BlobRef:
    """A value in a blob store, by the SHA-256 of its content (hex) and its size in bytes."""

    digest: str
    size: int


@attrs.frozen(kw_only=True)
class Attachment:
    """A file that came with a trigger: inline as base64 text, or in the blob store."""

    name: str
    media_type: str
    data: str | None = None
    blob: BlobRef | None = None


@attrs.frozen(kw_only=True)
class Message(Trigger):
    """A user said something."""

    user_id: str
    content: str
    attachments: tuple[Attachment, ...] = ()
    type: Literal["message"] = attrs.field(default="message", init=False, repr=False)


@attrs.frozen(kw_only=True)
class HumanInput(Trigger):
    """A person who takes part in the run gave input."""

    actor_id: str
    content: str
    attachments: tuple[Attachment, ...] = ()
    type: Literal["human_input"] = attrs.field(default="human_input", init=False, repr=False)


@attrs.frozen(kw_only=True)
class ExternalEvent(Trigger):
    """Another system reported an event."""

    source: str
    payload: JsonValue
    attachments: tuple[Attachment, ...] = ()
    type: Literal["external_event"] = attrs.field(default="external_event", init=False, repr=False)


@attrs.frozen(kw_only=True)
class Webhook(Trigger):
    """A webhook was called."""

    source: str
    payload: JsonValue
    attachments: tuple[Attachment, ...] = ()
    type: Literal["webhook"] = attrs.field(default="webhook", init=False, repr=False)


@attrs.frozen(kw_only=True)
class SystemObservation(Trigger):
    """The host observed something."""

    source: str
    observation: JsonValue
    attachments: tuple[Attachment, ...] = ()
    type: Literal["system_observation"] = attrs.field(
        default="system_observation", init=False, repr=False
    )


@attrs.frozen(kw_only=True)
class RuleTrigger(Trigger):
    """A rule of the host fired."""

    rule_id: str
    context: JsonValue
    attachments: tuple[Attachment, ...] = ()
    type: Literal["rule"] = attrs.field(default="rule", init=False, repr=False)


@attrs.frozen(kw_only=True)
class ProactiveHeartbeat(Trigger):
    """Time to look around without being asked. `timestamp_ms` is Unix time."""

    timestamp_ms: int
    attachments: tuple[Attachment, ...] = ()
    type: Literal["heartbeat"] = attrs.field(default="heartbeat", init=False, repr=False)


@attrs.frozen(kw_only=True)
class ScheduledWake(Trigger):
    """A wake that the agent asked for is due. `due_at_ms` is Unix time."""

    wake_id: str
    due_at_ms: int
    reason: str
    type: Literal["scheduled_wake"] = attrs.field(default="scheduled_wake", init=False, repr=False)


@attrs.frozen(kw_only=True)
class Approval(Trigger):
    """Somebody answered a suspended run.

    `approver` is who, as the host knows it. `edited_args` replace the arguments of pending calls,
    by call id; only what is approved can be edited. The model is told the `comment`, and not the
    `metadata`.
    """

    resume_token: str
    decision: Literal["approved", "rejected"]
    approver: str = ""
    edited_args: JsonObject | None = None
    comment: str = ""
    metadata: JsonValue = None
    type: Literal["approval"] = attrs.field(default="approval", init=False, repr=False)


@attrs.frozen(kw_only=True)
class DoubtVerdict:
    """What a person found out about one call in doubt.

    It `happened` with this `value`; it `did_not_happen`, and is made again under the same key;
    or it stays unknown, and that is what the model is told (`give_up`).
    """

    call_id: str
    verdict: Literal["happened", "did_not_happen", "give_up"]
    value: JsonValue = None


@attrs.frozen(kw_only=True)
class DoubtResolution(Trigger):
    """Somebody settled the calls in doubt for which a run is suspended: every one of them."""

    resume_token: str
    verdicts: tuple[DoubtVerdict, ...]
    approver: str = ""
    metadata: JsonValue = None
    type: Literal["doubt_resolution"] = attrs.field(
        default="doubt_resolution", init=False, repr=False
    )


@attrs.frozen(kw_only=True)
class DelegationResult(Trigger):
    """The answer to work that the agent delegated.

    `cost_micros` (millionths of a currency unit) and `tokens` are what it used; where that is not
    known, all that was reserved for it counts as used. `failed`: it was not done, and a plan that
    counts on it is given up; the payload is not read for that.
    """

    correlation_id: str
    payload: JsonValue
    failed: bool = False
    cost_micros: int | None = None
    tokens: int | None = None
    metadata: JsonValue = None
    type: Literal["delegation_result"] = attrs.field(
        default="delegation_result", init=False, repr=False
    )
