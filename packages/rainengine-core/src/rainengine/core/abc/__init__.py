"""Protocols for everything that plugs into the engine, and the values that cross them."""

from __future__ import annotations

from rainengine.core.abc._environment import Clock as Clock
from rainengine.core.abc._environment import IdSource as IdSource
from rainengine.core.abc._ledger import DEFAULT_TENANT as DEFAULT_TENANT
from rainengine.core.abc._ledger import INTAKE_KINDS as INTAKE_KINDS
from rainengine.core.abc._ledger import Appended as Appended
from rainengine.core.abc._ledger import EncodedEntry as EncodedEntry
from rainengine.core.abc._ledger import EncodedRecords as EncodedRecords
from rainengine.core.abc._ledger import Lease as Lease
from rainengine.core.abc._ledger import LeaseChange as LeaseChange
from rainengine.core.abc._ledger import Ledger as Ledger
from rainengine.core.abc._ledger import LedgerStore as LedgerStore
from rainengine.core.abc._ledger import OutboxItem as OutboxItem
from rainengine.core.abc._ledger import SessionIndex as SessionIndex
from rainengine.core.abc._ledger import SessionInfo as SessionInfo
from rainengine.core.abc._ledger import SessionLeases as SessionLeases
from rainengine.core.abc._ledger import SessionPage as SessionPage
from rainengine.core.abc._ledger import SessionQuery as SessionQuery
from rainengine.core.abc._ledger import SessionState as SessionState
from rainengine.core.abc._ledger import Snapshot as Snapshot
from rainengine.core.abc._ledger import Snapshots as Snapshots
from rainengine.core.abc._ledger import Watch as Watch
from rainengine.core.abc._providers import EmbeddingProvider as EmbeddingProvider
from rainengine.core.abc._providers import LlmProvider as LlmProvider
from rainengine.core.abc._providers import ProviderDecision as ProviderDecision
from rainengine.core.abc._providers import ProviderRequest as ProviderRequest
from rainengine.core.abc._providers import StepContext as StepContext
from rainengine.core.abc._providers import Usage as Usage
from rainengine.core.abc._skills import NotStarted as NotStarted
from rainengine.core.abc._skills import Reconciler as Reconciler
from rainengine.core.abc._skills import Reconciliation as Reconciliation
from rainengine.core.abc._skills import Settled as Settled
from rainengine.core.abc._skills import Skill as Skill
from rainengine.core.abc._skills import SkillContext as SkillContext
from rainengine.core.abc._skills import SkillInvocation as SkillInvocation
from rainengine.core.abc._skills import Undetermined as Undetermined
from rainengine.core.abc._work import DeadLetter as DeadLetter
from rainengine.core.abc._work import DuePosition as DuePosition
from rainengine.core.abc._work import DueSession as DueSession
from rainengine.core.abc._work import Outbox as Outbox
from rainengine.core.abc._work import OutboxEntry as OutboxEntry
from rainengine.core.abc._work import OutboxPublisher as OutboxPublisher
from rainengine.core.abc._work import OutboxReport as OutboxReport
from rainengine.core.abc._work import WorkKind as WorkKind
from rainengine.core.abc._work import WorkQueue as WorkQueue
