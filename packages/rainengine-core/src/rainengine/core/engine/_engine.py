"""The engine: moves sessions, one durable step at a time."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterable
from typing import TYPE_CHECKING, TypeVar

from rainengine.core import codec, telemetry
from rainengine.core.abc import (
    AnySkill,
    Clock,
    IdSource,
    Ledger,
    LlmProvider,
)
from rainengine.core.engine._deltas import delta_of, wake_of
from rainengine.core.engine._intake import HeldElsewhere, Intake, Known, Patience
from rainengine.core.engine._ledgers import Backing
from rainengine.core.engine._requests import (
    AdvanceResult,
    Agent,
    ContinueRequest,
    EngineOutcome,
    ProcessRequest,
    Submitted,
)
from rainengine.core.engine._session import OpenSession, Outdated
from rainengine.core.engine._sessions import SessionCache, is_taken, turn
from rainengine.core.engine._steps import Stepper
from rainengine.core.engine._tenure import Holder
from rainengine.core.engine._wakes import Wakes
from rainengine.core.environment import RandomIds, SystemClock
from rainengine.core.errors import (
    InadmissibleValue,
    InvalidSkill,
    LeaseHeld,
    SessionBusy,
    SessionNotFound,
)
from rainengine.core.kernel import ContextBuilder, IntentClassifier, build_context, classify
from rainengine.core.records import CancelRequest, EnginePolicy, NewRecord, ProviderConfig
from rainengine.core.tools import check_manifest, check_schema, check_transactional

if TYPE_CHECKING:
    from rainengine.core.records import OutcomeRecord

T = TypeVar("T")


class AgentEngine:
    """Advances the sessions of one agent on one tenant's ledger.

    `policy` and `provider_config` hold for requests that bring none of their own.
    `owner` names this process in leases. Give it a stable name, unique among the processes that
    share the ledger: restarted under the same name, a process takes up its own sessions at once;
    without one it waits until the leases of its former self, `lease_ttl_ms` long, have run out.
    """

    def __init__(
        self,
        *,
        ledger: Ledger,
        provider: LlmProvider,
        skills: Iterable[AnySkill] = (),
        agent: Agent = Agent(),  # noqa: B008  # frozen
        policy: EnginePolicy = EnginePolicy(),  # noqa: B008  # frozen
        provider_config: ProviderConfig = ProviderConfig(),  # noqa: B008  # frozen
        owner: str | None = None,
        lease_ttl_ms: int = 30_000,
        cached_sessions: int = 256,
        build_context: ContextBuilder = build_context,
        classify: IntentClassifier = classify,
        clock: Clock | None = None,
        ids: IdSource | None = None,
    ) -> None:
        clock, ids = clock or SystemClock(), ids or RandomIds()
        self._ledger = ledger
        self._clock = clock
        self._agent = agent
        self._skills: dict[str, AnySkill] = {}
        holder = Holder(owner=owner or ids.new_id(), ttl_ms=lease_ttl_ms)
        backing = Backing.of(ledger)
        self._capable = backing.transactions is not None
        self._sessions = SessionCache(backing, holder, clock, cached_sessions)
        self._intake = Intake(
            backing=backing,
            agent=agent,
            policy=policy,
            provider=provider_config,
            classify=classify,
            clock=clock,
            ids=ids,
        )
        self._wakes = Wakes(backing=backing, agent=agent, intake=self._intake)
        self._stepper = Stepper(
            agent=agent,
            provider=provider,
            skills=self._skills,
            intake=self._intake,
            build_context=build_context,
            clock=clock,
            ids=ids,
        )
        for one in skills:
            self.register_skill(one)

    @property
    def ledger(self) -> Ledger:
        """The ledger that this engine writes to."""
        return self._ledger

    @property
    def agent(self) -> Agent:
        """The agent whose runs this engine serves."""
        return self._agent

    def register_skill(self, skill: AnySkill) -> None:
        """Offer a skill from the next step on.

        Raises `InvalidSkill` where the name is taken, the manifest cannot be used, or the skill
        runs in transactions and the ledger has none.
        """
        name = skill.manifest.name
        check_manifest(skill.manifest)
        check_transactional(skill, capable=self._capable)
        if name in self._skills:
            raise InvalidSkill(name, "is registered already: unregister it first")
        try:
            check_schema(skill.manifest.input_schema)
        except ValueError as error:
            raise InvalidSkill(name, f"its input schema cannot be used: {error}") from error
        self._skills[name] = skill

    def unregister_skill(self, name: str) -> None:
        """Offer a skill no longer. A call that is running goes on; later ones are refused."""
        self._skills.pop(name, None)

    async def advance(self, request: ProcessRequest | ContinueRequest) -> AdvanceResult:
        """Move a session one durable step.

        Asks the provider at most once and runs at most one graph of tool calls.
        What happened is stored when this returns; an exception leaves what was stored before it,
        and the session is continued by calling again.

        Raises:
            SessionBusy: somebody else holds the session; try again after its lease.
            RunInProgress: the same key is worked on elsewhere for longer than `wait_ms`.
            IdempotencyMismatch: the key was used for another request.
            SessionNotFound: there is nothing to continue.
            AgentMismatch: another agent's run is open; of the request nothing was stored.
            InadmissibleValue: the request breaks the admission rule; nothing was stored.
            LedgerError: the ledger failed; ``FenceLost`` means that another holder took over.
        """
        if not isinstance(request, ProcessRequest | ContinueRequest):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise InadmissibleValue("request", f"{type(request).__name__} is no request")
        attributes = {
            telemetry.AGENT_NAME: self._agent.name,
            telemetry.CONVERSATION: request.session_id,
        }
        codec.check_identifier("session_id", request.session_id)
        with telemetry.invocation(self._agent.name, attributes):
            patience = Patience.of(request)
            while True:
                try:
                    async with turn(self._ledger, request.session_id):
                        return await self._take_turn(request)
                except HeldElsewhere as held:
                    # Not during the turn: whoever works on it may need this same handle.
                    await self._intake.wait_for(request.session_id, held, patience)

    async def _take_turn(self, request: ProcessRequest | ContinueRequest) -> AdvanceResult:
        return await self._with_session(
            request.session_id,
            lambda session: self._advance(session, request),
            assume_new=isinstance(request, ProcessRequest),
        )

    async def _with_session(
        self,
        session_id: str,
        work: Callable[[OpenSession], Awaitable[T]],
        *,
        assume_new: bool = False,
    ) -> T:
        """Do the work on the session as it stands; anew where it turns out to have moved on."""
        while True:
            session = await self._sessions.get(session_id, assume_new=assume_new)
            assume_new = False
            try:
                return await work(session)
            except Outdated:
                if not session.assumed_new:
                    await session.refresh()
            except LeaseHeld as held:
                raise SessionBusy(held.session_id, held.owner, held.expires_at_ms) from held
            finally:
                self._sessions.keep(session)

    async def _advance(
        self, session: OpenSession, request: ProcessRequest | ContinueRequest
    ) -> AdvanceResult:
        if session.tenure.holding and not self._is_next(session) and not await session.refresh():
            raise Outdated
        if isinstance(request, ContinueRequest):
            return await self._continue(session)
        accepted = await self._intake.accept(session, request)
        if isinstance(accepted, Known):
            return await self._repeat(session, accepted)
        outcome = await self._stepper.step(session)
        return self._result(session, accepted, outcome)

    def _is_next(self, session: OpenSession) -> bool:
        """Whether the next run, as far as is known, is this engine's.

        If not, another engine of the same owner may have taken it on without this one's knowing.
        """
        projection = session.projection
        run = projection.run or next(iter(projection.queue), None)
        return run is None or run.agent.name == self._agent.name

    async def _continue(self, session: OpenSession) -> AdvanceResult:
        if session.tenure.may_be_behind() and not await session.refresh():
            raise Outdated
        projection = session.projection
        if projection.sequence == 0:
            raise SessionNotFound(session.session_id)
        run = projection.run or (projection.queue[0] if projection.queue else None)
        if run is not None:
            outcome = await self._stepper.step(session)
            return self._result(session, run.trigger_id, outcome)
        last = projection.last_outcome
        return AdvanceResult(
            session_id=session.session_id,
            trigger_id=None if last is None else last.trigger_id,
            outcome=None if last is None else EngineOutcome.of(last, replay=True),
            idle=True,
        )

    async def _repeat(self, session: OpenSession, known: Known) -> AdvanceResult:
        """Answer a request whose idempotency key was used before."""
        record = known.outcome
        if record is None and session.tenure.may_be_behind() and not await session.refresh():
            raise Outdated
        if record is None and not session.tenure.holding:
            self._intake.check_free(session, known)
            record = await self._intake.outcome_since(session, known)
        if record is not None:
            return AdvanceResult(
                session_id=session.session_id,
                trigger_id=known.trigger_id,
                outcome=EngineOutcome.of(record, replay=True),
            )
        outcome = await self._stepper.step(session)
        return self._result(session, known.trigger_id, outcome)

    def _result(
        self, session: OpenSession, trigger_id: str, outcome: OutcomeRecord | None
    ) -> AdvanceResult:
        session.offer_snapshot()
        events = tuple(session.emitted)
        return AdvanceResult(
            session_id=session.session_id,
            trigger_id=trigger_id,
            outcome=None if outcome is None else EngineOutcome.of(outcome),
            emitted_events=events,
            state_delta=delta_of(events),
            wake_request=wake_of(events),
            waiting=len(session.projection.queue),
        )

    async def submit(self, request: ProcessRequest) -> Submitted:
        """Make a trigger durable without working on it, also while somebody holds the session.

        It waits for its turn; `advance` with a `ContinueRequest` gets to it.
        Raises `IdempotencyMismatch`, `InadmissibleValue` and `LedgerError`.
        """
        return await self._intake.submit(request)

    async def schedule_wake(
        self,
        session_id: str,
        *,
        due_at_ms: int,
        reason: str,
        wake_id: str | None = None,
        granted_scopes: Collection[str] = (),
    ) -> str:
        """Have the session woken at `due_at_ms` (Unix time); return the wake's id.

        A worker then brings in a `ScheduledWake`, once, for a run of this agent with
        `granted_scopes` and the agent's own. Scheduled again under the same `wake_id`, a wake is
        moved as long as it has not fired; with nothing changed, nothing is stored.
        It waits for a step of this process to end, so a skill cannot call it for its own session.

        Raises:
            WakeRefused: the agent's `WakePolicy` does not allow it, or the wake has fired.
            SessionBusy: somebody else holds the session; try again after its lease.
            InadmissibleValue: an argument breaks the admission rule.
            LedgerError: the ledger failed; with a `wake_id` it can be called again safely.
        """
        codec.check_identifier("session_id", session_id)
        wake = self._wakes.event(wake_id, due_at_ms, reason, granted_scopes)
        async with turn(self._ledger, session_id):
            await self._with_session(session_id, lambda s: self._wakes.schedule(s, wake))
        return wake.wake_id

    async def fire_wakes(
        self, session_id: str, *, now_ms: int | None = None
    ) -> tuple[Submitted, ...]:
        """Bring in the wakes whose time has come by `now_ms`, or else by this engine's clock.

        Each becomes a trigger that waits for its turn, under the key `wake:ID`: one that somebody
        else has brought in is left out. Works also while somebody holds the session.
        Raises `AgentMismatch` where all that is due is for another agent, and `LedgerError`.
        """
        codec.check_identifier("session_id", session_id)
        due_by_ms = self._clock.now_ms() if now_ms is None else now_ms
        if is_taken(self._ledger, session_id):  # for a step, maybe, that takes long
            return await self._fire_beside(session_id, due_by_ms)
        async with turn(self._ledger, session_id):
            return await self._with_session(session_id, lambda s: self._wakes.fire(s, due_by_ms))

    async def _fire_beside(self, session_id: str, due_by_ms: int) -> tuple[Submitted, ...]:
        while True:
            session = await self._sessions.look_at(session_id)
            try:
                return await self._wakes.fire(session, due_by_ms)
            except Outdated:
                continue
            finally:
                self._sessions.tell(session_id)

    async def release(self, session_id: str) -> None:
        """Give the session's lease back, so that others may go on with it at once.

        For a process that is about to stop. It waits for a step of this process to end.
        Does nothing where this engine's owner does not hold the session. Raises `LedgerError`.
        """
        codec.check_identifier("session_id", session_id)
        async with turn(self._ledger, session_id):
            await self._sessions.let_go(session_id)

    async def cancel(self, session_id: str, reason: str, *, trigger_id: str | None = None) -> None:
        """Ask for a run to be stopped, from any process; its next step ends it.

        A step that is under way starts no further tool calls once it learns of it: with its next
        append.
        Without `trigger_id` it is whichever run is active, or the next one waiting.
        Raises `SessionNotFound` and `LedgerError`.
        """
        head = await self._ledger.head(codec.check_identifier("session_id", session_id))
        if head.sequence == 0:
            raise SessionNotFound(session_id)
        record = CancelRequest(reason=reason, trigger_id=trigger_id)
        new = NewRecord(record, self._clock.now_ms(), trigger_id)
        await self._ledger.append(session_id, [new], expected=None)
        self._sessions.tell(session_id)
