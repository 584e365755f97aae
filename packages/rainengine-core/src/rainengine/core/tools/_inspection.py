"""Looking at calls before they start: arguments, scopes, policy, circuit; and their keys.

A call that has been started is looked at again where another skill would make it than the one
that was looked at before: after a restart, or once a skill has been replaced.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from rainengine.core import codec
from rainengine.core.abc import AnySkill
from rainengine.core.kernel import CallFacts, approval_reason, refusal
from rainengine.core.projection import Graph, Node, Run, SessionProjection, SkillRecord
from rainengine.core.records import (
    AgentProfile,
    EnginePolicy,
    InputCheck,
    IssuedCall,
    PlannedSkillCall,
    ToolFailure,
)
from rainengine.core.tools._arguments import argument_errors

_REASON_CHARACTERS = 300
_OTHER_EFFECTS = "its skill has been replaced by one with other effects"


@attrs.define(kw_only=True)
class Inspection:
    """What was found of calls by their ids: checks, reasons against starting, calls as issued.

    `classes` are the priority classes of their skills, `approvals` says why calls have to be
    approved before anything of the graph may start.
    """

    checks: list[InputCheck] = attrs.field(factory=list[InputCheck])
    refusals: dict[str, ToolFailure] = attrs.field(factory=dict[str, ToolFailure])
    issued: dict[str, IssuedCall] = attrs.field(factory=dict[str, IssuedCall])
    classes: dict[str, int] = attrs.field(factory=dict[str, int])
    approvals: dict[str, str] = attrs.field(factory=dict[str, str])


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
    _seen: dict[str, AnySkill] = attrs.field(factory=dict[str, AnySkill], init=False)
    """The skills that calls were let through with."""

    def inspect(self, graph: Graph, *, asking: bool = False) -> Inspection:
        """Inspect the calls of `graph` that have not been started.

        One that needs an approval and has none is refused; where people can still be asked
        (`asking`), it is told of instead, unless the call would come to nothing anyway.
        """
        found = Inspection()
        tried = {n.call.name for n in graph.nodes.values() if n.status == "started"}
        for node in graph.nodes.values():
            if node.status == "queued":
                self._look_at(graph, node.call, found, tried, asking=asking)
        if found.approvals and found.refusals:
            for call_id in _never_reached(graph, found.refusals):
                found.approvals.pop(call_id, None)
        return found

    def _look_at(
        self,
        graph: Graph,
        call: PlannedSkillCall,
        found: Inspection,
        tried: set[str],
        *,
        asking: bool,
    ) -> None:
        call_id, history = call.call_id, self.projection.skills.get(call.name)
        facts = self._facts(call, history, tried=call.name in tried)
        errors = facts.argument_errors
        found.checks.append(
            InputCheck(call_id=call_id, skill=call.name, valid=not errors, errors=errors)
        )
        refused = refusal(facts, self.policy)
        unapproved = None if refused is not None else self._unapproved(graph, call)
        if unapproved is not None and not asking:
            refused = refusal(attrs.evolve(facts, approval=unapproved), self.policy)
        if refused is not None:
            found.refusals[call_id] = refused
        elif facts.manifest is not None:
            found.classes[call_id] = facts.manifest.resource_policy.priority_class
            found.issued[call_id] = self._issue(graph.graph_id, call)
            self._seen[call_id] = self.skills[call.name]
            tried.add(call.name)
            if unapproved is not None:
                found.approvals[call_id] = unapproved

    def bar(self, graph: Graph, node: Node) -> ToolFailure | None:
        """Why a call that was started may not be made by the skill that there is now, if so."""
        call, skill = node.call, self.skills.get(node.call.name)
        if skill is None or self._seen.get(call.call_id) is skill:
            return None
        facts = self._facts(call, history=None)  # a circuit is for calls that have not started
        approval = self._unapproved(graph, call)
        barred = refusal(attrs.evolve(facts, approval=approval), self.policy)
        if barred is None and skill.manifest.effects != node.effects:
            barred = ToolFailure(kind="internal", message=_OTHER_EFFECTS)
        if barred is None:
            self._seen[call.call_id] = skill
        return barred

    def _unapproved(self, graph: Graph, call: PlannedSkillCall) -> str | None:
        """Why the call needs an approval that it does not have, or None."""
        skill = self.skills[call.name]
        approved = graph.approved.get(call.call_id)
        if approved is not None:
            changed = approved != codec.manifest_version(skill.manifest)
            return "its skill has changed since somebody approved it" if changed else None
        asked_for = _asked_for(skill, call)
        return approval_reason(
            skill.manifest, self.profile, native=skill.native, asked_for=asked_for
        )

    def _facts(
        self, call: PlannedSkillCall, history: SkillRecord | None, *, tried: bool = False
    ) -> CallFacts:
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
            history=history,
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


def _never_reached(graph: Graph, refusals: Mapping[str, ToolFailure]) -> set[str]:
    """Return the calls that need a refused one, or one that needs such a one."""
    lost = set(refusals)
    while True:
        more = {
            call_id
            for call_id, node in graph.nodes.items()
            if not lost.isdisjoint(node.call.depends_on)
        }
        if more <= lost:
            return lost
        lost |= more


def _asked_for(skill: AnySkill, call: PlannedSkillCall) -> str | None:
    ask: Any = getattr(skill, "approval_reason", None)  # of `abc.AsksApproval`
    if ask is None:
        return None
    try:
        reason: object = ask(codec.copy_json(call.args))
    except Exception as error:  # noqa: BLE001  # a skill is somebody else's code
        told = codec.shown(error, repr)[:_REASON_CHARACTERS]
        return f"{call.name} could not say whether it needs one: {told}"
    if reason is None or reason is False:
        return None
    told = codec.clean_text(reason)[:_REASON_CHARACTERS] if isinstance(reason, str) else ""
    return told or f"{call.name} asks for one"
