"""The engine and what goes in and out of it."""

from __future__ import annotations

from rainengine.core.engine._engine import AgentEngine as AgentEngine
from rainengine.core.engine._explaining import AvoidedSkill as AvoidedSkill
from rainengine.core.engine._explaining import ExplainedValue as ExplainedValue
from rainengine.core.engine._explaining import PolicyExplanation as PolicyExplanation
from rainengine.core.engine._explaining import RecordedTuning as RecordedTuning
from rainengine.core.engine._requests import AdvanceResult as AdvanceResult
from rainengine.core.engine._requests import Agent as Agent
from rainengine.core.engine._requests import ContinueRequest as ContinueRequest
from rainengine.core.engine._requests import EngineOutcome as EngineOutcome
from rainengine.core.engine._requests import ProcessRequest as ProcessRequest
from rainengine.core.engine._requests import StateDelta as StateDelta
from rainengine.core.engine._requests import Submitted as Submitted
from rainengine.core.engine._requests import TextDelta as TextDelta
from rainengine.core.engine._requests import WakeRequest as WakeRequest
from rainengine.core.engine._services import OnDelta as OnDelta
