"""The engine and what goes in and out of it."""

from __future__ import annotations

from rainengine.core.engine._engine import AgentEngine as AgentEngine
from rainengine.core.engine._requests import AdvanceResult as AdvanceResult
from rainengine.core.engine._requests import Agent as Agent
from rainengine.core.engine._requests import ContinueRequest as ContinueRequest
from rainengine.core.engine._requests import EngineOutcome as EngineOutcome
from rainengine.core.engine._requests import ProcessRequest as ProcessRequest
from rainengine.core.engine._requests import StateDelta as StateDelta
from rainengine.core.engine._requests import Submitted as Submitted
from rainengine.core.engine._requests import WakeRequest as WakeRequest
