"""Watching a process from outside: what it was promised, what it asked for and what it ran.

A `Witness` stands before a process's ledger, provider and skills and reports events.
Events are plain values, so a process that is going to be killed can write each to a file at once;
`findings_in` judges them afterwards, whoever wrote them.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal, TypeAlias

import attrs

from rainengine.core.abc import (
    AnySkill,
    Appended,
    Ledger,
    LlmProvider,
    NotStarted,
    PricedProvider,
    ProviderDecision,
    ProviderRequest,
    Quote,
    Reconciler,
    Reconciliation,
    Settled,
    Skill,
    SkillInvocation,
    Transaction,
    TransactionalSkill,
)
from rainengine.core.errors import EffectNotApplied
from rainengine.core.records import (
    ApprovalResolution,
    ModelDecision,
    NewRecord,
    ProviderConfig,
    Record,
    SkillManifest,
    StoredRecord,
    ToolNodeCheckpoint,
    ToolResult,
)
from rainengine.core.testing._differential._receivers import call_label, label_of
from rainengine.core.testing._forwarding import Forwarding, Send

PAGE = 1000


@attrs.frozen
class Facts:
    """What records say about progress.

    `started` is the newest attempt of each call whose start is stored, `settled` the calls that
    have a result, `decided` the steps that have a decision, `told` the calls of which a person said
    that they happened.
    """

    started: Mapping[str, int]
    settled: Sequence[str]
    decided: Sequence[str]
    told: Sequence[str] = ()


@attrs.frozen
class Acknowledged:
    """An append returned: it is durable up to this sequence. `hash` is in hexadecimal."""

    session_id: str
    sequence: int
    hash: str
    facts: Facts


@attrs.frozen
class Found:
    """A process starts, or looks again: this is what the ledger holds."""

    session_id: str
    hashes: Sequence[str]
    facts: Facts


@attrs.frozen
class Asked:
    """The model is asked about this step."""

    step: str


@attrs.frozen
class Began:
    """A skill was called."""

    call: str
    attempt: int
    effects: str


@attrs.frozen
class Ended:
    """A skill returned (`value`), or raised: `harmless` says that nothing happened."""

    call: str
    how: Literal["value", "harmless", "failed"]


@attrs.frozen
class Reconciled:
    """A skill said what became of an interrupted call."""

    call: str
    answer: Literal["settled", "not_started", "undetermined"]


Event: TypeAlias = Acknowledged | Found | Asked | Began | Ended | Reconciled


def facts_of(records: Iterable[NewRecord | StoredRecord]) -> Facts:
    """Gather what records say about progress."""
    started: dict[str, int] = {}
    settled: list[str] = []
    decided: list[str] = []
    happened: set[str] = set()
    told: list[str] = []
    for entry in records:
        record: Record = entry.record
        if isinstance(record, ToolNodeCheckpoint):
            for change in record.nodes:
                if "started" in change.statuses:
                    started[call_label(record.graph_id, change.call_id)] = change.attempt
        elif isinstance(record, ToolResult):
            label = call_label(record.graph_id, record.call_id)
            settled.append(label)
            if record.call_id in happened:  # stored together with what the person said
                told.append(label)
        elif isinstance(record, ApprovalResolution):
            happened = {v.call_id for v in record.verdicts if v.verdict == "happened"}
        elif isinstance(record, ModelDecision):
            decided.append(_step(entry.trigger_id, record.step))
    return Facts(started, settled, decided, told)


@attrs.frozen
class Witness:
    """Reports to `report` whatever passes through the things that it watches.

    Transactional skills report from the store's thread.
    """

    report: Callable[[Event], None]

    def ledger(self, ledger: Ledger) -> Ledger:
        """Watch a ledger's appends."""
        return _WatchedLedger(ledger, self.report)

    def provider(self, provider: LlmProvider) -> LlmProvider:
        """Watch a model provider; it stays a `PricedProvider` if it was one."""
        if isinstance(provider, PricedProvider):
            return _WatchedPricedProvider(provider, self.report, provider)
        return _WatchedProvider(provider, self.report)

    def skill(self, skill: AnySkill) -> AnySkill:
        """Watch a skill; it stays a `Reconciler`, or a `TransactionalSkill`, if it was one."""
        if isinstance(skill, TransactionalSkill):
            return _WatchedTransactionalSkill(skill, self.report)
        if isinstance(skill, Reconciler):
            return _WatchedReconciler(skill, self.report, skill)
        return _WatchedSkill(skill, self.report)

    async def look(self, ledger: Ledger, session_ids: Iterable[str]) -> None:
        """Report what the ledger holds."""
        for session_id in session_ids:
            records = await read_all(ledger, session_id)
            hashes = [record.hash.hex() for record in records]
            self.report(Found(session_id, hashes, facts_of(records)))


async def read_all(ledger: Ledger, session_id: str) -> list[StoredRecord]:
    """Read a session from its start to its end."""
    records: list[StoredRecord] = []
    while page := await ledger.read(session_id, after=len(records), limit=PAGE):
        records += page
    return records


class _WatchedLedger(Forwarding):
    def __init__(self, inner: Ledger, report: Callable[[Event], None]) -> None:
        super().__init__(inner)
        self._report = report

    def beside(self, inner: Ledger) -> Ledger:
        return _WatchedLedger(inner, self._report)

    async def around_append(
        self, session_id: str, records: Sequence[NewRecord], send: Send
    ) -> Appended:
        appended = await send()
        head = appended.head
        self._report(Acknowledged(session_id, head.sequence, head.hash.hex(), facts_of(records)))
        return appended


@attrs.frozen
class _WatchedProvider:
    inner: LlmProvider
    report: Callable[[Event], None]

    async def generate_action(self, request: ProviderRequest) -> ProviderDecision:
        context = request.context
        self.report(Asked(_step(context.trigger_id, context.step)))
        return await self.inner.generate_action(request)


@attrs.frozen
class _WatchedPricedProvider(_WatchedProvider):
    priced: PricedProvider

    def quote(self, config: ProviderConfig, input_tokens: int) -> Quote | None:
        return self.priced.quote(config, input_tokens)


@attrs.frozen
class _WatchedSkill:
    inner: Skill
    report: Callable[[Event], None]

    @property
    def manifest(self) -> SkillManifest:
        return self.inner.manifest

    @property
    def native(self) -> bool:
        return self.inner.native

    async def invoke(self, invocation: SkillInvocation) -> object:
        with _watching(self.manifest, invocation, self.report):
            return await self.inner.invoke(invocation)


@attrs.frozen
class _WatchedTransactionalSkill:
    inner: TransactionalSkill
    report: Callable[[Event], None]

    @property
    def manifest(self) -> SkillManifest:
        return self.inner.manifest

    @property
    def native(self) -> bool:
        return self.inner.native

    def apply(self, transaction: Transaction[Any], invocation: SkillInvocation) -> object:
        with _watching(self.manifest, invocation, self.report):
            return self.inner.apply(transaction, invocation)


@contextmanager
def _watching(
    manifest: SkillManifest, invocation: SkillInvocation, report: Callable[[Event], None]
) -> Generator[None]:
    call = label_of(invocation)
    report(Began(call, invocation.attempt, manifest.effects))
    try:
        yield
    except EffectNotApplied:
        report(Ended(call, "harmless"))
        raise
    except Exception:
        report(Ended(call, "failed"))
        raise
    report(Ended(call, "value"))


@attrs.frozen
class _WatchedReconciler(_WatchedSkill):
    reconciler: Reconciler

    async def reconcile(self, invocation: SkillInvocation) -> Reconciliation:
        answer = await self.reconciler.reconcile(invocation)
        self.report(Reconciled(label_of(invocation), _answer(answer)))
        return answer


def _answer(answer: Reconciliation) -> Literal["settled", "not_started", "undetermined"]:
    if isinstance(answer, Settled):
        return "settled"
    return "not_started" if isinstance(answer, NotStarted) else "undetermined"


def _step(trigger_id: str | None, step: int) -> str:
    return f"{trigger_id}:{step}"
