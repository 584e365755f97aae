"""Looking at calls before they start: arguments, scopes, policy, circuit; and their keys."""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from rainengine.core import codec
from rainengine.core.abc import AnySkill
from rainengine.core.kernel import CallFacts, refusal
from rainengine.core.projection import Graph, Run, SessionProjection
from rainengine.core.records import (
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

    `classes` are the priority classes of their skills.
    """

    checks: tuple[InputCheck, ...]
    refusals: Mapping[str, ToolFailure]
    issued: Mapping[str, IssuedCall]
    classes: Mapping[str, int]


@attrs.frozen(kw_only=True, eq=False)
class Inspector:
    """Inspects the calls of one run's graph."""

    tenant: str
    session_id: str
    projection: SessionProjection
    run: Run
    policy: EnginePolicy
    skills: Mapping[str, AnySkill]
    allowed: tuple[str, ...] | None
    now_ms: int

    def inspect(self, graph: Graph) -> Inspection:
        """Inspect the calls of `graph` that have not been started."""
        checks: list[InputCheck] = []
        refusals: dict[str, ToolFailure] = {}
        issued: dict[str, IssuedCall] = {}
        classes: dict[str, int] = {}
        tried = {n.call.name for n in graph.nodes.values() if n.status == "started"}
        for call_id, node in graph.nodes.items():
            if node.status != "queued":
                continue
            facts = self._facts(node.call, tried=node.call.name in tried)
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
        return Inspection(checks=tuple(checks), refusals=refusals, issued=issued, classes=classes)

    def _facts(self, call: PlannedSkillCall, *, tried: bool) -> CallFacts:
        skill = self.skills.get(call.name)
        errors: tuple[str, ...] = ()
        if skill is not None and self.policy.validate_tool_args:
            errors = argument_errors(skill.manifest.input_schema, call.args, admitted=True)
        return CallFacts(
            call=call,
            manifest=None if skill is None else skill.manifest,
            native=skill is not None and skill.native,
            allowed=self.allowed is None or call.name in self.allowed,
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
