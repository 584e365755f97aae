"""The engine: moves sessions, one durable step at a time."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Literal

from rainengine.core import codec, telemetry
from rainengine.core.abc import (
    AnySkill,
    Clock,
    IdSource,
    Ledger,
    LlmProvider,
    ModelPlanner,
    Planner,
    Retrieval,
)
from rainengine.core.engine._advancing import Advancer
from rainengine.core.engine._beside import Beside
from rainengine.core.engine._explaining import PolicyExplanation, explain
from rainengine.core.engine._intake import Intake
from rainengine.core.engine._ledgers import Backing
from rainengine.core.engine._patches import Patches, check_answer
from rainengine.core.engine._repeating import HeldElsewhere, Known, Patience
from rainengine.core.engine._requests import (
    AdvanceResult,
    Agent,
    ContinueRequest,
    ProcessRequest,
    Submitted,
)
from rainengine.core.engine._services import OnDelta, Services
from rainengine.core.engine._sessions import SessionCache
from rainengine.core.engine._steps import Stepper
from rainengine.core.engine._tenure import Holder
from rainengine.core.engine._turns import Turns
from rainengine.core.engine._wakes import Wakes
from rainengine.core.environment import RandomIds, SystemClock
from rainengine.core.errors import (
    InadmissibleValue,
    InvalidConfiguration,
    InvalidSkill,
    RunInProgress,
    SessionBusy,
)
from rainengine.core.kernel import ContextBuilder, IntentClassifier, build_context, classify
from rainengine.core.projection import answered_token
from rainengine.core.records import (
    EnginePolicy,
    JsonObject,
    PendingApproval,
    ProfilePatch,
    ProviderConfig,
)
from rainengine.core.tools import check_manifest, check_schema, check_transactional


class AgentEngine:
    """Advances the sessions of one agent on one tenant's ledger.

    `policy` and `provider_config` hold for requests that bring none of their own.
    `owner` names this process in leases. Give it a stable name, unique among the processes that
    share the ledger: restarted under the same name, a process takes up its own sessions at once;
    without one it waits until the leases of its former self, `lease_ttl_ms` long, have run out.
    `retrieval` is what the agent's `MemorySearch` searches; without it there is none.
    `on_delta` is told of a `StreamingProvider`'s answers while they are being made.
    Raises `InvalidConfiguration` for an agent whose profile is not of its declared types, and
    `InvalidSkill`.
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
        planner: Planner | ModelPlanner | None = None,
        retrieval: Retrieval | None = None,
        on_delta: OnDelta | None = None,
        clock: Clock | None = None,
        ids: IdSource | None = None,
    ) -> None:
        _check_agent(agent)
        clock, ids = clock or SystemClock(), ids or RandomIds()
        self._ledger = ledger
        self._clock = clock
        self._agent = agent
        self._skills: dict[str, AnySkill] = {}
        holder = Holder(owner=owner or ids.new_id(), ttl_ms=lease_ttl_ms)
        backing = Backing.of(ledger)
        self._capable = backing.transactions is not None
        sessions = SessionCache(backing, holder, clock, cached_sessions)
        self._turns = Turns(ledger, sessions)
        self._intake = Intake(
            backing=backing,
            agent=agent,
            policy=policy,
            provider=provider_config,
            classify=classify,
            clock=clock,
            ids=ids,
        )
        self._beside = Beside(ledger, sessions, self._intake)
        self._wakes = Wakes(backing=backing, agent=agent, intake=self._intake)
        self._patches = Patches(agent=agent, policy=policy, ids=ids)
        services = Services(
            agent=agent,
            provider=provider,
            skills=self._skills,
            intake=self._intake,
            build_context=build_context,
            planner=planner,
            retrieval=retrieval,
            on_delta=on_delta,
            clock=clock,
            ids=ids,
        )
        self._advancer = Advancer(self._intake, Stepper(services))
        for one in skills:
            self.register_skill(one)

    @property
    def ledger(self) -> Ledger:
        """The ledger that this engine writes to."""
        return self._ledger

    @property
    def policy(self) -> EnginePolicy:
        """The operator's policy, for requests that bring none of their own."""
        return self._intake.policy

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
            RunOpen: the request is a message, and the agent's `busy` policy is to reject it.
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
            submitted = await self._beside.look_ahead(request)
            while True:
                try:
                    return await self._take_turn(request, submitted)
                except HeldElsewhere as held:
                    # Not during the turn: whoever works on it may need this same handle.
                    await self._intake.repeats.wait_for(request.session_id, held, patience)
                except SessionBusy as busy:
                    if submitted is not None:
                        raise RunInProgress(request.session_id, submitted.trigger_id) from busy
                    submitted = await self._beside.meet(request)
                    if submitted is None:
                        raise

    async def _take_turn(
        self, request: ProcessRequest | ContinueRequest, submitted: Known | None
    ) -> AdvanceResult:
        return await self._turns.take(
            request.session_id,
            lambda session: self._advancer.advance(session, request, submitted),
            assume_new=submitted is None and _may_be_new(request),
        )

    async def submit(self, request: ProcessRequest) -> Submitted:
        """Make a trigger durable without working on it, also while somebody holds the session.

        It waits for its turn; `advance` with a `ContinueRequest` gets to it.
        A message meets the agent's `busy` policy: it may stop the open run, or be refused.
        Raises `RunOpen`, `AgentMismatch`, `IdempotencyMismatch`, `InadmissibleValue` and
        `LedgerError`.
        """
        codec.check_identifier("session_id", request.session_id)
        return await self._beside.submit(request)

    async def pending_approvals(self, session_id: str) -> tuple[PendingApproval, ...]:
        """Return what people are asked in a session and can still answer, the oldest first.

        Each tells what would run, who may answer, and the token to answer with: show it to nobody
        else. Nothing is stored, and a step that is under way is not waited for.
        Raises `SessionNotFound` and `LedgerError`.
        """
        codec.check_identifier("session_id", session_id)
        return await self._beside.pending_approvals(session_id)

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
        await self._turns.take(session_id, lambda s: self._wakes.schedule(s, wake))
        return wake.wake_id

    async def fire_wakes(
        self, session_id: str, *, now_ms: int | None = None
    ) -> tuple[Submitted, ...]:
        """Bring in the wakes whose time has come by `now_ms`, or else by this engine's clock.

        Runs that waited for a person until it was too late to answer are cancelled as well.
        Each becomes a trigger that waits for its turn, under the key `wake:ID`: one that somebody
        else has brought in is left out. Works also while somebody holds the session.
        Raises `AgentMismatch` where all that is due is for another agent, and `LedgerError`.
        """
        codec.check_identifier("session_id", session_id)
        due_by_ms = self._clock.now_ms() if now_ms is None else now_ms
        return await self._turns.take_or_look(session_id, lambda s: self._wakes.fire(s, due_by_ms))

    async def explain_policy(self, session_id: str) -> PolicyExplanation:
        """Tell which of the policy's values were learned in the session, and from what.

        It is told of the active run, or else of the next one under this engine's policy.
        Nothing is stored, and a step that is under way is not waited for.
        Raises `SessionNotFound` and `LedgerError`.
        """
        codec.check_identifier("session_id", session_id)
        return await self._turns.take_or_look(session_id, lambda s: explain(s, self.policy))

    async def propose_profile_patch(
        self, session_id: str, patch: JsonObject, *, reason: str = "", patch_id: str | None = None
    ) -> ProfilePatch:
        """Record a change of the agent's profile; whether it waits for approval is its `status`.

        The engine never applies it: that is up to whoever makes the engine, by
        `apply_profile_patch`. Proposed again under the same `patch_id` while it waits, it is
        returned as it was recorded. It waits for a step of this process to end.

        Raises:
            ProfilePatchRefused: too many wait for an answer, or the id stands for another one.
            SessionBusy: somebody else holds the session; try again after its lease.
            InadmissibleValue: the patch does not fit a profile, with the path of the culprit.
            LedgerError: the ledger failed; with a `patch_id` it can be called again safely.
        """
        codec.check_identifier("session_id", session_id)
        record = self._patches.proposal(patch, patch_id, reason)
        return await self._turns.take(session_id, lambda s: self._patches.propose(s, record))

    async def resolve_profile_patch(
        self,
        session_id: str,
        patch_id: str,
        status: Literal["approved", "rejected"],
        *,
        resolved_by: str,
    ) -> ProfilePatch:
        """Record what `resolved_by` said to a patch that waits for an answer; return the record.

        Who may answer is for the caller to check.

        Raises:
            ProfilePatchRefused: it does not wait; `reason` tells how it was resolved before.
            AgentMismatch: it is for the profile of another agent.
            SessionBusy: somebody else holds the session; try again after its lease.
            InadmissibleValue: an argument breaks the admission rule.
            LedgerError: the ledger failed; called again, it may find the answer recorded.
        """
        codec.check_identifier("session_id", session_id)
        check_answer(status, resolved_by)
        return await self._turns.take(
            session_id, lambda s: self._patches.resolve(s, patch_id, status, resolved_by)
        )

    async def release(self, session_id: str) -> None:
        """Give the session's lease back, so that others may go on with it at once.

        For a process that is about to stop. It waits for a step of this process to end.
        Does nothing where this engine's owner does not hold the session. Raises `LedgerError`.
        """
        codec.check_identifier("session_id", session_id)
        await self._turns.let_go(session_id)

    async def cancel(self, session_id: str, reason: str, *, trigger_id: str | None = None) -> bool:
        """Ask for a run to be stopped, from any process; return whether there is one to stop.

        It ends with an outcome that lists what was done and what is in doubt. A call of the model
        is let go: at once in this process, and elsewhere with the holder's next heartbeat. Tools
        that run are left to end, and no others are started.
        Without `trigger_id` it is whichever run is active, or the next one waiting; where there is
        none, all that wait for an answer.
        Of `reason` 500 characters are kept.
        Raises `SessionNotFound`, `InadmissibleValue` and `LedgerError`.
        """
        codec.check_identifier("session_id", session_id)
        return await self._beside.cancel(session_id, reason, trigger_id)


def _may_be_new(request: ProcessRequest | ContinueRequest) -> bool:
    """Whether the request may be the first thing that a session hears of."""
    return isinstance(request, ProcessRequest) and answered_token(request.trigger) is None


def _check_agent(agent: Agent) -> None:
    try:
        codec.check_declared(agent)
    except InadmissibleValue as error:
        raise InvalidConfiguration("agent", str(error)) from error
