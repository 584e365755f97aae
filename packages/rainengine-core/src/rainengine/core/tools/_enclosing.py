"""A call as the commit of its own result: what runs inside the transaction."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import attrs

from rainengine.core import codec
from rainengine.core.abc import OutboxItem, SkillInvocation, TransactionalSkill
from rainengine.core.kernel import Ended, Progress
from rainengine.core.records import JsonValue, Record
from rainengine.core.tools._attempts import Attempt, Limits, apply


class RolledBack(Exception):
    """Raised inside a transaction to undo it; `attempt` is what came of the call."""

    def __init__(self, attempt: Attempt) -> None:
        super().__init__("nothing is stored")
        self.attempt = attempt


@attrs.frozen
class Consequence:
    """What a transaction stores beside a skill's rows."""

    records: Sequence[Record]
    outbox: Sequence[OutboxItem]


@attrs.frozen(eq=False)
class OpenTransaction:
    """Implements `abc.Transaction` for one call. `cap` bounds what is published, in bytes."""

    connection: Any
    invocation: SkillInvocation
    cap: int
    published: list[OutboxItem] = attrs.field(factory=list[OutboxItem], init=False)

    def publish(self, topic: str, payload: JsonValue) -> None:
        """Have something delivered if the transaction commits. Raises `InadmissibleValue`."""
        codec.check_identifier("topic", topic)
        self.published.append(OutboxItem(topic=topic, payload=codec.to_json(payload, cap=self.cap)))


@attrs.define(eq=False)
class EnclosedCall:
    """Does one call, given a connection, and works out what to append.

    It runs in another thread, and may run again after it was rolled back. So `follow` depends on
    nothing that changes until the transaction is over; `progress` is that of the last time.
    """

    skill: TransactionalSkill
    invocation: SkillInvocation
    limits: Limits
    follow: Callable[[Ended], Progress]
    progress: Progress | None = None

    def __call__(self, connection: Any) -> Consequence:
        """Call the skill. Raises `RolledBack` where nothing is to be stored."""
        began_s = time.monotonic()
        transaction = OpenTransaction(connection, self.invocation, self.limits.value_bytes)
        outcome = apply(self.skill, transaction, self.limits)
        if outcome.failure is not None or self.invocation.dry_run:
            raise RolledBack(outcome)
        ended = Ended(
            call_id=self.invocation.call_id,
            value=outcome.value,
            attempts=self.invocation.attempt,
            duration_ms=round((time.monotonic() - began_s) * 1000),
        )
        self.progress = self.follow(ended)
        return Consequence(self.progress.records, transaction.published)
