"""How triggers get in: once a key, durable before anything acts on them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable
from typing import Any, TypeAlias, cast

import attrs

from rainengine.core import codec, telemetry
from rainengine.core.abc import Clock, IdSource, SessionIndex
from rainengine.core.engine._busy import busy_policy, cancellations, interruptions, is_busy
from rainengine.core.engine._ledgers import Backing
from rainengine.core.engine._listening import Stop
from rainengine.core.engine._repeating import Known, Repetitions
from rainengine.core.engine._requests import Agent, ProcessRequest, Submitted, check_key
from rainengine.core.engine._session import OpenSession
from rainengine.core.errors import (
    AgentMismatch,
    DuplicateTrigger,
    InadmissibleValue,
    RunOpen,
    SessionNotFound,
)
from rainengine.core.kernel import IntentClassifier, derived_events
from rainengine.core.projection import Run, SessionProjection, answered_token, waiting_run
from rainengine.core.records import (
    AskingRun,
    CancelRequest,
    DoubtResolution,
    DoubtVerdict,
    EnginePolicy,
    Head,
    JsonValue,
    KernelEventRecord,
    NewRecord,
    ParentRun,
    ProviderConfig,
    Record,
    Trigger,
    TriggerIntent,
    TriggerRecord,
)

_INTENT_CHARACTERS = 200
_DEEPEST = 2**53
UNCLASSIFIED = "unclassified"
_log = logging.getLogger("rainengine.core")


Begin: TypeAlias = Callable[[OpenSession, Run], list[Record]]
"""Gives the records by which a run begins that its trigger is stored with."""


@attrs.frozen(kw_only=True, eq=False)
class Intake:
    """Brings triggers into sessions."""

    backing: Backing
    agent: Agent
    policy: EnginePolicy
    provider: ProviderConfig
    classify: IntentClassifier
    clock: Clock
    ids: IdSource

    @property
    def repeats(self) -> Repetitions:
        """What is known of requests that came before."""
        return Repetitions(self.backing)

    def record_of(
        self, request: ProcessRequest, asked_by: AskingRun | None = None
    ) -> TriggerRecord:
        """The trigger with the authority that it comes with, ready to be stored.

        One that a run `asked_by` itself has no more than that run.
        """
        codec.check_identifier("session_id", request.session_id)
        check_key(request)
        _check_depth(request.parent)
        scopes = self._scopes(request, asked_by)
        return TriggerRecord(
            trigger_id=self.ids.new_id(),
            trigger=_own_copy(request.trigger),
            body_hash=_body_hash(request.trigger, scopes),
            agent=self.agent.ref,
            granted_scopes=scopes,
            policy=self.policy if request.policy is None else request.policy,
            provider=self.provider if request.provider is None else request.provider,
            traceparent=telemetry.current_traceparent(),
            parent=request.parent,
            requester=None if asked_by is None else asked_by.requester,
        )

    def _scopes(self, request: ProcessRequest, asked_by: AskingRun | None) -> tuple[str, ...]:
        granted = checked_scopes(request.granted_scopes)
        answers = answered_token(request.trigger) is not None
        # Whoever answers, or acts for another run, has no more than what comes with the request.
        inherited = answers or request.parent or asked_by
        default = () if inherited else self.agent.profile.default_scopes
        return tuple(dict.fromkeys((*default, *granted)))

    def activation(self, run: Run) -> list[Record]:
        """The records by which a trigger becomes the active run."""
        events = derived_events(run.trigger, run.trigger_id)
        return [self.intent_of(run), *(KernelEventRecord(event) for event in events)]

    def intent_of(self, run: Run) -> TriggerIntent:
        """The record that says what a trigger is about."""
        trigger = run.trigger
        try:
            intent = codec.clean_text(self.classify(trigger))[:_INTENT_CHARACTERS]
        except Exception:  # noqa: BLE001  # see below
            # Where the trigger itself breaks the rule, that is the error to be told of.
            codec.encode(TriggerRecord(trigger_id="", trigger=trigger, body_hash=""))
            # A classifier is the host's code: it may fail, and no trigger may be stuck for it.
            _log.exception("the classifier failed on a %s", type(trigger).__name__)
            intent = UNCLASSIFIED
        return TriggerIntent(trigger_id=run.trigger_id, intent=intent)

    async def accept(
        self, session: OpenSession, request: ProcessRequest, begin: Begin
    ) -> str | Known:
        """Store the request's trigger, begun at once where no run is open.

        Returns its id, or what is known of the key. Raises `IdempotencyMismatch`, `RunOpen`,
        `AgentMismatch` where another agent's run is ahead of it, and what `OpenSession.commit`
        raises.
        """
        projection = session.projection
        ahead = projection.next_run(self.clock.now_ms())
        self.check_agent(ahead)
        record = self._answering(projection, request, self.record_of(request))
        stops = await self.stops_for(projection, request)
        batch: list[Record] = [*map(_request_of, stops), record]
        if ahead is None and answered_token(record.trigger) is None:
            batch += self._begun(session, record, request.idempotency_key, begin)
        try:
            await session.commit(
                batch, trigger_id=record.trigger_id, idempotency_key=request.idempotency_key
            )
        except DuplicateTrigger as duplicate:
            return await self.repeats.known(request.session_id, record, duplicate)
        return record.trigger_id

    @staticmethod
    def _begun(
        session: OpenSession, record: TriggerRecord, key: str | None, begin: Begin
    ) -> list[Record]:
        try:
            return begin(session, waiting_run(record, 0, key))
        except (AttributeError, TypeError, ValueError, OverflowError):
            codec.encode(record)  # where the request breaks the rule, that is the error
            raise

    def _answering(
        self, projection: SessionProjection, request: ProcessRequest, record: TriggerRecord
    ) -> TriggerRecord:
        """Return the record with the run that it answers to, if it does.

        Raises `SessionNotFound`, and `AgentMismatch` where the run is another agent's.
        """
        token = answered_token(record.trigger)
        if token is None:
            return record
        codec.encode(record)  # what it answers to is looked up by what it says
        if projection.sequence == 0:
            raise SessionNotFound(request.session_id)
        parked = projection.parked.get(token)
        if parked is None:
            return record
        self.check_agent(parked.run)
        return attrs.evolve(record, resumes=parked.run.trigger_id)

    async def stops_for(
        self, projection: SessionProjection, request: ProcessRequest
    ) -> tuple[Stop, ...]:
        """Return which runs a message is to stop. Raises `RunOpen` where it is to be rejected."""
        busy = busy_policy(self.agent.profile, request)
        if busy == "queue" or not is_busy(projection):
            return ()
        if busy == "interrupt":
            return interruptions(projection)
        if await self._is_repeated(projection, request):
            return ()
        raise RunOpen(request.session_id, (projection.run or projection.queue[0]).trigger_id)

    async def _is_repeated(self, projection: SessionProjection, request: ProcessRequest) -> bool:
        """Whether the request's key was used before: it is no further message then."""
        key = request.idempotency_key
        if key is None:
            return False
        if any(run.idempotency_key == key for run in (projection.run, *projection.queue) if run):
            return True
        return await self.backing.ledger.find_outcome(request.session_id, key) is not None

    def check_agent(self, run: Run | None) -> None:
        """Raise `AgentMismatch` where the run is another agent's."""
        if run is not None and run.agent.name != self.agent.name:
            raise AgentMismatch(run.agent.name, self.agent.name)

    async def submit(self, request: ProcessRequest) -> Submitted:
        """Store the request's trigger beside whatever runs; it waits for its turn."""
        return await self._append(request, self.record_of(request), (), None)

    def has_to_look(self, request: ProcessRequest) -> bool:
        """Whether what a submitted trigger does depends on what the session is doing."""
        if answered_token(request.trigger) is not None:
            return True
        return busy_policy(self.agent.profile, request) != "queue"

    async def submit_after_looking(
        self, session: OpenSession, request: ProcessRequest
    ) -> tuple[Submitted, tuple[Stop, ...]]:
        """As `submit`, upon the session as it is; return also the runs that are stopped.

        Raises `RunOpen`, `SessionNotFound` for an answer that cannot be to anything, and
        `SequenceConflict` where a message meets a session that has moved on.
        """
        record = self._answering(session.projection, request, self.record_of(request))
        stops = await self.stops_for(session.projection, request)
        # What an answer is to stays as it was seen; whether it still counts is judged in its turn.
        expected = session.head if answered_token(record.trigger) is None else None
        submitted = await self._append(request, record, stops, expected)
        return submitted, () if submitted.duplicate else stops

    async def cancel(
        self, session: OpenSession, reason: str, trigger_id: str | None
    ) -> tuple[Stop, ...]:
        """Have runs of the session stopped; return which. Raises `SequenceConflict`."""
        stops = cancellations(session.projection, reason, trigger_id)
        new = self._cancels(stops)
        if new:
            index = SessionIndex(state="running")  # for a worker to find one that was waiting
            await self.backing.ledger.append(
                session.session_id, new, expected=session.head, index=index
            )
        return stops

    def _cancels(self, stops: Iterable[Stop]) -> list[NewRecord]:
        now_ms = self.clock.now_ms()
        return [NewRecord(_request_of(stop), now_ms, stop.trigger_id) for stop in stops]

    async def _append(
        self,
        request: ProcessRequest,
        record: TriggerRecord,
        stops: Iterable[Stop],
        expected: Head | None,
    ) -> Submitted:
        now_ms, key = self.clock.now_ms(), request.idempotency_key
        new = [*self._cancels(stops), NewRecord(record, now_ms, record.trigger_id, key)]
        # Maybe not whose run is active, which is told when it begins: workers take it as a hint.
        index = SessionIndex(state="running", agent=self.agent.name)
        try:
            appended = await self.backing.ledger.append(
                request.session_id, new, expected=expected, index=index
            )
        except DuplicateTrigger as duplicate:
            known = await self.repeats.known(request.session_id, record, duplicate)
            return Submitted(
                session_id=request.session_id,
                trigger_id=known.trigger_id,
                sequence=duplicate.sequence,
                duplicate=True,
            )
        return Submitted(
            session_id=request.session_id,
            trigger_id=record.trigger_id,
            sequence=appended.head.sequence,
            duplicate=False,
        )


def _request_of(stop: Stop) -> CancelRequest:
    return CancelRequest(reason=stop.reason, trigger_id=stop.trigger_id)


def _check_depth(parent: object) -> None:
    if isinstance(parent, ParentRun):
        for name, depth in (("depth", parent.depth), ("max_depth", parent.max_depth or 0)):
            codec.check_integer(f"parent.{name}", depth, 0, _DEEPEST)


def checked_scopes(scopes: object) -> Collection[str]:
    """Return the scopes if they are texts. Raises `InadmissibleValue`."""
    if isinstance(scopes, str) or not isinstance(scopes, Collection):
        raise InadmissibleValue("granted_scopes", f"{scopes!r} is no sequence of texts")
    if not all(isinstance(scope, str) for scope in cast(Collection[object], scopes)):
        raise InadmissibleValue("granted_scopes", f"{scopes!r} holds what is no text")
    return cast(Collection[str], scopes)


def _own_copy(trigger: Trigger) -> Trigger:
    """Copy the JSON in a trigger: the caller may go on changing it after it was stored."""
    for name in ("payload", "observation", "context", "metadata", "edited_args"):
        part: JsonValue = getattr(trigger, name, None)
        if isinstance(part, dict | list):
            trigger = attrs.evolve(cast(Any, trigger), **{name: codec.copy_json(part)})
    if isinstance(trigger, DoubtResolution):
        trigger = attrs.evolve(trigger, verdicts=_own_verdicts(trigger.verdicts))
    return trigger


def _own_verdicts(verdicts: object) -> Any:  # noqa: ANN401  # whatever the caller gave
    if not isinstance(verdicts, tuple):
        return verdicts
    given = cast("tuple[object, ...]", verdicts)
    return tuple(
        attrs.evolve(one, value=codec.copy_json(one.value))
        if isinstance(one, DoubtVerdict)
        else one
        for one in given
    )


def _body_hash(trigger: Trigger, scopes: tuple[str, ...]) -> str:
    try:
        if type(trigger) in codec.TRIGGERS:
            return codec.body_hash(trigger, scopes)
    except (TypeError, ValueError, AttributeError, RecursionError) as error:
        # Only now is it looked for what exactly breaks the rule.
        codec.encode(TriggerRecord(trigger_id="", trigger=trigger, body_hash=""))
        raise InadmissibleValue("granted_scopes", str(error)) from error
    raise InadmissibleValue("trigger", f"{type(trigger).__name__} is not a trigger")
