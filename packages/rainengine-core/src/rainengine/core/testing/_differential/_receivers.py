"""The world outside: what skills change, and what tells afterwards how often it was changed."""

from __future__ import annotations

from typing import Protocol

import attrs
import trio

from rainengine.core.abc import (
    NotStarted,
    Reconciliation,
    Settled,
    SkillInvocation,
)
from rainengine.core.errors import EffectNotApplied
from rainengine.core.records import JsonValue


class Receiver(Protocol):
    """A system that skills act upon. It survives the processes that talk to it."""

    async def apply(self, invocation: SkillInvocation) -> JsonValue:
        """Do it once for each idempotency key; the same key again gives the first answer."""
        ...

    async def strike(self, invocation: SkillInvocation) -> JsonValue:
        """Do it, each time anew.

        Raises `EffectNotApplied` where `look_up` has shut out this attempt.
        """
        ...

    async def look_up(self, invocation: SkillInvocation) -> Reconciliation:
        """Say whether the call was done; if it was not, shut out attempts of older holders."""
        ...


def call_label(graph_id: str, call_id: str) -> str:
    """Name a call, unlike any other in its tenant."""
    return f"{graph_id}/{call_id}"


def answer_to(invocation: SkillInvocation) -> JsonValue:
    """What a receiver says: the same however often it is asked."""
    return {"did": invocation.name, "args": invocation.args}


@attrs.define
class Deeds:
    """What a receiver did, and the rules by which it does it. Pure: it awaits nothing."""

    counts: dict[str, int] = attrs.field(factory=dict[str, int])
    keys: set[str] = attrs.field(factory=set[str])
    floors: dict[str, tuple[int, int]] = attrs.field(factory=dict[str, tuple[int, int]])

    def apply(self, call: str, key: str) -> None:
        """Count the call unless its key is known."""
        if key not in self.keys:
            self.keys.add(key)
            self._count(call)

    def strike(self, call: str, key: str, age: tuple[int, int]) -> bool:
        """Count the call; False where this attempt was shut out."""
        if age < self.floors.get(key, age):
            return False
        self.keys.add(key)
        self._count(call)
        return True

    def look_up(self, key: str, age: tuple[int, int]) -> bool:
        """Say whether something was done under this key; if not, shut out what is older."""
        if key not in self.keys:
            self.floors[key] = max(age, self.floors.get(key, age))
        return key in self.keys

    def _count(self, call: str) -> None:
        self.counts[call] = self.counts.get(call, 0) + 1


@attrs.define
class InMemoryReceiver:
    """A `Receiver` in this process. Each request takes two passes of the scheduler."""

    deeds: Deeds = attrs.field(factory=Deeds)

    async def apply(self, invocation: SkillInvocation) -> JsonValue:
        """Do it once for each idempotency key."""
        await trio.lowlevel.checkpoint()
        self.deeds.apply(label_of(invocation), invocation.idempotency_key)
        await trio.lowlevel.checkpoint()
        return answer_to(invocation)

    async def strike(self, invocation: SkillInvocation) -> JsonValue:
        """Do it, each time anew. Raises `EffectNotApplied`."""
        await trio.lowlevel.checkpoint()
        if not self.deeds.strike(
            label_of(invocation), invocation.idempotency_key, age_of(invocation)
        ):
            raise EffectNotApplied("a newer holder has shut out this attempt")
        await trio.lowlevel.checkpoint()
        return answer_to(invocation)

    async def look_up(self, invocation: SkillInvocation) -> Reconciliation:
        """Say whether the call was done."""
        await trio.lowlevel.checkpoint()
        done = self.deeds.look_up(invocation.idempotency_key, age_of(invocation))
        return Settled(answer_to(invocation)) if done else NotStarted()


def label_of(invocation: SkillInvocation) -> str:
    """Name an invocation's call."""
    return call_label(invocation.context.graph_id, invocation.call_id)


def age_of(invocation: SkillInvocation) -> tuple[int, int]:
    """Order attempts: a newer holder's are younger, and so are later ones."""
    return invocation.context.fence, invocation.attempt
