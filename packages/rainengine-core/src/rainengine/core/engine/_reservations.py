"""Reservations: what the next call of the provider may use at most, set aside before it is made.

A reservation rides in the append that comes before the call, so it costs none of its own. Where
there was no such append, or the prompt has become larger than was thought, it has one.
What is not known to be unused counts as spent: whoever takes a run over sets aside anew.
"""

from __future__ import annotations

from collections.abc import Sequence

from rainengine.core import codec
from rainengine.core.abc import PricedProvider, ProviderRequest, Quote
from rainengine.core.engine._services import Services, Step
from rainengine.core.kernel import Finish, Shortfall, shown_items, too_small
from rainengine.core.projection import SessionProjection
from rainengine.core.records import ProviderConfig, ProviderUsage, Record

_MESSAGE_TOKENS = 16
"""What a provider may add to each message, and to each skill."""
_FRAME_TOKENS = 512


def _quote(services: Services, config: ProviderConfig, input_tokens: int) -> Quote | None:
    if not isinstance(services.provider, PricedProvider):
        return None
    return services.provider.quote(config, input_tokens)


def next_call(
    step: Step, batch: Sequence[Record], *, number: int | None = None
) -> tuple[Record, ...]:
    """Return the reservation that goes with `batch`, after which the model is to be asked.

    Nothing where the provider has no prices, or the budget is too small: that is told when the
    call would be made. `number` is the step of that call; the one after the run's last if None.
    """
    services = step.services
    if not isinstance(services.provider, PricedProvider):
        return ()
    tokens = _most_tokens(services, step.session.projection, batch)
    quote = _quote(services, step.run.provider, tokens)
    if quote is None or _refused(step, batch, quote) is not None:
        return ()
    return (_reservation(step, quote, step.run.steps + 1 if number is None else number),)


def _refused(step: Step, batch: Sequence[Record], quote: Quote) -> Shortfall | None:
    """Why the call would not fit, once what `batch` settles is taken into account."""
    settled = [record for record in batch if isinstance(record, ProviderUsage)]
    micros = quote.cost_micros + sum(record.cost_micros for record in settled)
    tokens = quote.input_tokens + quote.output_tokens
    tokens += sum(record.input_tokens + record.output_tokens for record in settled)
    held = step.run.reservation if settled else None
    if held is not None:  # it is in the projection, and this batch settles it
        micros -= held.cost_micros
        tokens -= held.input_tokens + held.output_tokens
    return too_small(step.session.projection, step.run, step.policy, micros=micros, tokens=tokens)


def _reservation(step: Step, quote: Quote, number: int) -> ProviderUsage:
    return ProviderUsage(
        step=number,
        status="reserved",
        model=step.run.provider.model,
        input_tokens=quote.input_tokens,
        output_tokens=quote.output_tokens,
        cost_micros=quote.cost_micros,
        price=quote.price,
    )


async def ensure(step: Step, number: int, request: ProviderRequest) -> Finish | None:
    """Have the call that is about to be made reserved for; or return why it may not be made."""
    session, run = step.session, step.run
    tokens = _tokens_of(request)
    quote = _quote(step.services, request.config, tokens)
    held = run.reservation if session.reserved else None
    session.reserved = False
    if quote is None or (held is not None and _covers(held, quote)):
        return None
    if held is not None:
        await step.commit([_released(number)])
    refused = too_small(
        session.projection,
        run,
        step.policy,
        micros=quote.cost_micros,
        tokens=quote.input_tokens + quote.output_tokens,
    )
    if refused is not None:
        return Finish("policy_aborted", refused.detail, refused.limit)
    await step.commit([_reservation(step, quote, number)])
    session.reserved = False
    return None


def _covers(held: ProviderUsage, quote: Quote) -> bool:
    return held.cost_micros >= quote.cost_micros and held.input_tokens >= quote.input_tokens


def unused(step: Step) -> tuple[Record, ...]:
    """Return what gives back a reservation for a call that was never made."""
    if not step.session.reserved or step.run.reservation is None:
        return ()
    return (_released(step.run.reservation.step),)


def _released(number: int) -> ProviderUsage:
    return ProviderUsage(step=number, status="released")


# Tokens, from above: none has less than a byte.


def _most_tokens(services: Services, projection: SessionProjection, batch: Sequence[Record]) -> int:
    profile = services.agent.profile
    items = shown_items(projection, profile.memory)
    parts = [profile, projection.summary, items, *batch]
    skills = [skill.manifest for skill in services.skills.values()]
    return _bytes(parts, skills) + _MESSAGE_TOKENS * (3 * len(items) + len(batch))


def _tokens_of(request: ProviderRequest) -> int:
    messages = request.messages
    return _bytes(messages, request.available_skills) + _MESSAGE_TOKENS * len(messages)


def _bytes(parts: Sequence[object], skills: Sequence[object]) -> int:
    told = sum(len(codec.encode_value(part)) for part in (*parts, *skills))
    return told + _FRAME_TOKENS + _MESSAGE_TOKENS * len(skills)
