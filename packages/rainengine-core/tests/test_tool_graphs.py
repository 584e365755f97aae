"""One graph of tool calls: who may start, in which order, and what is recorded of it."""

from __future__ import annotations

from typing import Any

import attrs
import pytest
import trio

from rainengine.core import AgentProfile, CallSkills, EnginePolicy, ResourcePolicy, Respond
from rainengine.core.errors import InvalidSkill
from rainengine.core.records import (
    InputCheck,
    SkillInputValidation,
    ToolCalls,
    ToolNodeCheckpoint,
    ToolResult,
)

NUMBER = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}


async def test_a_call_goes_through_its_statuses(stage: Any) -> None:
    """A call that succeeds is queued, validated, started and succeeded."""
    await stage.run_graph(stage.calls("read"), stage.skill("read"))
    assert await stage.statuses() == ["queued", "validated", "started", "succeeded"]


async def test_the_start_is_stored_before_the_skill_is_called(stage: Any) -> None:
    """Decision, graph, validation, call and checkpoint are one append before the skill runs."""
    seen: list[list[str]] = []

    async def look(_: Any) -> None:
        seen.append(await stage.kinds())

    await stage.run_graph(stage.calls("look"), stage.skill("look", look))
    assert seen[0][3:] == [
        "model_decision",
        "tool_execution_graph",
        "skill_input_validation",
        "tool_call",
        "tool_node_checkpoint",
    ]


# Refusals.


async def refused(stage: Any, calls: CallSkills, skill: Any, **options: Any) -> Any:
    """Run a graph whose only call is refused, and return the failure."""
    await stage.run_graph(calls, *([] if skill is None else [skill]), **options)
    (result,) = await stage.records(ToolResult)
    assert skill is None or skill.invocations == []
    assert await stage.statuses() == ["queued", "failed"]
    assert (await stage.records(ToolCalls), result.attempts) == ([], 0)
    return result.failure


async def test_an_unknown_skill_is_refused(stage: Any) -> None:
    """A call of a skill that is not registered is a structured failure."""
    failure = await refused(stage, stage.calls("nothing"), None)
    assert (failure.kind, "'nothing'" in failure.message) == ("invalid_arguments", True)


async def test_arguments_are_checked(stage: Any) -> None:
    """Arguments that break the schema are refused, and the check is recorded."""
    skill = stage.skill("add", schema=NUMBER)
    failure = await refused(stage, CallSkills([stage.call("add", args={"n": "x"})]), skill)
    (validation,) = await stage.records(SkillInputValidation)
    (check,) = validation.checks
    assert check == InputCheck(call_id="c1", skill="add", valid=False, errors=check.errors)
    assert (failure.kind, failure.message) == ("invalid_arguments", "; ".join(check.errors))


async def test_arguments_are_checked_only_where_the_policy_says_so(stage: Any) -> None:
    """With `validate_tool_args=False` the skill gets what the model sent."""
    policy = EnginePolicy(validate_tool_args=False)
    skill = stage.skill("add", schema=NUMBER)
    assert await stage.run_graph(stage.calls("add"), skill, policy=policy) == {"c1": "done"}


async def test_missing_scopes_are_refused(stage: Any) -> None:
    """A call needs all scopes of its skill; the missing ones are named."""
    skill = stage.skill("pay", required_scopes=("pay", "read"))
    failure = await refused(stage, stage.calls("pay"), skill, scopes=("read",))
    assert (failure.kind, failure.message) == ("permission_denied", "missing scopes: pay")


async def test_granted_scopes_let_a_call_through(stage: Any) -> None:
    """Scopes of the request and of the profile count together."""
    skill = stage.skill("pay", required_scopes=("pay", "read"))
    profile = AgentProfile(default_scopes=("read",))
    results = await stage.run_graph(stage.calls("pay"), skill, scopes=("pay",), profile=profile)
    assert results == {"c1": "done"}


async def test_the_profile_names_the_skills(stage: Any) -> None:
    """A skill that the agent's profile does not allow is refused."""
    profile = AgentProfile(allowed_skills=("write",))
    failure = await refused(stage, stage.calls("read"), stage.skill("read"), profile=profile)
    assert failure.kind == "permission_denied"


async def test_native_skills_can_be_forbidden(stage: Any) -> None:
    """Without `allow_native_skills` a native skill is refused, a sandboxed one runs."""
    policy = EnginePolicy(allow_native_skills=False)
    native, boxed = stage.skill("native"), stage.skill("boxed", native=False)
    results = await stage.run_graph(stage.calls("native", "boxed"), native, boxed, policy=policy)
    assert (results, native.invocations) == ({"c1": "permission_denied", "c2": "done"}, [])


@pytest.mark.parametrize(
    ("enabled", "supported", "result"),
    [
        (True, True, "done"),
        (True, False, "capability_denied"),
        (False, True, "capability_denied"),
        (False, False, "capability_denied"),
    ],
)
async def test_dry_runs_need_policy_and_skill(
    stage: Any, *, enabled: bool, supported: bool, result: str
) -> None:
    """A dry run happens only where policy and skill both support it."""
    skill = stage.skill("pay", dry_run=supported)
    calls = CallSkills([stage.call("pay", dry_run=True)])
    policy = EnginePolicy(enable_tool_dry_run=enabled)
    assert await stage.run_graph(calls, skill, policy=policy) == {"c1": result}
    assert [i.dry_run for i in skill.invocations] == ([True] if result == "done" else [])


async def test_refusals_are_asked_in_order(stage: Any) -> None:
    """A call with several faults is refused for the first: arguments come before scopes."""
    skill = stage.skill("add", schema=NUMBER, required_scopes=("s",), approval_required=True)
    assert (await refused(stage, stage.calls("add"), skill)).kind == "invalid_arguments"


async def test_only_permitted_skills_are_offered(stage: Any) -> None:
    """A model is told of skills whose scopes are granted and that the profile allows."""
    skills = [
        stage.skill("free"),
        stage.skill("scoped", required_scopes=("s",)),
        stage.skill("secret", required_scopes=("t",)),
        stage.skill("foreign"),
    ]
    profile = AgentProfile(allowed_skills=("free", "scoped", "secret"))
    engine = stage.engine([Respond("x")], *skills, profile=profile)
    await engine.advance(stage.request(granted_scopes=("s",)))
    (asked,) = stage.provider.requests
    assert [manifest.name for manifest in asked.available_skills] == ["free", "scoped"]


async def test_a_skill_is_registered_once(stage: Any) -> None:
    """A second skill of one name, or a schema that is none, is `InvalidSkill`."""
    engine = stage.engine([], stage.skill("read"))
    with pytest.raises(InvalidSkill):
        engine.register_skill(stage.skill("read"))
    with pytest.raises(InvalidSkill):
        engine.register_skill(stage.skill("odd", schema={"type": "nonsense"}))
    engine.unregister_skill("read")
    engine.register_skill(stage.skill("read"))


# Order.


def ordering(stage: Any, *names: str, seconds: float = 1) -> tuple[list[str], list[Any]]:
    """Skills that note when they begin."""
    order: list[str] = []

    def noting(name: str) -> Any:
        async def behave(invocation: Any) -> str:
            order.append(invocation.call_id)
            await trio.sleep(seconds)
            return name

        return stage.skill(name, behave)

    return order, [noting(name) for name in names]


async def test_higher_priority_goes_first(stage: Any) -> None:
    """Ready calls start by priority, then in the provider's order."""
    order, skills = ordering(stage, "s")
    calls = [stage.call("s", f"c{n}", priority=p) for n, p in enumerate([0, 5, -1, 5, 0])]
    await stage.run_graph(
        CallSkills(calls), *skills, policy=EnginePolicy(max_parallel_skill_calls=1)
    )
    assert order == ["c1", "c3", "c0", "c4", "c2"]


async def test_priority_class_decides_between_equals(stage: Any) -> None:
    """Of calls of equal priority the one whose skill has the higher class starts first."""
    order, (low, high) = ordering(stage, "low", "high")
    urgent = ResourcePolicy(priority_class=3)
    high.manifest = attrs.evolve(high.manifest, resource_policy=urgent)
    calls = [stage.call("low", "c0"), stage.call("high", "c1"), stage.call("low", "c2", priority=1)]
    await stage.run_graph(
        CallSkills(calls), low, high, policy=EnginePolicy(max_parallel_skill_calls=1)
    )
    assert order == ["c2", "c1", "c0"]


@pytest.mark.parametrize(("limit", "seconds"), [(0, 6), (1, 6), (2, 3), (4, 2), (6, 1), (99, 1)])
async def test_at_most_so_many_run_at_once(stage: Any, limit: int, seconds: int) -> None:
    """Six calls of a second take as long as `max_parallel_skill_calls`, at least 1, makes them."""
    policy = EnginePolicy(max_parallel_skill_calls=limit)
    skill = stage.skill("s", stage.taking(1))
    began = stage.clock.now_ms()
    await stage.run_graph(stage.calls(*["s"] * 6), skill, policy=policy)
    assert stage.clock.now_ms() - began == seconds * 1000


async def test_a_dependent_call_waits(stage: Any) -> None:
    """A call starts after all that it depends on have succeeded and their results are stored."""
    seen: dict[str, int] = {}

    async def behave(invocation: Any) -> None:
        seen[invocation.call_id] = len(await stage.records(ToolResult))
        await trio.sleep({"a": 1, "b": 2}.get(invocation.call_id, 0))

    calls = [
        stage.call("s", "c", depends_on=("a", "b"), priority=9),
        stage.call("s", "a"),
        stage.call("s", "b"),
    ]
    await stage.run_graph(CallSkills(calls), stage.skill("s", behave))
    assert seen == {"a": 0, "b": 0, "c": 2}


async def test_a_start_is_stored_with_what_freed_it(stage: Any) -> None:
    """The result of a call and the start of the one that waited for it are one append."""
    calls = CallSkills([stage.call("s", "a"), stage.call("s", "b", depends_on=("a",))])
    await stage.engine([calls], stage.skill("s")).advance(stage.request())
    assert stage.ledger.stats().commits == 4  # trigger, start of a, a and start of b, b


async def test_what_depends_on_a_failure_is_skipped(stage: Any) -> None:
    """A chain behind a failed call is skipped to its end, each with a result that says why."""
    bad = stage.skill("bad", stage.returning(ValueError("no")))
    good = stage.skill("good")
    calls = CallSkills(
        [
            stage.call("good", "d", depends_on=("c",)),
            stage.call("bad", "a"),
            stage.call("good", "b", depends_on=("a",)),
            stage.call("good", "c", depends_on=("b", "e")),
            stage.call("good", "e"),
        ]
    )
    results = await stage.run_graph(calls, bad, good)
    skipped = dict.fromkeys("bcd", "cancelled")
    assert results == {"a": "internal", "e": "done", **skipped}
    assert [await stage.statuses(i) for i in "bcd"] == [["queued", "skipped"]] * 3
    messages = {r.call_id: r.failure.message for r in await stage.records(ToolResult) if r.failure}
    assert messages["c"] == "skipped: b did not succeed"
    assert [i.call_id for i in good.invocations] == ["e"]


async def test_what_depends_on_a_refused_call_is_skipped(stage: Any) -> None:
    """A refused dependency skips what waits for it before anything starts."""
    skill = stage.skill("s")
    calls = CallSkills([stage.call("nothing", "a"), stage.call("s", "b", depends_on=("a",))])
    assert await stage.run_graph(calls, skill) == {"a": "invalid_arguments", "b": "cancelled"}
    assert skill.invocations == []


async def test_results_are_shown_in_the_providers_order(stage: Any) -> None:
    """Whatever order calls end in, the model sees their results in the order it made them."""

    async def behave(invocation: Any) -> str:
        await trio.sleep(10 - int(invocation.call_id[1:]))
        return str(invocation.call_id)

    await stage.run_graph(stage.calls("s", "s", "s"), stage.skill("s", behave, timeout_ms=20_000))
    parts = stage.provider.requests[1].messages[-1].parts
    assert [(part.call_id, part.value) for part in parts] == [(f"c{n}",) * 2 for n in (1, 2, 3)]


async def test_results_that_come_together_share_an_append(stage: Any) -> None:
    """Three calls that end in one pass are one commit; their results in the provider's order."""
    skill = stage.skill("s", stage.taking(1))
    await stage.engine([stage.calls("s", "s", "s")], skill).advance(stage.request())
    assert [r.call_id for r in await stage.records(ToolResult)] == ["c1", "c2", "c3"]
    assert (stage.ledger.stats().commits, len(await stage.records(ToolNodeCheckpoint))) == (3, 2)
