"""What a model is asked in a step: for an action, for a plan, or for a summary."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import cast

import attrs

from rainengine.core import codec
from rainengine.core.abc import ModelPlanner, PlanningContext, ProviderRequest, StepContext
from rainengine.core.engine._asking import told
from rainengine.core.engine._services import Services, Step
from rainengine.core.kernel import (
    REASON_CHARACTERS,
    AskProvider,
    Finish,
    build_context,
    build_summary_context,
    deadline_ms,
    items_to_summarise,
    offered_skills,
    shown_items,
)
from rainengine.core.projection import Run, SessionProjection, WindowItem
from rainengine.core.records import ChatMessage, ContextManifest, JsonObject, Purpose, SkillManifest

_log = logging.getLogger("rainengine.core")


@attrs.frozen(kw_only=True)
class Question:
    """A request, and what is recorded of what it shows."""

    request: ProviderRequest
    manifest: ContextManifest

    @property
    def purpose(self) -> Purpose:
        """What the model is asked for."""
        return self.request.purpose


def question(step: Step, effect: AskProvider) -> Question | Finish:
    """Make the request for a step; or say how the run ends, as none can be made."""
    if effect.purpose == "summarise":
        return _for_summary(step, effect.step)
    planning = _for_plan(step, effect.step) if effect.purpose == "plan" else None
    return planning or _for_action(step, effect.step)


def _for_action(step: Step, number: int) -> Question | Finish:
    projection, run, profile = step.session.projection, step.run, step.profile
    build = step.services.build_context
    if build is build_context:
        searchable = "memory_search" in step.able
        return _to_act(step, number, build_context(projection, run, profile, searchable=searchable))
    try:
        return _to_act(step, number, _checked(build(projection, run, profile)))
    except Exception as error:  # noqa: BLE001  # the host's code, whose place nothing can take
        _log.exception("no context could be built for a %s", type(run.trigger).__name__)
        why = codec.clean_text(told(error))
        return Finish("policy_aborted", f"no context could be built: {why}"[:REASON_CHARACTERS])


def _to_act(step: Step, number: int, messages: tuple[ChatMessage, ...]) -> Question:
    projection = step.session.projection
    skills = skills_for(step.services, projection, step.run)
    request = _request(step, number, messages, available_skills=skills, actions=step.able)
    items = shown_items(projection, step.profile.memory)
    return _seen(step, request, items, projection.sequence)


def _for_summary(step: Step, number: int) -> Question:
    projection = step.session.projection
    items = items_to_summarise(projection, step.profile.memory)
    messages = build_summary_context(projection, items)
    request = _asking_for_text(_request(step, number, messages, purpose="summarise"), None)
    return _seen(step, request, items, items[-1].sequence)


def _for_plan(step: Step, number: int) -> Question | None:
    planner = step.services.asking_planner
    if planner is None:
        return None
    try:
        return _asked_by(planner, step, number)
    except Exception:  # noqa: BLE001  # the host's code; the run goes on without a plan
        _log.exception("the planner failed on a %s", type(step.run.trigger).__name__)
        return None


def _asked_by(planner: ModelPlanner, step: Step, number: int) -> Question | None:
    projection = step.session.projection
    asked = planner.question(projection, planning_context(step.services, projection, step.run))
    if asked is None:
        return None
    schema = asked.response_schema
    schema = None if schema is None else codec.to_json_object(schema)
    request = _request(step, number, _checked(asked.messages), purpose="plan")
    return _seen(step, _asking_for_text(request, schema), (), projection.sequence)


def _checked(messages: object) -> tuple[ChatMessage, ...]:
    """Return what the host's code made as messages. Raises `TypeError`."""
    if not isinstance(messages, tuple):
        raise TypeError(f"{type(messages).__name__} is no tuple of messages")
    made = cast("tuple[object, ...]", messages)
    strange = [type(one).__name__ for one in made if not isinstance(one, ChatMessage)]
    if strange:
        raise TypeError(f"{strange[0]} is no message")
    return cast("tuple[ChatMessage, ...]", messages)


def _seen(step: Step, request: ProviderRequest, items: Sequence[WindowItem], last: int) -> Question:
    """Return the question, whose messages can be encoded: they are hashed before it is asked."""
    first = items[0].sequence if items else 0
    return Question(request=request, manifest=_manifest_of(step, request, first, last))


def _request(
    step: Step, number: int, messages: tuple[ChatMessage, ...], **details: object
) -> ProviderRequest:
    run = step.run
    context = StepContext(
        tenant=step.session.backing.ledger.tenant,
        session_id=step.session.session_id,
        trigger_id=run.trigger_id,
        agent=run.agent,
        step=number,
        granted_scopes=run.granted_scopes,
        deadline_ms=deadline_ms(run, step.policy),
    )
    given: dict[str, object] = {"available_skills": (), **details}
    return ProviderRequest(
        trigger=run.trigger,
        context=context,
        messages=messages,
        config=run.provider,
        policy=step.policy,
        **given,  # type: ignore[arg-type]  # as the callers above name them
    )


def _asking_for_text(request: ProviderRequest, schema: JsonObject | None) -> ProviderRequest:
    config = attrs.evolve(request.config, response_schema=schema)
    return attrs.evolve(request, config=config, actions=frozenset({"respond"}))


def skills_for(
    services: Services, projection: SessionProjection, run: Run
) -> tuple[SkillManifest, ...]:
    """The skills that a run may use."""
    manifests = tuple(skill.manifest for skill in services.skills.values())
    allowed = services.agent.profile.allowed_skills
    return offered_skills(manifests, run.granted_scopes, allowed, projection.skills)


def planning_context(
    services: Services, projection: SessionProjection, run: Run
) -> PlanningContext:
    """What a planner is told of a run."""
    return PlanningContext(
        trigger_id=run.trigger_id,
        trigger=run.trigger,
        agent=run.agent,
        granted_scopes=run.granted_scopes,
        skills=skills_for(services, projection, run),
        now_ms=services.clock.now_ms(),
    )


def _manifest_of(
    step: Step, request: ProviderRequest, first_sequence: int, last_sequence: int
) -> ContextManifest:
    """Say what the model is shown without repeating it."""
    skills, agent = request.available_skills, step.services.agent
    return ContextManifest(
        first_sequence=first_sequence,
        last_sequence=last_sequence,
        prompt_hash=codec.prompt_hash(request.messages, [_shown(skill) for skill in skills]),
        skills=tuple(f"{skill.name}@{skill.version}" for skill in skills),
        agent=f"{agent.name}@{agent.version}",
        prompt=agent.profile.prompt_version,
    )


def _shown(skill: SkillManifest) -> tuple[str, str, object]:
    return skill.name, skill.description, skill.input_schema
