"""Workloads whose runs wait for people and for other agents, and go on with what these say."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from functools import partial
from typing import Any

import attrs

from rainengine.core.abc import Ledger, Outbox, Skill
from rainengine.core.engine import Agent, AgentEngine
from rainengine.core.records import (
    AgentProfile,
    Approval,
    Delegate,
    DelegatedTask,
    DelegationResult,
    DelegationTarget,
    DoubtResolution,
    DoubtVerdict,
    EnginePolicy,
    PlannedSkillCall,
    Respond,
    ReviewPolicy,
    Suspend,
    Trigger,
)
from rainengine.core.testing._differential._process import Step, Workload
from rainengine.core.testing._differential._receivers import Receiver
from rainengine.core.testing._differential._workloads import (
    SESSION,
    by_message,
    call,
    calls,
    outside,
    request,
)

STREAM = "helpers"
_ASKING = frozenset({"pay", "send"})


def _answer(number: int, trigger: Trigger, key: str) -> Step:
    """Answer to wait `number` as somebody who may."""
    asked = attrs.evolve(request(key), trigger=trigger, granted_scopes=("scope:human_approval",))
    return Step("run", asked, answers=number)


def _says(decision: Any, **edits: Any) -> Approval:  # noqa: ANN401 - JSON
    return Approval(
        resume_token="", decision=decision, approver="reviewer", edited_args=edits or None
    )


def _guarded(receiver: Receiver) -> list[Skill]:
    """The skills, of which some need an approval."""
    return [_Guarded(one) if one.manifest.name in _ASKING else one for one in outside(receiver)]


@attrs.frozen
class _Guarded:
    """A skill that asks for an approval of each call."""

    inner: Skill

    @property
    def manifest(self) -> Any:  # noqa: ANN401 - as the protocol has it
        return attrs.evolve(self.inner.manifest, approval_required=True)

    @property
    def native(self) -> bool:
        return True

    async def invoke(self, invocation: Any) -> object:  # noqa: ANN401 - as the protocol has it
        return await self.inner.invoke(invocation)


def _edited(one: PlannedSkillCall) -> dict[str, Any]:
    return {"item": f"{one.call_id}, edited"}


APPROVALS = Workload(
    name="approvals",
    script=[
        Step("run", request("first")),
        Step("run", request("second")),
        Step("advance", request("meanwhile")),
        _answer(0, _says("approved", pay=_edited(call("pay"))), "yes"),
        _answer(1, _says("rejected"), "no"),
        _answer(0, _says("approved"), "too late"),
        Step("run", request("meanwhile")),
        _answer(2, _says("approved"), "go on"),
    ],
    provider=by_message(
        {
            "first": [
                calls(call("compute"), call("pay"), call("send", after=["pay"])),
                Respond("first is done"),
            ],
            "second": [calls(call("send"), call("compute")), Respond("second is done")],
            "meanwhile": [calls(call("compute")), Suspend(reason="and?"), Respond("and done")],
        }
    ),
    skills=_guarded,
)

DOUBTS = Workload(
    name="doubts",
    script=[
        Step("run", request("first")),
        _answer(
            0,
            DoubtResolution(
                resume_token="",
                verdicts=(
                    DoubtVerdict(call_id="lose", verdict="happened", value="sent before"),
                    DoubtVerdict(call_id="lose_2", verdict="give_up"),
                ),
                approver="reviewer",
            ),
            "settled",
        ),
    ],
    provider=by_message(
        {
            "first": [
                calls(
                    call("lose"),
                    call("ponder"),
                    call("lose", "lose_2"),
                    call("pay", after=["lose"]),
                    call("pay", "never", after=["lose_2"]),
                    call("post", after=["ponder"]),
                ),
                Respond("first is done"),
            ],
        }
    ),
    skills=outside,
    engine=partial(AgentEngine, policy=EnginePolicy(on_doubt="suspend")),
)


async def _count_rows(ledger: Ledger) -> Mapping[str, int]:
    """Count what the session has to be delivered, by topic."""
    if not isinstance(ledger, Outbox):
        return {}
    entries = await ledger.claim(ledger.tenant, SESSION, claim_ms=1)
    return Counter(f"row of {entry.topic}" for entry in entries)


def _delegate(task_type: str) -> Delegate:
    task = DelegatedTask(task_type=task_type, payload={"for": task_type})
    return Delegate(target=DelegationTarget(stream=STREAM), task=task)


def _result(
    payload: str, *, cost_micros: int | None = None, tokens: int | None = None
) -> DelegationResult:
    return DelegationResult(
        correlation_id="", payload=payload, cost_micros=cost_micros, tokens=tokens
    )


DELEGATION = Workload(
    name="delegation",
    script=[
        Step("run", request("first")),
        Step("advance", request("second")),
        _answer(0, _result("dug", cost_micros=7, tokens=5), "result"),
        _answer(0, _result("dug again"), "duplicate"),
        _answer(1, _result("found"), "other result"),
    ],
    provider=by_message(
        {
            "first": [
                calls(call("pay")),
                _delegate("dig"),
                calls(call("send")),
                Respond("first is done"),
            ],
            "second": [_delegate("find"), Respond("second is done")],
        }
    ),
    skills=outside,
    engine=partial(
        AgentEngine,
        agent=Agent(
            profile=AgentProfile(
                delegates=(STREAM,), review=ReviewPolicy(require_review_for_delegation=False)
            )
        ),
    ),
    tally=_count_rows,
)

WAITING: tuple[Workload, ...] = (APPROVALS, DOUBTS, DELEGATION)
"""Workloads whose runs wait for answers."""
