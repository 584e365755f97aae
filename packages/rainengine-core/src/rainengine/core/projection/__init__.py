"""From records to what they mean: the session's state, folded one record at a time."""

from __future__ import annotations

from rainengine.core.projection._evidence import PATCHES as PATCHES
from rainengine.core.projection._evidence import Learning as Learning
from rainengine.core.projection._evidence import LimitHistory as LimitHistory
from rainengine.core.projection._evidence import Proposal as Proposal
from rainengine.core.projection._evidence import TuningReference as TuningReference
from rainengine.core.projection._learning import observed as observed
from rainengine.core.projection._runs import waiting_run as waiting_run
from rainengine.core.projection._session import fold as fold
from rainengine.core.projection._state import PARKED_RUNS as PARKED_RUNS
from rainengine.core.projection._state import PROJECTION_VERSION as PROJECTION_VERSION
from rainengine.core.projection._state import RECENT_CALLS as RECENT_CALLS
from rainengine.core.projection._state import Artifact as Artifact
from rainengine.core.projection._state import Goal as Goal
from rainengine.core.projection._state import Graph as Graph
from rainengine.core.projection._state import Node as Node
from rainengine.core.projection._state import Observation as Observation
from rainengine.core.projection._state import ParkedRun as ParkedRun
from rainengine.core.projection._state import Relationship as Relationship
from rainengine.core.projection._state import Resource as Resource
from rainengine.core.projection._state import Run as Run
from rainengine.core.projection._state import SessionProjection as SessionProjection
from rainengine.core.projection._state import SkillRecord as SkillRecord
from rainengine.core.projection._state import Task as Task
from rainengine.core.projection._state import UsageTotals as UsageTotals
from rainengine.core.projection._state import Wake as Wake
from rainengine.core.projection._state import WindowItem as WindowItem
from rainengine.core.projection._state import World as World
from rainengine.core.projection._state import answered_token as answered_token
from rainengine.core.projection._tools import new_graph as new_graph
from rainengine.core.projection._tools import score as score
from rainengine.core.projection._waiting import left_over as left_over
from rainengine.core.projection._waiting import next_expiry_ms as next_expiry_ms
from rainengine.core.projection._waiting import still_parked as still_parked
from rainengine.core.projection._world import RECALLED as RECALLED
