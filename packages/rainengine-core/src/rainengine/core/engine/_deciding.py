"""What comes of asking the model in a step: its decision, or a failure that is tried again later.

Every attempt is recorded. One that failed and may be made again is a step of its own, so that no
run goes on for ever; the next one waits until the time that is recorded with it.
"""

from __future__ import annotations

import logging
from functools import partial

import attrs
import trio

from rainengine.core import codec
from rainengine.core.abc import ProviderDecision
from rainengine.core.engine import _asking as asking
from rainengine.core.engine import _requesting as requesting
from rainengine.core.engine import _reservations as reservations
from rainengine.core.engine import _usage as usages
from rainengine.core.engine._planning import plan_from
from rainengine.core.engine._requesting import Question
from rainengine.core.engine._services import Step
from rainengine.core.errors import ProviderError
from rainengine.core.kernel import (
    AskProvider,
    Finish,
    Followed,
    backoff_ceiling_ms,
    complaint,
    deadline_ms,
    follow,
    out_of_time,
    provider_failed,
)
from rainengine.core.records import (
    Action,
    ContextManifest,
    Continue,
    ModelDecision,
    Purpose,
    Record,
    Respond,
    Summary,
)

_MAX_WAIT_MS = 2**31
_log = logging.getLogger("rainengine.core")


@attrs.frozen(kw_only=True)
class Decided:
    """The records of an attempt, and what follows. `steps` have then been executed by the run."""

    records: list[Record]
    followed: Followed
    steps: int


async def decide(step: Step, effect: AskProvider) -> Decided:
    """Ask the model what the effect says."""
    asked = requesting.question(step, effect)
    if isinstance(asked, Finish):
        return _ended(step, asked)
    answer = await _attempt(step, effect.step, asked)
    if isinstance(answer, Finish) and _is_done_without(answer, asked.purpose):
        records: list[Record] = [_unusable(effect.step, asked.purpose, answer.detail)]
        return Decided(records=records, followed=Followed(), steps=effect.step)
    if isinstance(answer, Finish):
        return _ended(step, answer)
    if isinstance(answer, ProviderError):
        records, followed = _failed(step, effect.step, asked.purpose, answer)
    else:
        records, followed = _answered(step, effect.step, asked, answer)
    return Decided(records=records, followed=followed, steps=effect.step)


def _is_done_without(refused: Finish, purpose: Purpose) -> bool:
    """Whether a run goes on although what it wanted to ask does not fit, or cannot be quoted."""
    return purpose != "act" and refused.stop_reason in ("policy_aborted", "provider_failure")


def _ended(step: Step, end: Finish) -> Decided:
    return Decided(records=[], followed=Followed(finish=end), steps=step.run.steps)


async def _attempt(
    step: Step, number: int, asked: Question
) -> ProviderDecision | ProviderError | Finish:
    await _wait_for_retry(step)
    refused = _stopped(step) or await reservations.ensure(step, number, asked.request)
    if refused is not None:
        return refused
    remaining_ms = asked.request.context.deadline_ms - step.now_ms()
    timeout_ms = max(min(step.policy.provider_timeout_ms, remaining_ms), 1)
    ask = partial(asking.ask, step.services, asked.request, timeout_ms)
    answer = await step.session.unless_cancelled(ask)
    if answer is None:
        return _stopped(step) or Finish("cancelled", "")
    if isinstance(answer, asking.NoAnswer) and timeout_ms < step.policy.provider_timeout_ms:
        return asking.OutOfTime(str(answer), kind="timeout", retryable=False)
    return answer


async def _wait_for_retry(step: Step) -> None:
    """Wait until a failed call may be made again; never longer than a run may take."""
    wait_ms = step.run.retry_at_ms - step.now_ms()
    if wait_ms > 0:  # or the clock was set back
        wait_s = min(wait_ms, step.policy.max_execution_time_ms) / 1000
        await step.session.unless_cancelled(partial(trio.sleep, wait_s))


def _stopped(step: Step) -> Finish | None:
    """How the run ends if it was stopped, or came to its time, since the step began."""
    reason, now_ms = step.session.cancelled(step.run), step.now_ms()
    if reason is not None:
        return Finish("cancelled", reason)
    over = now_ms >= deadline_ms(step.run, step.policy)
    return out_of_time(step.run, step.policy, now_ms) if over else None


# Failures.


def _failed(
    step: Step, number: int, purpose: Purpose, error: ProviderError
) -> tuple[list[Record], Followed]:
    kind, message = asking.kind_of(error), codec.shown(error, str)
    model, reserved = step.run.provider.model, step.run.reservation
    record = usages.failure_record(number, model, kind, message, reserved)
    if isinstance(error, asking.OutOfTime):
        return [record], Followed(finish=out_of_time(step.run, step.policy, step.now_ms()))
    retry_at_ms = _retry_at_ms(step, error)
    if retry_at_ms is not None:
        return [attrs.evolve(record, retry_at_ms=retry_at_ms)], Followed()
    told = f"{kind}: {record.error}"
    if purpose != "act":  # the run goes on without
        return [record, _unusable(number, purpose, told)], Followed()
    return [record], Followed(finish=provider_failed(step.policy, told, kind))


def _retry_at_ms(step: Step, error: ProviderError) -> int | None:
    """When to ask again, or None where that is not to be."""
    policy, failures = step.policy.provider_retry, step.run.provider_failures + 1
    if not asking.is_retryable(error) or failures >= policy.max_attempts:
        return None
    wait_ms = backoff_ceiling_ms(policy, failures) * step.services.ids.fraction()
    advised_ms = min(asking.advised_wait_ms(error), _MAX_WAIT_MS)
    at_ms = step.now_ms() + round(max(wait_ms, advised_ms))
    return at_ms if at_ms < deadline_ms(step.run, step.policy) else None


def _unusable(
    number: int,
    purpose: Purpose,
    why: str,
    answer: ProviderDecision | None = None,
    manifest: ContextManifest | None = None,
) -> ModelDecision:
    return ModelDecision(
        step=number,
        action=None,
        purpose=purpose,
        context=manifest,
        model=None if answer is None else answer.model,
        provider=None if answer is None else answer.provider,
        invalid=codec.clean_text(why)[:500],
    )


# Answers.


def _answered(
    step: Step, number: int, asked: Question, answer: ProviderDecision
) -> tuple[list[Record], Followed]:
    """Return the records of an answer, whatever the provider has put into it."""
    taken, manifest = _ANSWERED[asked.purpose], asked.manifest
    try:
        return taken(step, number, asked, asking.sound(answer), manifest)
    except Exception as error:  # noqa: BLE001  # or it would be asked again, and never counted
        _log.exception("the provider's answer could not be taken in")
        why, model = asking.told(error), step.run.provider.model
        spent = usages.failure_record(
            number, model, "invalid_response", codec.clean_text(why), step.run.reservation
        )
        return [spent, _unusable(number, asked.purpose, why, manifest=manifest)], Followed()


def _action(
    step: Step, number: int, asked: Question, answer: ProviderDecision, manifest: ContextManifest
) -> tuple[list[Record], Followed]:
    usage = usages.usage_records(number, answer, step.run.reservation)
    cap = step.session.backing.ledger.max_payload_bytes
    stored = asking.storable(number, answer, manifest, cap=cap)
    reason = usages.usage_complaint(usage) or _complaint(step, stored)
    if isinstance(stored, str) or stored.action is None or reason is not None:
        return [*usage, asking.invalid_decision(number, answer, reason or "", manifest)], Followed()
    followed = follow(stored.action, step.run.trigger_id, number)
    return [*usage, stored, *followed.records], followed


def _complaint(step: Step, stored: ModelDecision | str) -> str | None:
    if isinstance(stored, str):
        return stored
    return complaint(stored.action, step.policy, step.able, step.profile.delegates)


def _summary(
    step: Step, number: int, asked: Question, answer: ProviderDecision, manifest: ContextManifest
) -> tuple[list[Record], Followed]:
    usage = usages.usage_records(number, answer, step.run.reservation)
    text = _text_of(step, answer)
    if text is None:
        why = "the model gave no summary"
        return [*usage, _unusable(number, "summarise", why, answer, manifest)], Followed()
    decision = _decided(number, "summarise", answer, manifest)
    return [
        *usage,
        decision,
        Summary(text=text, through_sequence=manifest.last_sequence),
    ], Followed()


def _plan(
    step: Step, number: int, asked: Question, answer: ProviderDecision, manifest: ContextManifest
) -> tuple[list[Record], Followed]:
    usage = usages.usage_records(number, answer, step.run.reservation)
    text = _text_of(step, answer)
    planned = plan_from(step, text) if text is not None else "the model gave no text"
    if isinstance(planned, str):
        return [*usage, _unusable(number, "plan", planned, answer, manifest)], Followed()
    return [*usage, _decided(number, "plan", answer, manifest), *planned], Followed()


def _text_of(step: Step, answer: ProviderDecision) -> str | None:
    cap = step.session.backing.ledger.max_payload_bytes
    action: Action | None = asking.readable(answer.action, cap=cap)
    return action.content if isinstance(action, Respond) and action.content.strip() else None


def _decided(
    number: int, purpose: Purpose, answer: ProviderDecision, manifest: ContextManifest
) -> ModelDecision:
    """The record of an answer whose text stands in another record."""
    return ModelDecision(
        step=number,
        action=Continue(),
        purpose=purpose,
        context=manifest,
        model=answer.model,
        provider=answer.provider,
    )


_ANSWERED = {"act": _action, "summarise": _summary, "plan": _plan}
