"""Workers: processes that keep the sessions of a store going."""

from __future__ import annotations

from rainengine.runtime._engines import EngineFor as EngineFor
from rainengine.runtime._settings import WorkerSettings as WorkerSettings
from rainengine.runtime._stats import WorkerStats as WorkerStats
from rainengine.runtime._worker import Worker as Worker
from rainengine.runtime._worker import WorkStore as WorkStore
