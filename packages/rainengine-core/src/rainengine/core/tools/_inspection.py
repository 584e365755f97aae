"""Looking at calls before they start: arguments, scopes, policy, circuit; and their keys."""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from rainengine.core import codec
from rainengine.core.abc import AnySkill, AsksApproval
from rainengine.core.kernel import CallFacts, approval_reason, refusal
from rainengine.core.projection import Graph, Run, SessionProjection
from rainengine.core.records import (
    AgentProfile,
    EnginePolicy,
    InputCheck,
    IssuedCall,
    PlannedSkillCall,
    ToolFailure,
)
from rainengine.core.tools._arguments import argument_errors


@attrs.frozen(kw_only=True)
class Inspection:
    """What was found of calls by their ids: checks, reasons against starting, calls as issued.

    `classes` are the priority classes of their skills, `approvals` says why calls have to be
    approved before anything of the graph may start.
    """

    checks: tuple[InputCheck, ...]
    refusals: Mapping[str, ToolFailure]
    issued: Mapping[str, IssuedCall]
    classes: Mapping[str, int]
    approvals: Mapping[str, str]


@attrs.frozen(kw_only=True, eq=False)
class Inspector:
    """Inspects the calls of one run's graph."""

    tenant: str
    session_id: str
    projection: SessionProjection
    run: Run
    policy: EnginePolicy
    skills: Mapping[str, AnySkill]
    profile: AgentProfile
    now_ms: int

    def inspect(self, graph: Graph, *, new: bool = False) -> Inspection:
        """Inspect the calls of `graph` that have not been started.

        Of a `new` graph calls may be found that need an approval, which can still be asked for.
        Later, one that is not approved is refused.
        """
        approvals: dict[str, str] = {}
        checks: list[InputCheck] = []
        refusals: dict[str, ToolFailure] = {}
        issued: dict[str, IssuedCall] = {}
        classes: dict[str, int] = {}
        tried = {n.call.name for n in graph.nodes.values() if n.status == "started"}
        for call_id, node in graph.nodes.items():
            if node.status != "queued":
                continue
            facts = self._facts(node.call, tried=node.call.name in tried)
            unapproved = None if graph.approved else self._approval_reason(node.call)
            if unapproved is not None and not new:
                facts = attrs.evolve(facts, approval=unapproved)
            refused = refusal(facts, self.policy)
            errors = facts.argument_errors
            checks.append(
                InputCheck(call_id=call_id, skill=node.call.name, valid=not errors, errors=errors)
            )
            if refused is not None:
                refusals[call_id] = refused
            elif facts.manifest is not None:
                classes[call_id] = facts.manifest.resource_policy.priority_class
                tried.add(node.call.name)
                issued[call_id] = self._issue(graph.graph_id, node.call)
                if unapproved is not None:
                    approvals[call_id] = unapproved
        return Inspection(
            checks=tuple(checks),
            refusals=refusals,
            issued=issued,
            classes=classes,
            approvals=approvals,
        )

    def _approval_reason(self, call: PlannedSkillCall) -> str | None:
        skill = self.skills.get(call.name)
        if skill is None:
            return None
        asked_for = _asked_for(skill, call)
        return approval_reason(
            skill.manifest, self.profile, native=skill.native, asked_for=asked_for
        )

    def _facts(self, call: PlannedSkillCall, *, tried: bool) -> CallFacts:
        skill = self.skills.get(call.name)
        errors: tuple[str, ...] = ()
        if skill is not None and self.policy.validate_tool_args:
            errors = argument_errors(skill.manifest.input_schema, call.args, admitted=True)
        return CallFacts(
            call=call,
            manifest=None if skill is None else skill.manifest,
            native=skill is not None and skill.native,
            allowed=self.profile.allowed_skills is None or call.name in self.profile.allowed_skills,
            argument_errors=errors,
            granted_scopes=self.run.granted_scopes,
            history=self.projection.skills.get(call.name),
            now_ms=self.now_ms,
            tried=tried,
        )

    def _issue(self, graph_id: str, call: PlannedSkillCall) -> IssuedCall:
        manifest = self.skills[call.name].manifest
        return IssuedCall(
            call_id=call.call_id,
            name=call.name,
            skill_version=manifest.version,
            effects=manifest.effects,
            idempotency_key=codec.call_key(
                self.tenant, self.session_id, graph_id, call.call_id, call.args
            ),
        )


def _asked_for(skill: AnySkill, call: PlannedSkillCall) -> str | None:
    if not isinstance(skill, AsksApproval):
        return None
    try:
        reason: object = skill.approval_reason(codec.copy_json(call.args))
    except Exception as error:  # noqa: BLE001  # a skill is somebody else's code
        return f"{call.name} could not say whether it needs one: {codec.shown(error, repr)}"
    if reason is None or reason is False:
        return None
    return reason if isinstance(reason, str) and reason else f"{call.name} asks for one"
