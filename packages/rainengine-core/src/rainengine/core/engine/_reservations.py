"""Reservations: what the next call of the provider may use at most, set aside before it is made.

A reservation rides in the append that comes before the call, so it costs none of its own. Where
there was no such append, or the prompt has become larger than was thought, it has one.
What is not known to be unused counts as spent: whoever takes a run over sets aside anew.

Nothing is set aside where the bound of a call is not known: budgets are then checked between calls.
"""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from rainengine.core.abc import PricedProvider, ProviderRequest, Quote
from rainengine.core.engine._asking import kind_of, told
from rainengine.core.engine._services import Step
from rainengine.core.engine._usage import sound_price
from rainengine.core.errors import ProviderError
from rainengine.core.kernel import (
    REASON_CHARACTERS,
    Finish,
    Shortfall,
    provider_failed,
    shown_items,
    too_small,
)
from rainengine.core.prices import is_amount, most_input_tokens, most_tokens
from rainengine.core.records import ExecutionPlan, ProviderConfig, ProviderUsage, Record

_FRAMES = 128
"""What an item or a record may grow by as it becomes messages."""
_NOTHING = Quote(input_tokens=0, output_tokens=0, cost_micros=0)


# What a call may use.


def _quote(step: Step, config: ProviderConfig, input_tokens: int) -> Quote | None:
    """Raises `ProviderError` where the provider says what cannot be."""
    provider = step.services.priced
    if provider is not None:
        quote = _sound(_asked(provider, config, input_tokens))
        if quote is not None:
            return quote
    if config.max_tokens is None or config.max_tokens < 0 or not _bounds_tokens(step):
        return None
    return Quote(input_tokens=input_tokens, output_tokens=config.max_tokens, cost_micros=0)


def _asked(provider: PricedProvider, config: ProviderConfig, input_tokens: int) -> object:
    try:
        return provider.quote(config, input_tokens)
    except Exception as error:  # a provider is somebody else's code
        message = f"the provider's quote failed with {told(error)}"[:REASON_CHARACTERS]
        raise ProviderError(message, kind="internal", retryable=False) from error


def _sound(quote: object) -> Quote | None:
    if quote is None:
        return None
    if isinstance(quote, Quote):
        figures = quote.input_tokens, quote.output_tokens, quote.cost_micros
        if all(map(is_amount, figures)):
            return attrs.evolve(quote, price=sound_price(quote.price))
    message = "what the provider quotes is no amount of tokens and cost"
    raise ProviderError(message, kind="internal", retryable=False)


def _bounds_tokens(step: Step) -> bool:
    policy = step.policy
    return policy.max_tokens_per_run is not None or policy.max_tokens_per_session is not None


def _may_reserve(step: Step) -> bool:
    if step.services.priced is not None:
        return True
    return step.run.provider.max_tokens is not None and _bounds_tokens(step)


# In the append before the call.


def next_call(
    step: Step, batch: Sequence[Record], *, number: int | None = None
) -> tuple[Record, ...]:
    """Return the reservation that goes with `batch`, after which the model is to be asked.

    Nothing where something else comes next, where nothing can be reserved, or where the budget is
    too small: that is told when the call would be made. `number` is the step of that call; the one
    after the run's last if None.
    """
    number = step.run.steps + 1 if number is None else number
    if not _may_reserve(step) or not _comes_next(step, batch, number):
        return ()
    try:
        quote = _quote(step, step.run.provider, _most_tokens(step, batch))
    except ProviderError:
        return ()
    if quote is None or _refused(step, batch, quote) is not None:
        return ()
    return (_reservation(step, quote, number),)


def _comes_next(step: Step, batch: Sequence[Record], number: int) -> bool:
    """Whether the call follows at once, as far as is known."""
    run, usage = step.run, [r for r in batch if isinstance(r, ProviderUsage)]
    reserved_already = step.session.reserved and not usage
    will_wait = any(record.retry_at_ms is not None for record in usage)
    plans = [record for record in (run.plan, *batch) if isinstance(record, ExecutionPlan)]
    has_plan = bool(plans) and plans[-1].status == "active"
    stops = run.cancel_reason is not None or number > step.policy.max_steps
    return not (reserved_already or will_wait or has_plan or stops)


def _refused(step: Step, batch: Sequence[Record], quote: Quote) -> Shortfall | None:
    """Why the call would not fit, once what `batch` settles is taken into account."""
    settled = [record for record in batch if isinstance(record, ProviderUsage)]
    held = step.run.reservation if settled else None
    micros, tokens = quote.cost_micros, quote.input_tokens + quote.output_tokens
    for record in settled:
        micros += record.cost_micros
        tokens += record.input_tokens + record.output_tokens
    return _too_small(step, held, micros, tokens)


def _too_small(
    step: Step, given_back: ProviderUsage | None, micros: int, tokens: int
) -> Shortfall | None:
    if given_back is not None:
        micros -= given_back.cost_micros
        tokens -= given_back.input_tokens + given_back.output_tokens
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


def _most_tokens(step: Step, batch: Sequence[Record]) -> int:
    """How large the prompt may become that is made of what is known, and of `batch`."""
    services, projection = step.services, step.session.projection
    items = shown_items(projection, step.profile.memory)
    triggers = [step.run.trigger, *(item.trigger for item in items)]
    files = [file for trigger in triggers for file in getattr(trigger, "attachments", ())]
    pieces = [step.profile, projection.summary, step.run.trigger, step.run.plan, *items, *batch]
    return _FRAMES * len(pieces) + most_tokens(
        pieces,
        [skill.manifest for skill in services.skills.values()],
        step.run.provider.response_schema,
        files=files,
    )


# Right before the call.


async def ensure(step: Step, number: int, request: ProviderRequest) -> Finish | None:
    """Have the call that is about to be made reserved for; or return why it may not be made."""
    session, held = step.session, step.run.reservation
    if held is None and not _may_reserve(step):
        return None
    try:
        quote = _quote(step, request.config, most_input_tokens(request))
    except ProviderError as error:
        return provider_failed(step.policy, str(error), kind_of(error))
    if quote is None and held is None:
        return None
    quote = quote or _NOTHING  # what is held is then for a call before this one
    if not (session.reserved and held is not None and _covers(held, quote)):
        unneeded = held if session.reserved else None
        tokens = quote.input_tokens + quote.output_tokens
        refused = _too_small(step, unneeded, quote.cost_micros, tokens)
        if refused is not None:
            return Finish("policy_aborted", refused.detail, refused.limit)
        await step.commit([*unused(step), _reservation(step, quote, number)])
    session.reserved = False
    return None


def _covers(held: ProviderUsage, quote: Quote) -> bool:
    return (
        held.cost_micros >= quote.cost_micros
        and held.input_tokens >= quote.input_tokens
        and held.output_tokens >= quote.output_tokens
    )


# Where it is not made.


def unused(step: Step) -> tuple[Record, ...]:
    """Return what gives back a reservation for a call that was never made."""
    held = step.run.reservation
    if held is None or not step.session.reserved:
        return ()
    return (ProviderUsage(step=held.step, status="released"),)


def forfeited(step: Step, batch: Sequence[Record]) -> tuple[ProviderUsage, ...]:
    """Return what stays reserved after `batch`, for a call that may have been made."""
    held = step.run.reservation
    if held is None or any(isinstance(record, ProviderUsage) for record in batch):
        return ()
    return (held,)
