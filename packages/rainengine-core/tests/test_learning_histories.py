"""Whatever a session goes through, what it learned stays under the ceiling and touches no more.

A history is drawn at random: how runs end, under which policies of the operator, and where the
process dies. It is played by the real engine on the in-memory ledger, with time that jumps. What
the model is shown of its policy and its authority is then compared with what the operator gave.
"""

from __future__ import annotations

import math
from contextlib import suppress
from fractions import Fraction
from typing import Any, Literal

import attrs
import trio
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from rainengine.core import (
    AgentEngine,
    AgentProfile,
    Continue,
    EnginePolicy,
    ProviderConfig,
    Respond,
    RetryPolicy,
)
from rainengine.core.abc import ProviderDecision, ProviderRequest, Usage
from rainengine.core.codec import decode_value, encode_value
from rainengine.core.errors import ProviderError
from rainengine.core.kernel import effective_policy
from rainengine.core.projection import SessionProjection
from rainengine.core.records import (
    PolicyOverlay,
    PolicyTuning,
    SelfImprovementPolicy,
    TriggerRecord,
)
from rainengine.core.testing import CrashingLedger, SimulatedCrash

TUNABLE = [field.name for field in attrs.fields(PolicyOverlay)]
PROFILE = AgentProfile(default_scopes=("tool:run",), allowed_skills=("steady", "shaky"))
CONFIG = ProviderConfig(model="m", temperature=0.5, max_tokens=100)

Ending = Literal["answer", "loop", "hang", "dawdle", "fail", "spend", "read", "call"]

IMPROVEMENTS = st.builds(
    SelfImprovementPolicy,
    enabled=st.sampled_from([True] * 7 + [False]),
    mode=st.sampled_from(["auto_with_guardrails", "auto_with_guardrails", "shadow", "advisory"]),
    reflection_interval_records=st.sampled_from([1, 1, 8, 40]),
    min_observations_before_tuning=st.sampled_from([1, 1, 2, -1]),
    max_policy_delta_percent=st.sampled_from([25.0, 50.0, 10.0, 0.1, 333.3, 0.0, -5.0]),
    rollback_on_regression=st.booleans(),
)
POLICIES = st.builds(
    EnginePolicy,
    max_steps=st.integers(0, 4),
    max_execution_time_ms=st.sampled_from([0, 1, 700, 10_000]),
    provider_timeout_ms=st.sampled_from([0, 1, 1_000]),
    max_tool_timeout_ms=st.sampled_from([1, 5_000]),
    max_parallel_skill_calls=st.integers(0, 3),
    max_cost_per_session=st.sampled_from([0.0, 0.5, 1e6, 1e6]),
    max_cost_per_run=st.sampled_from([None, 0.1]),
    max_tokens_per_run=st.sampled_from([None, None, 50]),
    provider_retry=st.just(RetryPolicy(max_attempts=1)),
    self_improvement=IMPROVEMENTS,
)


@attrs.frozen
class Turn:
    """A run: how it ends, the operator's policy of the time, and the append that kills it."""

    ending: Ending
    policy: EnginePolicy
    crash_at: int | None
    when: Literal["before", "after"]


def turns(policies: list[EnginePolicy]) -> st.SearchStrategy[list[Turn]]:
    """Runs under these policies, which the operator changes between them."""
    endings: st.SearchStrategy[Ending] = st.sampled_from(
        ("answer", "loop", "loop", "hang", "dawdle", "fail", "spend", "read", "call")
    )
    turn = st.builds(
        Turn,
        endings,
        st.sampled_from(policies),
        st.sampled_from([None, None, None, 1, 2, 3]),
        st.sampled_from(["before", "after"]),
    )
    return st.lists(turn, min_size=4, max_size=10)


HISTORIES = st.lists(POLICIES, min_size=1, max_size=2).flatmap(turns)


@attrs.define
class Session:
    """A session that is played, and what the model was shown in it."""

    stage: Any
    shown: list[ProviderRequest] = attrs.field(factory=list[ProviderRequest])

    def engine(self, ledger: Any = None) -> AgentEngine:
        """Make an engine, as a process does that starts."""
        shaky = self.stage.skill("shaky", self.stage.returning(ValueError()))
        engine: AgentEngine = self.stage.engine(
            self.decide,
            self.stage.skill("steady"),
            shaky,
            self.stage.skill("forbidden"),
            ledger=ledger or self.stage.ledger,
            profile=PROFILE,
            provider_config=CONFIG,
        )
        return engine

    async def play(self, engine: AgentEngine, number: int, turn: Turn) -> None:
        """Play a run to its end, through the death of a process if there is one."""
        request = self.stage.request(f"k{number}", turn.ending, policy=turn.policy)
        if turn.crash_at is not None:
            dying = CrashingLedger(self.stage.ledger, turn.crash_at, turn.when)
            with suppress(SimulatedCrash):
                await self.stage.play(self.engine(dying), request)
        await self.stage.play(engine, request)

    async def decide(self, request: ProviderRequest) -> Any:
        self.shown.append(request)
        ending = getattr(request.trigger, "content", "")
        if ending == "hang":
            await trio.sleep_forever()
        if ending == "fail":
            raise ProviderError("down", kind="internal", retryable=False)
        if ending == "dawdle":
            self.stage.clock.jump(9_000)
        if ending == "call" and request.context.step == 1:
            return self.stage.calls("steady", "shaky", "forbidden")
        used = Usage(
            cost_micros=60_000 if ending == "spend" else 0,
            input_tokens=30 if ending == "read" else 0,
        )
        ends = ending in {"answer", "call"}
        return ProviderDecision(action=Respond("x") if ends else Continue(), usage=used)


@settings(max_examples=1_000, deadline=None, suppress_health_check=list(HealthCheck))
@given(history=HISTORIES)
def test_what_is_learned_stays_within_bounds(
    history: list[Turn], new_stage: Any, run_trio: Any
) -> None:
    """In 1,000 histories no value passes its ceiling, and no other value is not the operator's."""

    async def main() -> None:
        session = Session(new_stage())
        engine = session.engine()
        for number, turn in enumerate(history):
            await session.play(engine, number, turn)
            await engine.explain_policy("s")  # by which it takes in what others have stored
            live = engine._turns.sessions._sessions["s"].projection
            check_policy(live, turn.policy)
        stored = await session.stage.stored()
        assert live == await session.stage.replayed()
        assert live == decode_value(encode_value(live), SessionProjection)
        given_by = {
            entry.record.trigger_id: entry.record
            for entry in stored
            if isinstance(entry.record, TriggerRecord)
        }
        for request in session.shown:
            check_request(request, given_by[request.context.trigger_id])
        for entry in stored:
            if isinstance(entry.record, PolicyTuning):
                event(f"{entry.record.limit} {entry.record.status}")
                check_tuning(entry.record, given_by[entry.trigger_id or ""].policy)

    run_trio(main)


def check_policy(projection: SessionProjection, base: EnginePolicy) -> None:
    """Whatever was learned so far, under this policy it is held."""
    held(effective_policy(base, projection.overlay), base)


def check_request(request: ProviderRequest, given_by: TriggerRecord) -> None:
    """A step was taken under the operator's policy, but for what may be tuned, and authority."""
    held(request.policy, given_by.policy)
    assert (request.config, request.context.granted_scopes) == (CONFIG, ("tool:run",))
    assert {skill.name for skill in request.available_skills} <= {"steady", "shaky"}


def check_tuning(tuning: PolicyTuning, base: EnginePolicy) -> None:
    """What is recorded as applied or proposed is under the ceiling of its run."""
    assert base.self_improvement.enabled
    assert tuning.status != "applied" or base.self_improvement.mode != "advisory"
    if tuning.status != "rolled_back":
        learned = {k: v for k, v in attrs.asdict(tuning.overlay).items() if v is not None}
        held(attrs.evolve(base, **learned), base)


def held(policy: EnginePolicy, base: EnginePolicy) -> None:
    """The tunable values are between the operator's and their ceilings, all else is the same."""
    percent = max(base.self_improvement.max_policy_delta_percent, 0.0)
    for name in TUNABLE:
        own = getattr(base, name)
        most = math.ceil(max(own, 1) * (1 + Fraction(str(percent)) / 100))
        assert own <= getattr(policy, name) <= max(most, own)
    assert attrs.evolve(policy, **{name: getattr(base, name) for name in TUNABLE}) == base
