"""Skills that are replaced while calls of them are under way."""

from __future__ import annotations

from typing import Any

import attrs
import pytest

from rainengine.core import (
    AgentProfile,
    Approval,
    CallSkills,
    DoubtResolution,
    DoubtVerdict,
    EnginePolicy,
    Respond,
    RetryPolicy,
)

FOREVER_MS = 10**7
POLICY = EnginePolicy(
    max_tool_timeout_ms=FOREVER_MS, max_execution_time_ms=FOREVER_MS, enable_tool_dry_run=True
)
REVIEWER = "scope:human_approval"
BARRED: dict[str, dict[str, Any]] = {
    "a scope": {"required_scopes": ("root",)},
    "a schema": {"input_schema": {"type": "object", "required": ["amount"]}},
    "an approval": {"approval_required": True},
    "other effects": {"effects": "unsafe"},
}
"""What the next version of a skill wants, or has."""


async def replaced(stage: Any, effects: str, change: dict[str, Any], **options: Any) -> Any:
    """Interrupt a call, and go on with another version of its skill; return that."""
    dry_run = options.pop("dry_run", False)
    calls = CallSkills([stage.call("pay", dry_run=dry_run)])
    old = stage.skill(
        "pay", stage.taking(60), effects=effects, timeout_ms=FOREVER_MS, dry_run=dry_run
    )
    await stage.interrupt(stage.engine([calls], old, policy=POLICY))
    new = stage.skill("pay", effects=effects)
    new.manifest = attrs.evolve(old.manifest, version="2", **change)
    engine = stage.engine([Respond("x")], new, **({"policy": POLICY} | options))
    await stage.play(engine, stage.go_on)
    return new


@pytest.mark.parametrize("change", BARRED.values(), ids=BARRED)
async def test_a_version_that_may_not_make_the_call(stage: Any, change: dict[str, Any]) -> None:
    """What was interrupted is not made again by a version that could not have been called."""
    new = await replaced(stage, "idempotent", change)
    assert [] == new.invocations
    assert {"c1": "unknown_outcome"} == await stage.results()


async def test_a_call_without_traces(stage: Any) -> None:
    """Of a call that leaves nothing it is known that it did not happen."""
    new = await replaced(stage, "pure", {"required_scopes": ("root",)})
    assert [] == new.invocations
    assert {"c1": "permission_denied"} == await stage.results()


async def test_a_profile_that_allows_it_no_more(stage: Any) -> None:
    """A call is made again only where the profile of today allows its skill."""
    new = await replaced(stage, "idempotent", {}, profile=AgentProfile(allowed_skills=()))
    assert [] == new.invocations


async def test_a_version_without_dry_runs(stage: Any) -> None:
    """A dry run is never made again by a skill that would do it in earnest."""
    resources = stage.skill("pay", timeout_ms=1_000).manifest.resource_policy
    new = await replaced(stage, "unsafe", {"resource_policy": resources}, dry_run=True)
    assert [] == new.invocations
    assert {"c1": "capability_denied"} == await stage.results()


async def test_a_version_that_may_make_the_call(stage: Any) -> None:
    """Another version goes on with what was interrupted, under the key that it had."""
    new = await replaced(stage, "idempotent", {"description": "Pays, better than before."})
    assert [2] == [invocation.attempt for invocation in new.invocations]
    assert {"c1": "done"} == await stage.results()


async def test_between_two_attempts(stage: Any) -> None:
    """A skill that is replaced after it failed is not retried as what it has become."""

    async def fail(_: object) -> object:
        engine.unregister_skill("pay")
        engine.register_skill(new)
        raise RuntimeError("down")

    retry = RetryPolicy(max_attempts=3, initial_interval_ms=1)
    old = stage.skill("pay", fail, effects="idempotent", retry=retry)
    new = stage.skill("pay", effects="idempotent", retry=retry, required_scopes=("root",))
    engine = stage.engine([stage.calls("pay"), Respond("x")], old)
    await stage.play(engine)
    assert [] == new.invocations
    assert {"c1": "internal"} == await stage.results()


async def test_after_people_have_settled_a_doubt(stage: Any) -> None:
    """That a call did not happen has it made again only as it was approved."""
    policy = attrs.evolve(POLICY, on_doubt="suspend")
    old = stage.skill("pay", stage.taking(60), approval_required=True, effects="unsafe")
    engine = stage.engine([stage.calls("pay")], old, policy=policy)
    token = (await stage.play(engine))[-1].outcome.resume_token
    approval = Approval(resume_token=token, decision="approved", approver="ann")
    await stage.interrupt(engine, stage.request(trigger=approval, granted_scopes=(REVIEWER,)))
    new = stage.skill("pay", approval_required=True, effects="unsafe")
    new.manifest = attrs.evolve(old.manifest, version="2")
    engine = stage.engine([Respond("x")], new, policy=policy)
    token = (await stage.play(engine, stage.go_on))[-1].outcome.resume_token
    verdicts = (DoubtVerdict(call_id="c1", verdict="did_not_happen"),)
    told = DoubtResolution(resume_token=token, verdicts=verdicts, approver="ann")
    await stage.play(engine, stage.request(trigger=told, granted_scopes=(REVIEWER,)))
    assert [] == new.invocations
    assert {"c1": "permission_denied"} == await stage.results()
