"""Durable AI agents over an append-only ledger: the engine and all that a host uses every day.

More lives in `rainengine.core.records` (what the ledger stores), `rainengine.core.abc` (what can
be plugged in), `rainengine.core.errors` and `rainengine.core.testing`.
A name that stands here and there is the same.
"""

from __future__ import annotations

from rainengine.core.abc import NotStarted as NotStarted
from rainengine.core.abc import ProviderDecision as ProviderDecision
from rainengine.core.abc import ProviderRequest as ProviderRequest
from rainengine.core.abc import Settled as Settled
from rainengine.core.abc import SkillContext as SkillContext
from rainengine.core.abc import SkillInvocation as SkillInvocation
from rainengine.core.abc import Transaction as Transaction
from rainengine.core.abc import Undetermined as Undetermined
from rainengine.core.engine import AdvanceResult as AdvanceResult
from rainengine.core.engine import Agent as Agent
from rainengine.core.engine import AgentEngine as AgentEngine
from rainengine.core.engine import AvoidedSkill as AvoidedSkill
from rainengine.core.engine import ContinueRequest as ContinueRequest
from rainengine.core.engine import EngineOutcome as EngineOutcome
from rainengine.core.engine import ExplainedValue as ExplainedValue
from rainengine.core.engine import PolicyExplanation as PolicyExplanation
from rainengine.core.engine import ProcessRequest as ProcessRequest
from rainengine.core.engine import RecordedTuning as RecordedTuning
from rainengine.core.engine import StateDelta as StateDelta
from rainengine.core.engine import Submitted as Submitted
from rainengine.core.engine import TextDelta as TextDelta
from rainengine.core.engine import WakeRequest as WakeRequest
from rainengine.core.environment import RandomIds as RandomIds
from rainengine.core.environment import SystemClock as SystemClock
from rainengine.core.errors import EffectNotApplied as EffectNotApplied
from rainengine.core.errors import ProviderError as ProviderError
from rainengine.core.errors import RainEngineError as RainEngineError
from rainengine.core.errors import SkillFailure as SkillFailure
from rainengine.core.fallback import FallbackProvider as FallbackProvider
from rainengine.core.inmemory import InMemoryLedger as InMemoryLedger
from rainengine.core.inmemory import InMemoryRetrieval as InMemoryRetrieval
from rainengine.core.inmemory import ScriptedProvider as ScriptedProvider
from rainengine.core.kernel import apply_profile_patch as apply_profile_patch
from rainengine.core.loop import RunResult as RunResult
from rainengine.core.loop import run_until_terminal as run_until_terminal
from rainengine.core.plugins import open_ledger as open_ledger
from rainengine.core.plugins import open_provider as open_provider
from rainengine.core.records import AgentProfile as AgentProfile
from rainengine.core.records import Approval as Approval
from rainengine.core.records import CallSkills as CallSkills
from rainengine.core.records import Continue as Continue
from rainengine.core.records import Delegate as Delegate
from rainengine.core.records import DelegationResult as DelegationResult
from rainengine.core.records import DoubtResolution as DoubtResolution
from rainengine.core.records import DoubtVerdict as DoubtVerdict
from rainengine.core.records import EnginePolicy as EnginePolicy
from rainengine.core.records import ExternalEvent as ExternalEvent
from rainengine.core.records import HumanInput as HumanInput
from rainengine.core.records import MemoryArchive as MemoryArchive
from rainengine.core.records import MemorySearch as MemorySearch
from rainengine.core.records import Message as Message
from rainengine.core.records import Plan as Plan
from rainengine.core.records import PlannedSkillCall as PlannedSkillCall
from rainengine.core.records import ProactiveHeartbeat as ProactiveHeartbeat
from rainengine.core.records import ProviderConfig as ProviderConfig
from rainengine.core.records import ResourcePolicy as ResourcePolicy
from rainengine.core.records import Respond as Respond
from rainengine.core.records import RetryPolicy as RetryPolicy
from rainengine.core.records import RuleTrigger as RuleTrigger
from rainengine.core.records import ScheduledWake as ScheduledWake
from rainengine.core.records import Suspend as Suspend
from rainengine.core.records import SystemObservation as SystemObservation
from rainengine.core.records import Webhook as Webhook
from rainengine.core.records import Yield as Yield
from rainengine.core.tools import NativeSkill as NativeSkill
from rainengine.core.tools import NativeTransactionalSkill as NativeTransactionalSkill
from rainengine.core.tools import skill as skill
from rainengine.core.tools import transactional_skill as transactional_skill
from rainengine.core.verification import Verification as Verification
from rainengine.core.verification import verify_session as verify_session
