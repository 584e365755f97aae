"""A workload, and the life of a process that works on it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Literal, Protocol, TypeAlias

import attrs

from rainengine.core.abc import AnySkill, Clock, IdSource, Ledger, LlmProvider
from rainengine.core.engine import (
    AdvanceResult,
    AgentEngine,
    ContinueRequest,
    EngineOutcome,
    ProcessRequest,
)
from rainengine.core.errors import RainEngineError, UsageError
from rainengine.core.loop import run_until_terminal
from rainengine.core.records import (
    Approval,
    DelegationResult,
    DoubtResolution,
    OutcomeRecord,
    Trigger,
)
from rainengine.core.testing._differential._receivers import Receiver
from rainengine.core.testing._differential._witness import Witness, read_all
from rainengine.core.testing._environment import ScriptedIds

OWNER = "process"
_DRAIN = 0
_MANY = 200


class Stuck(RainEngineError):
    """A process did not come to an end."""


class MakeEngine(Protocol):
    """Makes an engine: `AgentEngine` itself, or a `functools.partial` of it."""

    def __call__(
        self,
        *,
        ledger: Ledger,
        provider: LlmProvider,
        skills: Iterable[AnySkill],
        owner: str,
        clock: Clock,
        ids: IdSource,
    ) -> AgentEngine:
        """Make an engine of these; all of them have to be used."""
        ...


@attrs.frozen
class Step:
    """One thing that a caller does: `advance` once, `submit`, or `run` until the run is over.

    A request that `answers` is to the wait of this number in its session, counted from 0; its
    trigger's token is filled in.
    """

    how: Literal["advance", "submit", "run"]
    request: ProcessRequest
    answers: int | None = None


async def _nothing(_: Ledger) -> Mapping[str, int]:
    return {}


def _as_tuple(steps: Iterable[Step]) -> tuple[Step, ...]:
    return tuple(steps)


@attrs.frozen(kw_only=True)
class Workload:
    """What processes do, so that it can be done again and again and end in the same way.

    A restarted process goes through `script` from its start, as callers do who do not know what
    became of their requests: so every request needs an idempotency key.
    `provider` and `skills` are made anew for each process and keep nothing from one to the next;
    a decision may depend on its request only, best on trigger and step alone.
    Skills act on the `Receiver`, which outlives them. What they do in the ledger's own database
    `tally` counts, under names of its own making.
    """

    name: str
    script: Sequence[Step] = attrs.field(converter=_as_tuple)
    provider: Callable[[], LlmProvider]
    skills: Callable[[Receiver], Iterable[AnySkill]] = lambda _: ()
    engine: MakeEngine = AgentEngine
    tally: Callable[[Ledger], Awaitable[Mapping[str, int]]] = _nothing

    def __attrs_post_init__(self) -> None:
        for step in self.script:
            if step.request.idempotency_key is None:
                raise UsageError(f"workload {self.name!r} has a request without idempotency key")

    @property
    def session_ids(self) -> tuple[str, ...]:
        """The sessions of the script, each once."""
        return tuple(dict.fromkeys(step.request.session_id for step in self.script))


Answer: TypeAlias = tuple[str | None, EngineOutcome | None]
"""A trigger's id and, where the step waited for it, how its run ended."""


@attrs.define
class _StepIds:
    """Identifiers that depend on the step of the script alone, however often it is repeated."""

    _ids: ScriptedIds = attrs.field(factory=lambda: ScriptedIds(_DRAIN))

    def begin(self, step: int) -> None:
        self._ids = ScriptedIds(step)

    def new_id(self) -> str:
        return self._ids.new_id()

    def fraction(self) -> float:
        return self._ids.fraction()


class Process:
    """A process with an engine of its own. Its memory dies with it, its ledger does not."""

    def __init__(
        self,
        workload: Workload,
        ledger: Ledger,
        witness: Witness,
        receiver: Receiver,
        clock: Clock,
    ) -> None:
        self._workload = workload
        self._ids = _StepIds()
        self._engine = workload.engine(
            ledger=witness.ledger(ledger),
            provider=witness.provider(workload.provider()),
            skills=[witness.skill(skill) for skill in workload.skills(receiver)],
            owner=OWNER,
            clock=clock,
            ids=self._ids,
        )

    async def work(self) -> list[Answer]:
        """Go through the script, then carry on until no session has anything left to do."""
        answers: list[Answer] = []
        for number, step in enumerate(self._workload.script, start=_DRAIN + 1):
            self._ids.begin(number)
            request = await self._addressed(step)
            answers.append(await _ACTS[step.how](self._engine, request))
        self._ids.begin(_DRAIN)
        for session_id in self._workload.session_ids:
            await self._drain(session_id)
        return answers

    async def _addressed(self, step: Step) -> ProcessRequest:
        """Return the step's request, with the token that it answers to."""
        if step.answers is None:
            return step.request
        records = await read_all(self._engine.ledger, step.request.session_id)
        outcomes = (entry.record for entry in records if isinstance(entry.record, OutcomeRecord))
        tokens = [outcome.resume_token for outcome in outcomes if outcome.resume_token is not None]
        return attrs.evolve(
            step.request, trigger=_answering(step.request.trigger, tokens[step.answers])
        )

    async def _drain(self, session_id: str) -> None:
        result: AdvanceResult | None = None
        for _ in range(_MANY):
            result = await self._engine.advance(ContinueRequest(session_id=session_id))
            if result.idle:
                return
        raise Stuck(f"session {session_id!r} is not idle after {_MANY} advances: {result!r:.300}")


def _answering(trigger: Trigger, token: str) -> Trigger:
    if isinstance(trigger, DelegationResult):
        return attrs.evolve(trigger, correlation_id=token)
    if isinstance(trigger, Approval | DoubtResolution):
        return attrs.evolve(trigger, resume_token=token)
    raise UsageError(f"{type(trigger).__name__} is no answer")


async def _advance(engine: AgentEngine, request: ProcessRequest) -> Answer:
    return (await engine.advance(request)).trigger_id, None


async def _submit(engine: AgentEngine, request: ProcessRequest) -> Answer:
    return (await engine.submit(request)).trigger_id, None


async def _run(engine: AgentEngine, request: ProcessRequest) -> Answer:
    outcome = (await run_until_terminal(engine, request)).outcome
    token = None if outcome.resume_token is None else "a token"
    return outcome.trigger_id, attrs.evolve(outcome, idempotent_replay=False, resume_token=token)


_ACTS = {"advance": _advance, "submit": _submit, "run": _run}
