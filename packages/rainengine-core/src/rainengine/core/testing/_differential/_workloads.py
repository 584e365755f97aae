"""Workloads that between them pass through every state in which a process can die."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import TypeAlias

import attrs
import trio

from rainengine.core.abc import ProviderDecision, Reconciliation, Skill, SkillInvocation, Usage
from rainengine.core.engine import AgentEngine, ProcessRequest
from rainengine.core.errors import EffectNotApplied, ProviderError
from rainengine.core.inmemory import ScriptedProvider, Turn
from rainengine.core.records import (
    CallSkills,
    Continue,
    EffectClass,
    EnginePolicy,
    Message,
    Plan,
    PlannedSkillCall,
    ResourcePolicy,
    Respond,
    RetryPolicy,
    SkillManifest,
    SystemObservation,
)
from rainengine.core.testing._differential._process import Step, Workload
from rainengine.core.testing._differential._receivers import Receiver, answer_to

QUICK = RetryPolicy(initial_interval_ms=1, max_interval_ms=1)
SESSION = "session"


def by_step(*turns: Turn) -> Callable[[], ScriptedProvider]:
    """Make providers that answer step n of any run with turn n, the last one for ever."""
    return lambda: ScriptedProvider(
        lambda request: turns[min(request.context.step, len(turns)) - 1]
    )


def by_message(scripts: Mapping[str, Sequence[Turn]]) -> Callable[[], ScriptedProvider]:
    """Make providers that have a script for each message's content; `""` is for the others."""
    return lambda: ScriptedProvider(
        lambda request: scripts[getattr(request.trigger, "content", "")][request.context.step - 1]
    )


def request(key: str, *, session_id: str = SESSION) -> ProcessRequest:
    """A message that says its own idempotency key."""
    trigger = Message(user_id="user", content=key)
    return ProcessRequest(session_id=session_id, trigger=trigger, idempotency_key=key)


def calls(*planned: PlannedSkillCall) -> CallSkills:
    """Decide on a graph of calls."""
    return CallSkills(planned)


def call(name: str, call_id: str = "", *, after: Sequence[str] = ()) -> PlannedSkillCall:
    """Plan a call whose id is its skill's name, unless it is given another."""
    call_id = call_id or name
    return PlannedSkillCall(
        call_id=call_id, name=name, args={"item": call_id}, depends_on=tuple(after)
    )


async def passes(count: int) -> None:
    """Take this many passes of the scheduler, as a call does that waits for something."""
    for _ in range(count):
        await trio.lowlevel.checkpoint()


async def _compute(receiver: Receiver, invocation: SkillInvocation) -> object:
    await passes(3)
    return answer_to(invocation)


async def _ponder(receiver: Receiver, invocation: SkillInvocation) -> object:
    await passes(9)
    return answer_to(invocation)


async def _fail(receiver: Receiver, invocation: SkillInvocation) -> object:
    await passes(2)
    raise RuntimeError("it never works")


async def _apply(receiver: Receiver, invocation: SkillInvocation) -> object:
    return await receiver.apply(invocation)


async def _insist(receiver: Receiver, invocation: SkillInvocation) -> object:
    value = await receiver.apply(invocation)
    if invocation.attempt == 1:
        raise ConnectionError("the answer was lost")
    return value


async def _strike(receiver: Receiver, invocation: SkillInvocation) -> object:
    return await receiver.strike(invocation)


async def _lose(receiver: Receiver, invocation: SkillInvocation) -> object:
    await receiver.strike(invocation)
    raise ConnectionError("the answer was lost")


async def _knock(receiver: Receiver, invocation: SkillInvocation) -> object:
    if invocation.attempt == 1:
        raise EffectNotApplied("the line was busy")
    return await receiver.strike(invocation)


_Act: TypeAlias = Callable[[Receiver, SkillInvocation], Awaitable[object]]


def named(name: str, description: str, effects: EffectClass) -> SkillManifest:
    """Make the manifest of a tool that takes an item, and is tried again quickly."""
    return SkillManifest(
        name=name,
        description=description,
        effects=effects,
        input_schema={
            "type": "object",
            "properties": {"item": {"type": "string"}},
            "required": ["item"],
        },
        resource_policy=ResourcePolicy(retry_policy=QUICK),
    )


_ACTS: tuple[tuple[SkillManifest, _Act], ...] = (
    (named("compute", "Computes.", "pure"), _compute),
    (named("ponder", "Computes for longer.", "pure"), _ponder),
    (named("fail", "Never works.", "pure"), _fail),
    (named("pay", "Pays under a key.", "idempotent"), _apply),
    (named("insist", "Pays under a key, and has to be asked twice.", "idempotent"), _insist),
    (named("send", "Sends, and cannot find out whether it did.", "unsafe"), _strike),
    (named("lose", "Sends, and loses the answer.", "unsafe"), _lose),
    (named("knock", "Is refused once, then sends.", "unsafe"), _knock),
)
_POST = named("post", "Sends, and can find out whether it did.", "unsafe")


@attrs.frozen
class _Tool:
    """A skill that acts on a receiver."""

    manifest: SkillManifest
    receiver: Receiver
    act: _Act
    native: bool = True

    async def invoke(self, invocation: SkillInvocation) -> object:
        return await self.act(self.receiver, invocation)


class _InquiringTool(_Tool):
    """A skill that can find out what became of a call."""

    async def reconcile(self, invocation: SkillInvocation) -> Reconciliation:
        return await self.receiver.look_up(invocation)


def outside(receiver: Receiver) -> list[Skill]:
    """Make a skill of each kind; those that are not pure act on the receiver."""
    tools: list[Skill] = [_Tool(manifest, receiver, act) for manifest, act in _ACTS]
    return [*tools, _InquiringTool(_POST, receiver, _strike)]


def _one_run(key: str) -> list[Step]:
    return [Step("run", request(key))]


def _limited(policy: EnginePolicy) -> Callable[..., AgentEngine]:
    return partial(AgentEngine, policy=policy)


def _paid(action: Turn) -> ProviderDecision:
    assert not isinstance(action, ProviderDecision | ProviderError)  # noqa: S101 - our own scripts
    usage = Usage(input_tokens=100, output_tokens=10, cost_micros=7)
    return ProviderDecision(action=action, usage=usage, model="scripted")


PLAIN = Workload(
    name="plain respond", script=_one_run("hello"), provider=by_step(_paid(Respond("hello")))
)

PARALLEL = Workload(
    name="three parallel tools",
    script=_one_run("parallel"),
    provider=by_step(
        _paid(calls(call("compute"), call("ponder"), call("pay"))), _paid(Respond("done"))
    ),
    skills=outside,
)

DEPENDENCIES = Workload(
    name="dependencies, retries, failures",
    script=_one_run("dependencies"),
    provider=by_step(
        calls(
            call("compute", "first"),
            call("insist", "second", after=["first"]),
            call("ponder", "third", after=["first"]),
            call("pay", "last", after=["second", "third"]),
            call("fail", "broken"),
            call("pay", "never", after=["broken"]),
            call("nothing", "absent"),
        ),
        calls(call("fail"), call("pay", "again")),
        Respond("done"),
    ),
    skills=outside,
)

EFFECTS = Workload(
    name="mixed effects",
    script=_one_run("effects"),
    provider=by_step(
        calls(call("compute"), call("pay"), call("send"), call("post")),
        calls(
            call("post", "post_2"),
            call("send", "send_2", after=["post_2"]),
            call("pay", "pay_2", after=["send_2"]),
            call("lose"),
            call("knock"),
            call("insist"),
        ),
        Respond("done"),
    ),
    skills=outside,
)

QUEUED = Workload(
    name="queued triggers",
    script=[
        Step("submit", request("first")),
        Step("advance", request("first")),
        Step("submit", request("second")),
        Step(
            "submit",
            ProcessRequest(
                session_id=SESSION,
                trigger=SystemObservation(source="disk", observation={"free": 17}),
                idempotency_key="third",
            ),
        ),
        Step("run", request("second")),
    ],
    provider=by_message(
        {
            "first": [calls(call("compute"), call("pay")), Respond("first is done")],
            "second": [
                Plan(summary="think", confidence=0.9),
                calls(call("pay")),
                Respond("second is done"),
            ],
            "": [Respond("seen")],
        }
    ),
    skills=outside,
)

PROVIDER_ERROR = Workload(
    name="provider error",
    script=[*_one_run("failing"), *_one_run("after")],
    provider=by_message(
        {
            "failing": [
                calls(call("pay")),
                ProviderError("the model is gone", kind="transport", retryable=True),
            ],
            "after": [Respond("better now")],
        }
    ),
    skills=outside,
)

MAX_STEPS = Workload(
    name="max steps",
    script=_one_run("endless"),
    provider=by_step(
        calls(), calls(call("pay")), Continue(), Plan(summary="on and on", confidence=0.1)
    ),
    skills=outside,
    engine=_limited(EnginePolicy(max_steps=5)),
)

NARROW = Workload(
    name="one at a time, in two sessions",
    script=[
        Step("advance", request("one")),
        Step("advance", request("other", session_id="other")),
        Step("run", request("one")),
        Step("run", request("other", session_id="other")),
    ],
    provider=by_step(
        calls(call("send", "a"), call("pay", "b"), call("post", "c"), call("send", "d")),
        Respond("done"),
    ),
    skills=outside,
    engine=_limited(EnginePolicy(max_parallel_skill_calls=1)),
)

PLAIN_WORKLOADS: tuple[Workload, ...] = (
    PLAIN,
    PARALLEL,
    DEPENDENCIES,
    EFFECTS,
    QUEUED,
    PROVIDER_ERROR,
    MAX_STEPS,
    NARROW,
)
"""Workloads that act and answer, and no more."""
