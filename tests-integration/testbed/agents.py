"""An agent that acts on a counter in another process, and takes its time, so that it can be hit.

Its run: `pay` under a key and `send` without one, at once; then the answer.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Literal, TypeAlias

import attrs
import trio

from crash_sweep.counter import RemoteReceiver
from rainengine.core import (
    AgentEngine,
    CallSkills,
    PlannedSkillCall,
    Respond,
    ScriptedProvider,
    SkillInvocation,
)
from rainengine.core.abc import Ledger, ProviderRequest
from rainengine.core.records import SkillManifest

Moment: TypeAlias = Literal["paid", "sent"]
After: TypeAlias = Callable[[Moment], Awaitable[None]]
"""What happens after something was done outside, before its result is stored."""

NO_ARGUMENTS: dict[str, Any] = {"type": "object"}
CALLS = CallSkills(
    [
        PlannedSkillCall(call_id="pay", name="pay", args={}),
        PlannedSkillCall(call_id="send", name="send", args={}),
    ]
)


def decide(request: ProviderRequest) -> CallSkills | Respond:
    """Call both tools in a run's first step, answer in its second."""
    return CALLS if request.context.step == 1 else Respond("done")


@attrs.frozen
class Pay:
    """Counts once for each key."""

    receiver: RemoteReceiver
    after: After
    manifest: SkillManifest = SkillManifest(
        name="pay", description="Pays.", input_schema=NO_ARGUMENTS, effects="idempotent"
    )
    native: bool = True

    async def invoke(self, invocation: SkillInvocation) -> object:
        await self.receiver.apply(invocation)
        await self.after("paid")
        return "paid"


@attrs.frozen
class Send:
    """Counts each time."""

    receiver: RemoteReceiver
    after: After
    manifest: SkillManifest = SkillManifest(
        name="send", description="Sends.", input_schema=NO_ARGUMENTS, effects="unsafe"
    )
    native: bool = True

    async def invoke(self, invocation: SkillInvocation) -> object:
        await self.receiver.strike(invocation)
        await self.after("sent")
        return "sent"


def paused(seconds: float) -> After:
    """Take so long."""

    async def pause(moment: Moment) -> None:
        await trio.sleep(seconds)

    return pause


def make_engine(
    ledger: Ledger, receiver: RemoteReceiver, after: After, **options: Any
) -> AgentEngine:
    """Make the agent's engine."""
    return AgentEngine(
        ledger=ledger,
        provider=ScriptedProvider(decide),
        skills=[Pay(receiver, after), Send(receiver, after)],
        **options,
    )
