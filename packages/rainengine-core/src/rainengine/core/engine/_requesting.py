"""What a model is asked in a step: for an action, for a plan, or for a summary."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import attrs

from rainengine.core import codec
from rainengine.core.abc import PlanningContext, ProviderRequest, StepContext
from rainengine.core.engine._services import Services, Step
from rainengine.core.kernel import (
    AskProvider,
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
    """A request, and the range of records behind its messages."""

    request: ProviderRequest
    first_sequence: int
    last_sequence: int

    @property
    def purpose(self) -> Purpose:
        """What the model is asked for."""
        return self.request.purpose


def question(step: Step, effect: AskProvider) -> Question:
    """Make the request for a step."""
    if effect.purpose == "summarise":
        return _for_summary(step, effect.step)
    planning = _for_plan(step, effect.step) if effect.purpose == "plan" else None
    return planning or _for_action(step, effect.step)


def _for_action(step: Step, number: int) -> Question:
    projection = step.session.projection
    request = _request(
        step,
        number,
        _messages(step),
        available_skills=skills_for(step.services, projection, step.run),
        actions=step.able,
    )
    items = shown_items(projection, step.profile.memory)
    return _seen(request, items, projection.sequence)


def _messages(step: Step) -> tuple[ChatMessage, ...]:
    projection, run, profile = step.session.projection, step.run, step.profile
    build = step.services.build_context
    if build is build_context:
        return build_context(projection, run, profile, searchable="memory_search" in step.able)
    return build(projection, run, profile)


def _for_summary(step: Step, number: int) -> Question:
    projection = step.session.projection
    items = items_to_summarise(projection, step.profile.memory)
    messages = build_summary_context(projection, items)
    request = _asking_for_text(_request(step, number, messages, purpose="summarise"), None)
    return _seen(request, items, items[-1].sequence)


def _for_plan(step: Step, number: int) -> Question | None:
    planner = step.services.asking_planner
    if planner is None:
        return None
    context = planning_context(step.services, step.session.projection, step.run)
    try:
        asked = planner.question(step.session.projection, context)
    except Exception:  # noqa: BLE001  # the host's code; the run goes on without a plan
        _log.exception("the planner failed on a %s", type(step.run.trigger).__name__)
        return None
    if asked is None:
        return None
    request = _request(step, number, asked.messages, purpose="plan")
    sequence = step.session.projection.sequence
    return _seen(_asking_for_text(request, asked.response_schema), (), sequence)


def _seen(request: ProviderRequest, items: Sequence[WindowItem], last: int) -> Question:
    first = items[0].sequence if items else 0
    return Question(request=request, first_sequence=first, last_sequence=last)


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


def manifest_of(step: Step, asked: Question) -> ContextManifest:
    """Say what the model was shown without repeating it."""
    skills = asked.request.available_skills
    agent = step.services.agent
    return ContextManifest(
        first_sequence=asked.first_sequence,
        last_sequence=asked.last_sequence,
        prompt_hash=codec.prompt_hash(asked.request.messages, [_shown(skill) for skill in skills]),
        skills=tuple(f"{skill.name}@{skill.version}" for skill in skills),
        agent=f"{agent.name}@{agent.version}",
        prompt=agent.profile.prompt_version,
    )


def _shown(skill: SkillManifest) -> tuple[str, str, object]:
    return skill.name, skill.description, skill.input_schema
