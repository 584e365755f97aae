"""A crashed run ends as its uncrashed twin does; and the driver notices when it does not."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import attrs
import pytest

from rainengine.core import (
    AgentEngine,
    CallSkills,
    InMemoryLedger,
    Message,
    PlannedSkillCall,
    ProcessRequest,
    Respond,
    ScriptedProvider,
    skill,
)
from rainengine.core.abc import Ledger, Skill, SkillInvocation
from rainengine.core.errors import UsageError
from rainengine.core.records import EffectClass, Head
from rainengine.core.testing import (
    WORKLOADS,
    CheckFailed,
    Receiver,
    ScriptedClock,
    Step,
    Workload,
    differential,
)

FULL = os.environ.get("RAINENGINE_SWEEP") == "full"

REQUEST = ProcessRequest(
    session_id="s", trigger=Message(user_id="u", content="go"), idempotency_key="go"
)


def workload(
    *effects: EffectClass,
    skills: Any = None,
    engine: Any = AgentEngine,
    script: Sequence[Step] = (Step("run", REQUEST),),
) -> Workload:
    """A run that calls one skill of each of these effects, one after the other."""
    calls = [PlannedSkillCall(call_id=name, name=name, args={}) for name in effects]
    turns = [*(CallSkills([call]) for call in calls), Respond("done")]
    return Workload(
        name="test",
        script=script,
        provider=lambda: ScriptedProvider(lambda request: turns[request.context.step - 1]),
        skills=skills or acting(*effects),
        engine=engine,
    )


def acting(*effects: EffectClass) -> Any:
    """Make skills that strike the receiver, whatever their effects are said to be."""

    def make(receiver: Receiver) -> list[Skill]:
        async def act(invocation: SkillInvocation) -> object:
            if invocation.name == "idempotent":
                return await receiver.apply(invocation)
            if invocation.name == "unsafe":
                return await receiver.strike(invocation)
            return "computed"

        return [skill(name=name, description="Acts.", effects=name)(act) for name in effects]

    return make


async def findings(
    given: Workload, backing: Any = None, variants: Any = ("crash",)
) -> tuple[set[str], str]:
    """The kinds of faults that the driver finds, and its text."""
    report = await (
        differential(given, variants=variants)
        if backing is None
        else differential(given, backing, variants=variants)
    )
    return {finding.fault for trial in report.failed for finding in trial.findings}, str(report)


@pytest.mark.parametrize("given", WORKLOADS, ids=lambda given: given.name)
async def test_a_crash_at_any_append_changes_nothing(given: Workload) -> None:
    """Crashed, doubted or crashed twice at any append, a workload ends as if nothing had been.

    The second crash is at every seventh append, at every one with `RAINENGINE_SWEEP=full`.
    """
    report = await differential(given, stride=1 if FULL else 7)
    report.check()
    assert report.blows > 2 * report.appends


async def test_skills_from_functions() -> None:
    """Decorated skills of all effects pass too."""
    (await differential(workload("pure", "idempotent", "unsafe"))).check()


async def test_requests_need_a_key() -> None:
    """A script that cannot be repeated is refused."""
    with pytest.raises(UsageError, match="without idempotency key"):
        workload(script=[Step("run", attrs.evolve(REQUEST, idempotency_key=None))])


# The driver notices.


class Losing:
    """Stores whose newest record is gone when they are opened for the second time."""

    def __init__(self) -> None:
        self.backing = InMemoryLedger(ScriptedClock())
        self.opened = 0

    @asynccontextmanager
    async def open(self) -> AsyncIterator[InMemoryLedger]:
        self.opened += 1
        session = self.backing._shared.sessions.get("s")
        if self.opened == 2 and session is not None:
            session.rows.pop()
            session.hashes.pop()
            session.head = Head(len(session.rows), session.hashes[-1])
        yield InMemoryLedger(backing=self.backing)

    async def let_pass(self, ms: int) -> None:
        raise NotImplementedError


async def test_an_acknowledged_record_that_is_lost_is_found() -> None:
    """A ledger that acknowledges before it stores is found out."""
    faults, text = await findings(workload("unsafe"), Losing)
    assert "lost" in faults
    assert "there is nothing" in text


async def test_an_unsafe_call_that_is_repeated_is_found() -> None:
    """An engine that takes an unsafe skill for an idempotent one is found out."""

    def lying(receiver: Receiver) -> list[Skill]:
        async def act(invocation: SkillInvocation) -> object:
            return await receiver.strike(invocation)

        return [skill(name="unsafe", description="Acts.", effects="idempotent")(act)]

    faults, text = await findings(workload("unsafe", skills=lying))
    assert faults == {"effect"}
    assert "took effect 2 times, not 1" in text


async def test_a_call_before_its_start_is_stored_is_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An engine that starts a call first and stores its start afterwards is found out."""
    from rainengine.core.engine._session import OpenSession

    commit = OpenSession.commit

    async def late(session: OpenSession, records: Any, **rest: Any) -> None:
        if any(entry.kind == "tool_execution_graph" for entry in records):
            run = session.projection.run
            assert run is not None
            planned = next(r for r in records if r.kind == "tool_execution_graph")
            await early(planned)
        await commit(session, records, **rest)

    made: list[Skill] = []

    async def early(planned: Any) -> None:
        from rainengine.core.abc import SkillContext

        context = SkillContext(
            tenant="default",
            session_id="s",
            trigger_id="t",
            graph_id=planned.graph_id,
            step=planned.step,
            granted_scopes=(),
            fence=1,
        )
        call = planned.calls[0]
        await made[-1].invoke(
            SkillInvocation(
                call_id=call.call_id,
                name=call.name,
                args={},
                idempotency_key="k",
                attempt=1,
                dry_run=False,
                context=context,
            )
        )

    def engine(*, skills: Iterable[Skill], ledger: Ledger, **rest: Any) -> AgentEngine:
        made.extend(skills)
        return AgentEngine(skills=made[-1:], ledger=ledger, **rest)

    monkeypatch.setattr(OpenSession, "commit", late)
    faults, text = await findings(workload("pure", engine=engine))
    assert "early" in faults
    assert "was called as attempt 1, stored is nothing" in text


async def test_an_engine_that_forgets_doubt_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine that runs interrupted unsafe calls again is found out."""
    from rainengine.core.tools._calls import Caller

    async def again(*_: object) -> None:
        return None

    monkeypatch.setattr(Caller, "settle", again)
    faults, _ = await findings(workload("unsafe"))
    assert {"repeated", "effect"} <= faults


async def test_a_process_that_never_ends_is_found() -> None:
    """A session that stays busy for ever is reported, and ends the sweep."""

    class Endless(AgentEngine):
        async def advance(self, request: Any) -> Any:
            result = await super().advance(request)
            return attrs.evolve(result, idle=False)

    with pytest.raises(Exception, match="not idle after"):
        await differential(workload("pure", engine=partial(Endless)))


async def test_a_report_tells_where_and_what() -> None:
    """What is raised names the workload, the append, its side, and both values."""

    class Moody(AgentEngine):
        born = 0

        def __init__(self, **rest: Any) -> None:
            Moody.born += 1
            mood = f"done by {Moody.born}"
            provider = ScriptedProvider(lambda _: Respond(mood))
            super().__init__(**{**rest, "provider": provider})

    report = await differential(workload(engine=Moody), variants=("crash",))
    with pytest.raises(CheckFailed) as caught:
        report.check()
    text = str(caught.value)
    assert "workload 'test': 2 appends" in text
    assert "crash before storing append 1:" in text
    assert "the twin has 'done by 1', this run has 'done by " in text
