"""Patches of an agent's profile: what widens, who says so, and that the engine applies none."""

from __future__ import annotations

from typing import Any, get_type_hints

import attrs
import pytest
from hypothesis import given

from rainengine.core import Agent, AgentProfile, EnginePolicy, Respond, apply_profile_patch, codec
from rainengine.core.errors import AgentMismatch, InadmissibleValue, ProfilePatchRefused
from rainengine.core.kernel import widening
from rainengine.core.projection import PATCHES
from rainengine.core.records import (
    EscalationPolicy,
    JsonObject,
    MemoryPolicy,
    NewRecord,
    ProfilePatch,
    ReviewPolicy,
    SelfImprovementPolicy,
    WakePolicy,
)
from rainengine.core.testing.strategies import instances

BASE = AgentProfile(
    role="clerk",
    default_scopes=("read", "write"),
    allowed_skills=("look_up", "send"),
    delegates=("print",),
    goals=("be kind",),
)

NARROWING: list[JsonObject] = [
    {},
    {"role": "clerk"},
    {"default_scopes": ["read"]},
    {"default_scopes": []},
    {"default_scopes": ["write", "read"]},
    {"allowed_skills": ["send"]},
    {"delegates": []},
    {"memory": {"max_recent_items": 31}},
    {"memory": {"summarise": False, "semantic_retrieval_limit": 0, "graph_hops": 5}},
    {"wake": {"allow_scheduled_wakes": False}},
    {"wake": {"default_recheck_ms": 1_800_001, "max_pending_wakes": 7}},
    {"review": {"require_review_for_native_skills": True}},
    {"review": {"reviewer_scopes": ["scope:human_approval", "scope:chief"]}},
    {"review": {"requester_may_approve": False, "approval_ttl_ms": 1}},
    {"escalation": {"require_human_approval_scopes": ["scope:human_approval", "write"]}},
    {"escalation": {"max_auto_delegations": 49, "max_delegation_depth": 0}},
    {"escalation": {"delegation_ttl_ms": 1_000}},
]

WIDENING: list[tuple[JsonObject, str]] = [
    ({"role": "chief"}, "role"),
    ({"prompt_version": "2"}, "prompt_version"),
    ({"goals": []}, "goals"),
    ({"busy": "interrupt"}, "busy"),
    ({"default_scopes": ["read", "write", "admin"]}, "default_scopes"),
    ({"default_scopes": ["admin"]}, "default_scopes"),
    ({"allowed_skills": ["look_up", "send", "delete"]}, "allowed_skills"),
    ({"allowed_skills": None}, "allowed_skills"),
    ({"delegates": ["print", "mail"]}, "delegates"),
    ({"memory": {"max_recent_items": 33}}, "memory.max_recent_items"),
    ({"wake": {"default_recheck_ms": 1}}, "wake.default_recheck_ms"),
    ({"wake": {"max_pending_wakes": 9}}, "wake.max_pending_wakes"),
    (
        {"review": {"require_review_for_delegation": False}},
        "review.require_review_for_delegation",
    ),
    ({"review": {"reviewer_scopes": []}}, "review.reviewer_scopes"),
    ({"review": {"approval_ttl_ms": 86_400_001}}, "review.approval_ttl_ms"),
    (
        {"escalation": {"require_human_approval_scopes": []}},
        "escalation.require_human_approval_scopes",
    ),
    ({"escalation": {"max_auto_delegations": 51}}, "escalation.max_auto_delegations"),
    ({"escalation": {"max_delegation_depth": 4}}, "escalation.max_delegation_depth"),
    ({"escalation": {"delegation_ttl_ms": 2**40}}, "escalation.delegation_ttl_ms"),
]


@pytest.mark.parametrize("patch", NARROWING, ids=str)
def test_what_allows_no_more_does_not_widen(patch: JsonObject) -> None:
    """A patch that takes away, or changes nothing, widens nothing."""
    assert widening(BASE, patch) == ()


@pytest.mark.parametrize(("patch", "field"), WIDENING, ids=str)
def test_what_allows_more_widens(patch: JsonObject, field: str) -> None:
    """A patch that allows more, or is not known to allow less, widens, and the field is named."""
    assert widening(BASE, patch) == (field,)


def test_one_widening_part_is_enough() -> None:
    """Of a patch that narrows here and widens there, exactly the widening parts are named."""
    patch: JsonObject = {
        "allowed_skills": [],
        "delegates": ["x"],
        "wake": {"max_pending_wakes": 99},
    }
    assert widening(BASE, patch) == ("delegates", "wake.max_pending_wakes")


def test_from_all_skills_any_list_narrows() -> None:
    """A profile without a list allows all skills, so a list allows no more."""
    assert widening(AgentProfile(), {"allowed_skills": ["a"]}) == ()


MALFORMED: list[tuple[Any, str]] = [
    ([], "$"),
    ("role", "$"),
    ({"scopes": []}, "$.scopes"),
    ({"memory": {"max_items": 1}}, "$.memory.max_items"),
    ({"memory": 5}, "$.memory"),
    ({"memory": None}, "$.memory"),
    ({"role": None}, "$.role"),
    ({"role": ["a"]}, "$.role"),
    ({"default_scopes": "admin"}, "$.default_scopes"),
    ({"default_scopes": ["a", 1]}, "$.default_scopes"),
    ({"default_scopes": None}, "$.default_scopes"),
    ({"allowed_skills": {"a": 1}}, "$.allowed_skills"),
    ({"wake": {"max_pending_wakes": True}}, "$.wake.max_pending_wakes"),
    ({"wake": {"max_pending_wakes": 1.5}}, "$.wake.max_pending_wakes"),
    ({"wake": {"max_pending_wakes": -1}}, "$.wake.max_pending_wakes"),
    ({"wake": {"allow_scheduled_wakes": 0}}, "$.wake.allow_scheduled_wakes"),
    ({"busy": "drop"}, "$.busy"),
    ({"busy": []}, "$.busy"),
]


@pytest.mark.parametrize(("patch", "path"), MALFORMED, ids=str)
def test_a_patch_that_does_not_fit_is_an_error(patch: Any, path: str) -> None:
    """An unknown field or a value of another kind is refused, and the error names the path."""
    for refuse in (widening, apply_profile_patch):
        with pytest.raises(InadmissibleValue) as refused:
            refuse(BASE, patch)
        assert refused.value.path == path


def test_a_patch_changes_what_it_names() -> None:
    """Applied, a patch sets its fields and leaves all others."""
    patch: JsonObject = {"allowed_skills": ["send"], "memory": {"graph_hops": 1}}
    assert apply_profile_patch(BASE, patch) == attrs.evolve(
        BASE, allowed_skills=("send",), memory=MemoryPolicy(graph_hops=1)
    )


@given(instances(AgentProfile), instances(AgentProfile))
def test_a_whole_profile_is_a_patch(before: AgentProfile, after: AgentProfile) -> None:
    """Every profile with amounts of at least 0 can be reached; unchanged, it widens nothing."""
    patch = codec.to_json_object(attrs.asdict(positive(after)))
    assert apply_profile_patch(before, patch) == positive(after)
    assert widening(positive(after), patch) == ()


def positive(profile: AgentProfile) -> AgentProfile:
    """The profile with its amounts made 0 or more."""

    def own(_: Any, field: Any, value: Any) -> Any:
        return abs(value) if type(value) is int else value

    flat = attrs.asdict(profile, value_serializer=own, recurse=True)
    parts = {"memory": MemoryPolicy, "wake": WakePolicy, "review": ReviewPolicy}
    parts["escalation"] = EscalationPolicy
    return AgentProfile(**(flat | {name: shape(**flat[name]) for name, shape in parts.items()}))


@pytest.mark.parametrize("patch", NARROWING, ids=str)
def test_going_back_widens(patch: JsonObject) -> None:
    """What a narrowing patch took away is given back by none that narrows."""
    narrowed = apply_profile_patch(BASE, patch)
    back = codec.to_json_object(attrs.asdict(BASE))
    assert bool(widening(narrowed, back)) == (flat(narrowed) != flat(BASE))


def flat(profile: AgentProfile) -> list[str]:
    """The profile's values, with lists of texts as sets of them."""
    values: list[str] = []
    for name in get_type_hints(AgentProfile):
        value = getattr(profile, name)
        parts = attrs.asdict(value).items() if attrs.has(type(value)) else [(name, value)]
        values += [f"{key}={sorted(v) if isinstance(v, tuple) else v}" for key, v in parts]
    return values


# Proposing and resolving.

WIDER: JsonObject = {"allowed_skills": ["look_up", "send", "delete"]}
NARROWER: JsonObject = {"allowed_skills": ["look_up"]}


async def test_what_widens_waits_for_approval(stage: Any) -> None:
    """A widening patch is recorded as proposed, and pending until somebody has answered."""
    engine = stage.engine([], profile=BASE)
    proposed = await engine.propose_profile_patch("s", WIDER, reason="it would help")
    assert proposed == ProfilePatch(
        patch_id=proposed.patch_id,
        patch=WIDER,
        widens=True,
        widening=("allowed_skills",),
        status="proposed",
        agent=Agent().ref,
        reason="it would help",
    )
    assert await stage.records(ProfilePatch) == [proposed]
    learning = (await stage.replayed()).learning
    assert learning.patches == {proposed.patch_id: proposed}


@pytest.mark.parametrize("status", ["approved", "rejected"])
async def test_who_resolved_it_is_recorded(stage: Any, status: Any) -> None:
    """The answer is a record of its own that says who gave it, and nothing is pending any more."""
    engine = stage.engine([], profile=BASE)
    proposed = await engine.propose_profile_patch("s", WIDER)
    resolved = await engine.resolve_profile_patch("s", proposed.patch_id, status, resolved_by="ada")
    assert resolved == attrs.evolve(proposed, status=status, resolved_by="ada")
    assert await stage.records(ProfilePatch) == [proposed, resolved]
    assert (await stage.replayed()).learning.patches == {}


async def test_resolving_twice_is_told(stage: Any) -> None:
    """The second answer is refused with what the first one was, and nothing is stored."""
    engine = stage.engine([], profile=BASE)
    patch_id = (await engine.propose_profile_patch("s", WIDER)).patch_id
    await engine.resolve_profile_patch("s", patch_id, "rejected", resolved_by="ada")
    before = await stage.stored()
    with pytest.raises(ProfilePatchRefused) as refused:
        await engine.resolve_profile_patch("s", patch_id, "approved", resolved_by="bob")
    assert (refused.value.reason, before) == ("rejected", await stage.stored())


async def test_an_unknown_patch_is_told(stage: Any) -> None:
    """An answer to nothing is refused."""
    with pytest.raises(ProfilePatchRefused) as refused:
        await stage.engine([]).resolve_profile_patch("s", "x", "approved", resolved_by="ada")
    assert (refused.value.reason, await stage.stored()) == ("unknown", [])


async def test_two_who_resolve_it_race(stage: Any) -> None:
    """Of two answers from two processes one is recorded, and the other is told so."""
    one = stage.engine([], profile=BASE)
    two = stage.engine([], profile=BASE, ledger=stage.other_handle(), owner="two")
    patch_id = (await one.propose_profile_patch("s", WIDER)).patch_id
    await two.explain_policy("s")
    await one.resolve_profile_patch("s", patch_id, "approved", resolved_by="ada")
    with pytest.raises(ProfilePatchRefused) as refused:
        await two.resolve_profile_patch("s", patch_id, "rejected", resolved_by="bob")
    assert refused.value.reason == "approved"


async def test_a_patch_is_resolved_anywhere(stage: Any) -> None:
    """A process that knew the session before the patch was proposed can answer to it."""
    one = stage.engine([], profile=BASE)
    two = stage.engine([], profile=BASE, ledger=stage.other_handle(), owner="two")
    await one.propose_profile_patch("s", NARROWER)
    await two.explain_policy("s")
    patch_id = (await one.propose_profile_patch("s", WIDER)).patch_id
    resolved = await two.resolve_profile_patch("s", patch_id, "approved", resolved_by="ada")
    assert (resolved.patch_id, resolved.status) == (patch_id, "approved")


async def test_what_narrows_need_not_wait(stage: Any) -> None:
    """A patch that only narrows is recorded as approved, by nobody."""
    patch = await stage.engine([], profile=BASE).propose_profile_patch("s", NARROWER)
    assert (patch.status, patch.widens, patch.resolved_by) == ("approved", False, "")


@pytest.mark.parametrize("asks", [True, False])
async def test_the_engine_applies_none(stage: Any, asks: Any) -> None:
    """Whether approval is required or not, the agent may do after it what it could do before."""
    improvement = SelfImprovementPolicy(require_approval_for_scope_expansion=asks)
    engine = stage.engine(
        lambda _: Respond("x"),
        *(stage.skill(name) for name in ("look_up", "send", "delete")),
        profile=BASE,
        policy=EnginePolicy(self_improvement=improvement),
    )
    patch = await engine.propose_profile_patch("s", {**WIDER, "default_scopes": ["read", "root"]})
    assert patch.status == ("proposed" if asks else "approved")
    if asks:
        await engine.resolve_profile_patch("s", patch.patch_id, "approved", resolved_by="ada")
    await engine.advance(stage.request())
    (request,) = stage.provider.requests
    assert request.context.granted_scopes == ("read", "write")
    assert [skill.name for skill in request.available_skills] == ["look_up", "send"]
    assert engine.agent.profile == BASE


async def test_the_operator_applies_it(stage: Any) -> None:
    """What was approved takes effect by an engine that is made with the patched profile."""
    engine = stage.engine([], profile=BASE)
    proposed = await engine.propose_profile_patch("s", WIDER)
    approved = await engine.resolve_profile_patch(
        "s", proposed.patch_id, "approved", resolved_by="ada"
    )
    profile = apply_profile_patch(engine.agent.profile, approved.patch)
    assert profile.allowed_skills == ("look_up", "send", "delete")


async def test_a_patch_that_does_not_fit_is_not_stored(stage: Any) -> None:
    """A malformed patch is an error that names the path, and leaves the session as it is."""
    with pytest.raises(InadmissibleValue) as refused:
        await stage.engine([]).propose_profile_patch("s", {"wake": {"max": 1}})
    assert (refused.value.path, await stage.stored()) == ("$.wake.max", [])


@pytest.mark.parametrize(
    ("patch_id", "status", "by"), [("p", "maybe", "ada"), ("p", "approved", ""), ("", "x", "ada")]
)
async def test_an_answer_has_to_be_one(stage: Any, patch_id: str, status: Any, by: str) -> None:
    """An answer needs a name and to be yes or no."""
    with pytest.raises(InadmissibleValue):
        await stage.engine([]).resolve_profile_patch("s", patch_id, status, resolved_by=by)


async def test_the_same_id_again_is_the_same_patch(stage: Any) -> None:
    """Proposed again after an error, a patch stands once; another one under its id is refused."""
    engine = stage.engine([], profile=BASE)
    first = await engine.propose_profile_patch("s", WIDER, patch_id="p")
    assert await engine.propose_profile_patch("s", WIDER, patch_id="p") == first
    for _ in range(2):
        with pytest.raises(ProfilePatchRefused) as refused:
            await engine.propose_profile_patch("s", {"role": "x"}, patch_id="p")
        assert refused.value.reason == "known"
    assert await stage.records(ProfilePatch) == [first]


async def test_not_too_many_wait(stage: Any) -> None:
    """A patch too many is refused until one of those that wait has an answer."""
    engine = stage.engine([], profile=BASE)
    for n in range(PATCHES):
        await engine.propose_profile_patch("s", WIDER, patch_id=f"p{n}")
    with pytest.raises(ProfilePatchRefused) as refused:
        await engine.propose_profile_patch("s", WIDER)
    assert refused.value.reason == "too_many"
    await engine.propose_profile_patch("s", NARROWER)
    await engine.resolve_profile_patch("s", "p7", "rejected", resolved_by="ada")
    await engine.propose_profile_patch("s", WIDER)


async def test_what_is_kept_of_patches_is_bounded(stage: Any) -> None:
    """However many patches others have recorded, the newest are kept in mind."""
    waiting = [
        ProfilePatch(patch_id=f"w{n}", patch={}, widens=True, status="proposed") for n in range(40)
    ]
    resolved = [
        ProfilePatch(patch_id=f"r{n}", patch={}, widens=True, status="rejected") for n in range(40)
    ]
    new = [NewRecord(record, 0) for record in (*waiting, *resolved)]
    await stage.ledger.append("s", new, expected=None)
    learning = (await stage.replayed()).learning
    assert list(learning.patches) == [f"w{n}" for n in range(40 - PATCHES, 40)]
    assert list(learning.resolved_patches) == [f"r{n}" for n in range(40 - PATCHES, 40)]


async def test_another_agents_patch_is_its_own_affair(stage: Any) -> None:
    """A patch is resolved by an engine of the agent that it is for."""
    await stage.engine([], profile=BASE).propose_profile_patch("s", WIDER, patch_id="p")
    other = stage.engine([], agent=Agent(name="other"))
    with pytest.raises(AgentMismatch):
        await other.resolve_profile_patch("s", "p", "approved", resolved_by="ada")
