"""Adapters that keep everything in memory: for tests, trials and examples."""

from __future__ import annotations

from rainengine.core.inmemory._ledger import InMemoryTenant as InMemoryTenant
from rainengine.core.inmemory._outbox import OutboxRow as OutboxRow
from rainengine.core.inmemory._provider import PricedScriptedProvider as PricedScriptedProvider
from rainengine.core.inmemory._provider import ScriptedProvider as ScriptedProvider
from rainengine.core.inmemory._provider import Turn as Turn
from rainengine.core.inmemory._retrieval import InMemoryRetrieval as InMemoryRetrieval
from rainengine.core.inmemory._store import InMemoryLedger as InMemoryLedger
from rainengine.core.inmemory._store import LedgerStats as LedgerStats
from rainengine.core.inmemory._store import open_memory_url as open_memory_url
