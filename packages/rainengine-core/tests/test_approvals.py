"""Calls that a person has to allow: who is asked, for what, and what an answer does."""

from __future__ import annotations

from typing import Any

import attrs
import pytest

from rainengine.core import (
    AgentProfile,
    Approval,
    CallSkills,
    Continue,
    Delegate,
    DelegationResult,
    DoubtResolution,
    DoubtVerdict,
    EnginePolicy,
    InMemoryLedger,
    ProcessRequest,
    RandomIds,
    Respond,
    Suspend,
    Webhook,
    skill,
)
from rainengine.core.codec import calls_hash, encode_value, manifest_version
from rainengine.core.errors import InadmissibleValue, InvalidSkill, SessionNotFound
from rainengine.core.records import (
    ApprovalResolution,
    DelegatedTask,
    DelegationTarget,
    EscalationPolicy,
    OutcomeRecord,
    PendingApproval,
    ResourcePolicy,
    ReviewPolicy,
    ToolExecutionGraph,
    ToolResult,
    TriggerRecord,
)

REVIEWER = ("scope:human_approval",)
SCHEMA = {"type": "object", "properties": {"cents": {"type": "integer"}}}


def paying(stage: Any, *turns: Any, **options: Any) -> tuple[Any, Any]:
    """An engine whose model pays, which needs an approval, and then answers; and the skill."""
    pay = stage.skill(
        "pay", stage.returning("paid"), effects="unsafe", approval_required=True, schema=SCHEMA
    )
    calls = CallSkills([stage.call("pay", args={"cents": 500})])
    return stage.engine([calls, *(turns or (Respond("done"),))], pay, **options), pay


async def asked(stage: Any, engine: Any, request: Any = None) -> Any:
    """Run until the model's call has been put to a person; return that outcome."""
    outcome = (await stage.play(engine, request))[-1].outcome
    assert "suspended" == outcome.stop_reason
    return outcome


def says(stage: Any, outcome: Any, decision: str = "approved", **options: Any) -> ProcessRequest:
    """A request that answers to an outcome, by somebody who may."""
    scopes = options.pop("scopes", REVIEWER)
    key = options.pop("key", None)
    trigger = Approval(resume_token=outcome.resume_token, decision=decision, **options)
    return stage.request(key, trigger=trigger, granted_scopes=scopes)


async def refused(stage: Any, engine: Any, request: Any, why: str) -> None:
    """An answer ends at once with an error that says `why`; otherwise nothing changes."""
    before = attrs.evolve(await stage.replayed(), sequence=0, last_recorded_at_ms=0)
    asked, listed = len(stage.provider.requests), await listing(stage)
    (result,) = await stage.play(engine, request)
    assert ("policy_aborted", True) == (
        result.outcome.stop_reason,
        why in result.outcome.detail,
    ), result.outcome.detail
    after = attrs.evolve(await stage.replayed(), sequence=0, last_recorded_at_ms=0)
    assert (before, asked, listed) == (after, len(stage.provider.requests), await listing(stage))


async def listing(stage: Any) -> Any:
    """How the session is listed."""
    from rainengine.core.abc import SessionQuery

    (info,) = (await stage.ledger.list_sessions(SessionQuery())).sessions
    return info.state


# Who asks.


async def test_a_manifest_asks(stage: Any) -> None:
    """A call whose manifest wants an approval has the run wait, and is not made."""
    engine, pay = paying(stage)
    outcome = await asked(stage, engine)
    assert ([], "pay needs an approval") == (pay.invocations, outcome.detail)


@attrs.define(eq=False)
class Asking:
    """A skill that says by the arguments whether it needs an approval."""

    inner: Any
    reason: Any
    native: bool = True
    asked: list[Any] = attrs.field(factory=list)

    @property
    def manifest(self) -> Any:
        return self.inner.manifest

    def approval_reason(self, args: Any) -> Any:
        self.asked.append(args)
        if isinstance(self.reason, Exception):
            raise self.reason
        args["cents"] = 0
        return self.reason

    async def invoke(self, invocation: Any) -> object:
        return await self.inner.invoke(invocation)


@pytest.mark.parametrize(
    ("reason", "told"),
    [
        ("that is much\0", "that is much\ufffd"),
        (True, "pay asks for one"),
        ("", "pay asks for one"),
        (RuntimeError("oh"), "pay could not say whether it needs one: RuntimeError('oh')"),
    ],
    ids=repr,
)
async def test_an_executor_asks(stage: Any, reason: Any, told: str) -> None:
    """A skill may ask by a call's arguments, of which it gets a copy; one that fails has asked."""
    engine = stage.engine([stage.calls("pay")], Asking(stage.skill("pay"), reason))
    assert told == (await asked(stage, engine)).detail
    (pending,) = await stage.records(PendingApproval)
    assert [{}] == [call.args for call in pending.calls]


async def test_an_executor_is_not_asked_about_what_is_refused(stage: Any) -> None:
    """A skill sees arguments that fit its schema; others are refused before it is asked."""
    pay = stage.skill("pay", schema=SCHEMA)
    asking = Asking(pay, None)
    calls = CallSkills([stage.call("pay", args={"cents": "many"})])
    assert {"c1": "invalid_arguments"} == await stage.run_graph(calls, asking)
    assert [] == asking.asked


@pytest.mark.parametrize("reason", [None, False])
async def test_an_executor_that_does_not_ask(stage: Any, reason: Any) -> None:
    """Where a skill has no reason its call is made at once."""
    calls = stage.calls("pay")
    assert {"c1": "done"} == await stage.run_graph(calls, Asking(stage.skill("pay"), reason))


async def test_a_function_says_which_calls_need_one(stage: Any) -> None:
    """`@skill(approval_required=...)` takes a function of the arguments."""

    @skill(effects="pure", approval_required=lambda args: args["cents"] > 100 and "too much")
    async def pay(cents: int) -> str:
        """Pay."""
        return f"{cents} paid"

    def calling(cents: int) -> CallSkills:
        return CallSkills([stage.call("pay", args={"cents": cents})])

    engine = stage.engine([calling(100), calling(101)], pay)
    assert "too much" == (await asked(stage, engine)).detail
    assert {"c1": "100 paid"} == await stage.results()


async def _wait(args: Any) -> bool:
    return True


@pytest.mark.parametrize("given", ["yes", 1, _wait])
def test_what_cannot_say_who_needs_one(given: Any) -> None:
    """What is neither a truth value nor a plain function is refused when the skill is made."""

    async def pay(cents: int) -> None:
        """Pay."""

    with pytest.raises(InvalidSkill, match="approval_required"):
        skill(approval_required=given)(pay)


@pytest.mark.parametrize(
    ("profile", "told"),
    [
        (
            AgentProfile(
                default_scopes=("money",),
                escalation=EscalationPolicy(require_human_approval_scopes=("money",)),
            ),
            "pay uses money, which a person has to allow",
        ),
        (
            AgentProfile(
                default_scopes=("money",),
                review=ReviewPolicy(require_review_for_native_skills=True),
            ),
            "pay is a native skill, and these are reviewed",
        ),
    ],
    ids=["scopes", "native"],
)
async def test_a_profile_asks(stage: Any, profile: AgentProfile, told: str) -> None:
    """An agent's profile has people asked about scopes, or about all native skills."""
    pay = stage.skill("pay", required_scopes=("money",))
    outcome = await asked(stage, stage.engine([stage.calls("pay")], pay, profile=profile))
    assert told == outcome.detail


async def test_a_sandboxed_skill_is_no_native_one(stage: Any) -> None:
    """Review of native skills lets others run."""
    profile = AgentProfile(review=ReviewPolicy(require_review_for_native_skills=True))
    sandboxed = stage.skill("s", native=False)
    assert {"c1": "done"} == await stage.run_graph(stage.calls("s"), sandboxed, profile=profile)


async def test_one_call_holds_up_its_whole_graph(stage: Any) -> None:
    """No call of the graph starts before the person has answered; then all of them do."""
    _, pay = paying(stage)
    look = stage.skill("look")
    engine = stage.engine([stage.calls("look", "pay"), Respond("done")], look, pay)
    outcome = await asked(stage, engine)
    assert ([], []) == (look.invocations, pay.invocations)
    await stage.play(engine, says(stage, outcome))
    assert {"c1": "done", "c2": "paid"} == await stage.results()


@pytest.mark.parametrize("fault", ["arguments", "scopes", "unknown", "dependency"])
async def test_calls_that_come_to_nothing_ask_nobody(stage: Any, fault: str) -> None:
    """A call that is refused anyway, or needs one that is, has no person asked."""
    scopes = ("none",) if fault == "scopes" else ()
    pay = stage.skill("pay", approval_required=True, required_scopes=scopes, schema=SCHEMA)
    calls = {
        "arguments": [stage.call("pay", args={"cents": "many"})],
        "scopes": [stage.call("pay")],
        "unknown": [stage.call("pray")],
        "dependency": [
            stage.call("pray", "c1"),
            stage.call("pay", "c2", depends_on=("c1",)),
            stage.call("pay", "c3", depends_on=("c2",)),
        ],
    }
    outcome = (await stage.play(stage.engine([CallSkills(calls[fault]), Respond("x")], pay)))[-1]
    assert ("x", []) == (outcome.outcome.response, pay.invocations)
    assert [] == await stage.records(PendingApproval)


async def test_what_is_asked_is_recorded(stage: Any) -> None:
    """The record holds the calls and their hash, the run's scopes, who may answer, and until when.

    The token has 128 random bits of the engine's.
    """
    review = ReviewPolicy(
        reviewer_scopes=("boss",), requester_may_approve=False, approval_ttl_ms=60_000
    )
    engine, pay = paying(stage, profile=AgentProfile(default_scopes=("a",), review=review))
    outcome = await asked(stage, engine, stage.request(granted_scopes=("b",)))
    (pending,) = await stage.records(PendingApproval)
    assert (
        PendingApproval(
            resume_token=outcome.resume_token,
            reason="pay needs an approval",
            step=1,
            calls=(stage.call("pay", args={"cents": 500}),),
            calls_hash=calls_hash([("pay", manifest_version(pay.manifest), {"cents": 500})]),
            granted_scopes=("a", "b"),
            approver_scopes=("boss",),
            excluded_approver="user",
            expires_at_ms=stage.clock.now_ms() + 60_000,
        )
        == pending
    )
    tokens = {RandomIds().new_id() for _ in range(100)}
    assert (100, {32}) == (len(tokens), {len(token) for token in tokens})


async def test_the_model_sees_that_it_waits_and_never_the_token(stage: Any) -> None:
    """A further message finds in the conversation what is waited for; tokens stay out of it."""
    engine, _ = paying(stage, Respond("it waits"), Respond("done"))
    outcome = await asked(stage, engine)
    (result,) = await stage.play(engine, stage.request(text="and?"))
    assert "it waits" == result.outcome.response
    told = encode_value(stage.provider.requests[-1].messages).decode()
    assert "waiting_for_a_person" in told
    await stage.play(engine, says(stage, outcome))
    shown = encode_value([request.messages for request in stage.provider.requests]).decode()
    assert outcome.resume_token not in shown


# Approving.


async def test_an_approved_graph_runs_and_the_run_goes_on(stage: Any) -> None:
    """The calls run, the model sees their results, and steps go on counting."""
    engine, pay = paying(stage)
    first = await asked(stage, engine)
    *_, last = await stage.play(engine, says(stage, first, approver="ann", metadata={"ip": "::1"}))
    assert ("done", 2, first.trigger_id) == (
        last.outcome.response,
        last.outcome.steps_executed,
        last.outcome.trigger_id,
    )
    assert 1 == len(pay.invocations)
    (resolution,) = await stage.records(ApprovalResolution)
    assert ("approved", "ann", {"ip": "::1"}, None) == (
        resolution.decision,
        resolution.approver,
        resolution.metadata,
        resolution.edited_calls,
    )


async def test_the_answer_and_the_start_are_one_append(stage: Any) -> None:
    """With the intent of the answer, its token is spent and the calls are started."""
    engine, _ = paying(stage)
    outcome = await asked(stage, engine)
    await engine.submit(says(stage, outcome))
    before = len(await stage.stored())
    ledger, appended = engine.ledger, []
    append = ledger.append

    async def watched(session_id: str, records: Any, **rest: Any) -> Any:
        appended.append([entry.record.kind for entry in records])
        return await append(session_id, records, **rest)

    ledger.append = watched
    await engine.advance(stage.go_on)
    assert before < len(await stage.stored())
    assert [
        "trigger_intent",
        "approval_resolution",
        "tool_execution_graph",
        "skill_input_validation",
        "tool_call",
        "tool_node_checkpoint",
    ] == appended[0]


async def test_it_runs_with_the_scopes_of_the_request(stage: Any) -> None:
    """Not the approver's scopes count but those of the request; nor does the approver get any."""
    profile = AgentProfile(default_scopes=("a", *REVIEWER))
    engine, pay = paying(stage, profile=profile)
    outcome = await asked(stage, engine, stage.request(granted_scopes=("b",)))
    await refused(stage, engine, says(stage, outcome, scopes=("c",)), "lacks scopes")
    await stage.play(engine, says(stage, outcome, scopes=(*REVIEWER, "c")))
    (invocation,) = pay.invocations
    assert ("a", *REVIEWER, "b") == invocation.context.granted_scopes
    answers = await stage.records(TriggerRecord)
    assert [(*REVIEWER, "c")] == [answer.granted_scopes for answer in answers[2:]]


async def test_calls_that_are_refused_by_now_get_their_refusal(stage: Any) -> None:
    """An approval is no pass: what the policy, the schema or a missing scope refuse stays so."""
    engine, pay = paying(stage)
    outcome = await asked(stage, engine)
    edited = says(stage, outcome, edited_args={"c1": {"cents": "many"}})
    await stage.play(engine, edited)
    assert ({"c1": "invalid_arguments"}, []) == (await stage.results(), pay.invocations)


async def test_approved_arguments_may_be_edited(stage: Any) -> None:
    """The call runs with the arguments that the person gave it, which is recorded and shown."""
    engine, pay = paying(stage)
    outcome = await asked(stage, engine)
    edits = {"c1": {"cents": 7}}
    engine = stage.engine([Continue(), Respond("x"), Respond("x")], pay)
    await engine.advance(stage.request())
    await engine.advance(says(stage, outcome, edited_args=edits))
    edits["c1"]["cents"] = 9_999  # the caller's own, while the answer waits for its turn
    await engine.advance(stage.go_on)
    (invocation,) = pay.invocations
    (resolution,) = await stage.records(ApprovalResolution)
    (graph,) = await stage.records(ToolExecutionGraph)
    *_, trigger = [record.trigger for record in await stage.records(TriggerRecord)]
    assert {"cents": 7} == invocation.args == trigger.edited_args["c1"]
    approved = (manifest_version(pay.manifest),)
    assert (graph.calls, approved) == (resolution.edited_calls, graph.approved_versions)


@pytest.mark.parametrize(
    ("edits", "decision", "why"),
    [
        ({"c2": {}}, "approved", "edited_args names calls that are not pending: c2"),
        ({"c1": 7}, "approved", "edited_args has to give an object for: c1"),
        ({"c1": {}}, "rejected", "what is rejected cannot be edited"),
        ({"c1": {"x": "y" * 40_000}}, "approved", "edited_args: $"),
    ],
    ids=["strange", "shapeless", "rejected", "large"],
)
async def test_edits_that_cannot_be(stage: Any, edits: Any, decision: Any, why: str) -> None:
    """Edits of other calls, in no shape, of what is rejected or too large are refused."""
    calls = CallSkills([stage.call("pay"), stage.call("pay", "c9", args={"x": "y" * 40_000})])
    pay = stage.skill("pay", approval_required=True)
    stage.ledger = InMemoryLedger(stage.clock, max_payload_bytes=65_536)
    engine = stage.engine([calls, Respond("done")], pay)
    outcome = await asked(stage, engine)
    answer = says(stage, outcome, decision, edited_args=edits)
    await refused(stage, engine, answer, why)
    await stage.play(engine, says(stage, outcome))
    assert 2 == len(pay.invocations)


# Rejecting.


async def test_rejected_calls_are_denied_and_the_run_goes_on(stage: Any) -> None:
    """Each call gets a result that says so, the model is told why, and may answer."""
    engine, pay = paying(stage)
    outcome = await asked(stage, engine)
    *_, last = await stage.play(
        engine, says(stage, outcome, "rejected", approver="ann", comment="too much")
    )
    (result,) = await stage.records(ToolResult)
    assert ("permission_denied", "rejected by ann: too much") == (
        result.failure.kind,
        result.failure.message,
    )
    assert ([], "done") == (pay.invocations, last.outcome.response)
    assert "too much" in encode_value(stage.provider.requests[-1].messages).decode()


# Answers that do not count.


async def test_a_token_is_spent_once(stage: Any) -> None:
    """A second answer, whatever it says, is told that it comes too late."""
    engine, pay = paying(stage)
    outcome = await asked(stage, engine)
    await stage.play(engine, says(stage, outcome))
    for decision in ("approved", "rejected"):
        await refused(stage, engine, says(stage, outcome, decision), "resolved already")
    assert 1 == len(pay.invocations)


async def test_an_expired_token(stage: Any) -> None:
    """After its time a token resumes nothing."""
    profile = AgentProfile(review=ReviewPolicy(approval_ttl_ms=1_000))
    engine, pay = paying(stage, profile=profile)
    outcome = await asked(stage, engine)
    stage.clock.jump(1_000)
    await refused(stage, engine, says(stage, outcome), "expired")
    assert [] == pay.invocations


async def test_an_answer_just_in_time(stage: Any) -> None:
    """Until its time is over a token counts."""
    profile = AgentProfile(review=ReviewPolicy(approval_ttl_ms=1_000))
    engine, pay = paying(stage, profile=profile)
    outcome = await asked(stage, engine)
    stage.clock.jump(999)
    await stage.play(engine, says(stage, outcome))
    assert 1 == len(pay.invocations)


@pytest.mark.parametrize("token", ["", "0" * 32, "x"])
async def test_a_forged_token(stage: Any, token: str) -> None:
    """A token that the engine never made resumes nothing."""
    engine, pay = paying(stage)
    outcome = await asked(stage, engine)
    forged = attrs.evolve(outcome, resume_token=token)
    await refused(stage, engine, says(stage, forged), "nothing in this session waits")
    assert [] == pay.invocations


async def test_a_token_of_another_session(stage: Any) -> None:
    """A token counts in its own session alone."""
    engine, pay = paying(stage, stage.calls("pay"))
    outcome = await asked(stage, engine, stage.request(session_id="other"))
    stage.clock.jump(1)
    await asked(stage, engine)
    stolen = says(stage, outcome)
    (result,) = await stage.play(engine, stolen)
    assert ("policy_aborted", []) == (result.outcome.stop_reason, pay.invocations)


async def test_an_answer_to_no_session_leaves_no_trace(stage: Any) -> None:
    """Where there is no session an answer is an error, and begins none."""
    engine, _ = paying(stage)
    forged = Approval(resume_token="x", decision="approved")
    for take in (engine.advance, engine.submit):
        with pytest.raises(SessionNotFound):
            await take(stage.request(trigger=forged))
    assert [] == await stage.stored()


CHANGES: list[dict[str, Any]] = [
    {"version": "2"},
    {"description": "What pay did not do before."},
    {"input_schema": {"type": "object", "properties": {"cents": {"type": "number"}}}},
    {"required_scopes": ("money",)},
    {"effects": "idempotent"},
    {"resource_policy": ResourcePolicy(timeout_ms=1)},
]
"""Of a manifest; a version that was kept by hand is no promise that nothing else has changed."""


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: next(iter(change)))
async def test_a_skill_that_changed_meanwhile(stage: Any, change: dict[str, Any]) -> None:
    """What was approved is a skill as it was; another one is refused, and can be rejected."""
    engine, new = paying(stage)
    outcome = await asked(stage, engine)
    new.manifest = attrs.evolve(new.manifest, **change)
    engine = stage.engine([Respond("done")], new)
    await refused(stage, engine, says(stage, outcome), "has changed")
    engine.unregister_skill("pay")
    await refused(stage, engine, says(stage, outcome), "has changed")
    *_, last = await stage.play(engine, says(stage, outcome, "rejected"))
    assert ([], "done") == (new.invocations, last.outcome.response)


@pytest.mark.parametrize("change", [{"version": "2"}, {"description": "Another."}])
async def test_a_skill_that_changed_after_the_approval(stage: Any, change: dict[str, Any]) -> None:
    """The calls of an approved graph are made as they were approved, also again, or not at all."""
    slow = stage.skill("pay", stage.taking(60), approval_required=True)
    calls = CallSkills([stage.call("pay", "c1"), stage.call("pay", "c2", depends_on=("c1",))])
    engine = stage.engine([calls], slow)
    outcome = await asked(stage, engine)
    await stage.interrupt(engine, says(stage, outcome))
    new = stage.skill("pay", approval_required=True)
    new.manifest = attrs.evolve(slow.manifest, **change)
    await stage.play(stage.engine([Respond("x")], new, ledger=stage.other_handle()), stage.go_on)
    assert {"c1": "permission_denied", "c2": "permission_denied"} == await stage.results()
    assert [] == new.invocations


@pytest.mark.parametrize(
    ("approver", "why"),
    [("user", "the requester may not answer"), ("", "has to be named")],
)
async def test_the_requester_may_be_excluded(stage: Any, approver: str, why: str) -> None:
    """Where the policy says so the requester may not approve, and nobody may unnamed."""
    profile = AgentProfile(review=ReviewPolicy(requester_may_approve=False))
    engine, pay = paying(stage, profile=profile)
    outcome = await asked(stage, engine)
    await refused(stage, engine, says(stage, outcome, approver=approver), why)
    await stage.play(engine, says(stage, outcome, approver="ann"))
    assert 1 == len(pay.invocations)


async def test_nobody_is_excluded_from_what_nobody_asked_for(stage: Any) -> None:
    """A run that no person set in motion can be approved by whoever may."""
    profile = AgentProfile(review=ReviewPolicy(requester_may_approve=False))
    engine, pay = paying(stage, profile=profile)
    hook = stage.request(trigger=Webhook(source="s", payload={}))
    outcome = await asked(stage, engine, hook)
    await stage.play(engine, says(stage, outcome))
    assert 1 == len(pay.invocations)


@pytest.mark.parametrize("kind", ["doubt", "delegation"])
async def test_another_kind_of_answer(stage: Any, kind: str) -> None:
    """A token is answered in the way that was asked for, or not at all."""
    engine, _ = paying(stage)
    outcome = await asked(stage, engine)
    token = outcome.resume_token
    verdict = DoubtVerdict(call_id="c1", verdict="happened")
    trigger: Any = {
        "doubt": DoubtResolution(resume_token=token, verdicts=(verdict,)),
        "delegation": DelegationResult(correlation_id=token, payload={}),
    }[kind]
    why = {"doubt": "waits for another kind of answer: a Approval", "delegation": "nothing"}[kind]
    await refused(stage, engine, stage.request(trigger=trigger, granted_scopes=REVIEWER), why)


@pytest.mark.parametrize(
    "fields",
    [
        {"decision": "perhaps"},
        {"decision": None},
        {"resume_token": {}},
        {"edited_args": []},
        {"edited_args": {"c1": {"x": float("nan")}}},
        {"metadata": "\0"},
        {"comment": None},
        {"approver": 7},
    ],
    ids=str,
)
async def test_an_answer_that_is_none(stage: Any, fields: dict[str, Any]) -> None:
    """A malformed answer is an error of whoever gives it, and nothing is stored."""
    engine, _ = paying(stage)
    outcome = await asked(stage, engine)
    trigger = Approval(**{"resume_token": outcome.resume_token, "decision": "approved"} | fields)
    before = await stage.stored()
    for take in (engine.advance, engine.submit):
        with pytest.raises(InadmissibleValue):
            await take(stage.request(trigger=trigger, granted_scopes=REVIEWER))
    assert before == await stage.stored()


# What a model asks for by itself.


async def test_a_model_may_ask_for_its_calls(stage: Any) -> None:
    """A model's own `Suspend` puts its calls to a person, whether or not they need it."""
    look = stage.skill("look")
    wait = Suspend(reason="may I?", pending_calls=(stage.call("look"),))
    engine = stage.engine([wait, Respond("done")], look)
    outcome = await asked(stage, engine)
    assert ("may I?", []) == (outcome.detail, look.invocations)
    *_, last = await stage.play(engine, says(stage, outcome))
    assert ({"c1": "done"}, "done") == (await stage.results(), last.outcome.response)


@pytest.mark.parametrize("decision", ["approved", "rejected"])
async def test_a_model_may_ask_whether_to_go_on(stage: Any, decision: str) -> None:
    """Without calls it is a question alone, and the model sees what was said to it."""
    engine = stage.engine([Suspend(reason="go on?"), Respond("done")])
    outcome = await asked(stage, engine)
    (result,) = await stage.play(engine, says(stage, outcome, decision, comment="so be it"))
    assert ("done", 2) == (result.outcome.response, result.outcome.steps_executed)
    (part,) = stage.provider.requests[-1].messages[-1].parts
    assert (decision, "so be it") == (part.value["decision"], part.value["comment"])
    assert [] == await stage.records(ToolExecutionGraph)


async def test_the_model_is_told_no_metadata(stage: Any) -> None:
    """What the host keeps of an approval stays with the host."""
    engine = stage.engine([Suspend(reason="go on?"), Respond("done")])
    outcome = await asked(stage, engine)
    await stage.play(engine, says(stage, outcome, metadata={"from": "secret-address"}))
    assert "secret-address" not in encode_value(stage.provider.requests[-1].messages).decode()


async def test_a_delegation_that_is_not_allowed_any_more(stage: Any) -> None:
    """A delegation that a person lets go out has to be allowed then, too."""
    target, task = DelegationTarget(stream="x"), DelegatedTask(task_type="t", payload={})
    turns = [Delegate(target=target, task=task), Respond("done")]
    outcome = await asked(stage, stage.engine(turns, profile=AgentProfile(delegates=("x",))))
    engine = stage.engine(turns[1:], profile=AgentProfile(delegates=("y",)))
    await refused(stage, engine, says(stage, outcome), "may not delegate to 'x'")
    *_, last = await stage.play(engine, says(stage, outcome, "rejected"))
    assert "done" == last.outcome.response


async def test_no_room_to_wait(stage: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """With too many runs waiting, further calls that need an approval are refused."""
    monkeypatch.setattr("rainengine.core.engine._services.PARKED_RUNS", 1)
    engine, pay = paying(stage, stage.calls("pay"), Suspend(reason="may I?"), Respond("x"))
    outcome = await asked(stage, engine)
    *_, last = await stage.play(engine)
    assert ("x", {"c1": "permission_denied"}) == (last.outcome.response, await stage.results())
    assert 1 == len(await stage.records(PendingApproval))
    assert "suspend" not in stage.provider.requests[-1].actions
    await stage.play(engine, says(stage, outcome))
    assert 1 == len(pay.invocations)


async def test_suspended_time_does_not_count(stage: Any) -> None:
    """A run may wait for longer than it may take; the time that it ran before it waited counts."""
    engine, _ = paying(stage, policy=EnginePolicy(max_execution_time_ms=1_000))
    outcome = await asked(stage, engine)
    stage.clock.jump(3_600_000)
    *_, last = await stage.play(engine, says(stage, outcome))
    assert "responded" == last.outcome.stop_reason
    (*_, outcome_record) = await stage.records(OutcomeRecord)
    assert 2 == outcome_record.steps_executed
