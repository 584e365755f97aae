"""Pure decisions: what happens next, and what is recorded of it. No clock, no chance, no I/O."""

from __future__ import annotations

from rainengine.core.kernel._context import ContextBuilder as ContextBuilder
from rainengine.core.kernel._context import build_context as build_context
from rainengine.core.kernel._context import newest as newest
from rainengine.core.kernel._decisions import Followed as Followed
from rainengine.core.kernel._decisions import complaint as complaint
from rainengine.core.kernel._decisions import follow as follow
from rainengine.core.kernel._gates import Finish as Finish
from rainengine.core.kernel._gates import deadline_ms as deadline_ms
from rainengine.core.kernel._graph import Ended as Ended
from rainengine.core.kernel._graph import Progress as Progress
from rainengine.core.kernel._graph import Retried as Retried
from rainengine.core.kernel._graph import backoff_ceiling_ms as backoff_ceiling_ms
from rainengine.core.kernel._graph import progress as progress
from rainengine.core.kernel._intents import IntentClassifier as IntentClassifier
from rainengine.core.kernel._intents import classify as classify
from rainengine.core.kernel._intents import derived_events as derived_events
from rainengine.core.kernel._next import Activate as Activate
from rainengine.core.kernel._next import AskProvider as AskProvider
from rainengine.core.kernel._next import Effect as Effect
from rainengine.core.kernel._next import Idle as Idle
from rainengine.core.kernel._next import RunGraph as RunGraph
from rainengine.core.kernel._next import next_effect as next_effect
from rainengine.core.kernel._outcomes import closing_records as closing_records
from rainengine.core.kernel._policy import effective_policy as effective_policy
from rainengine.core.kernel._refusals import CallFacts as CallFacts
from rainengine.core.kernel._refusals import offered_skills as offered_skills
from rainengine.core.kernel._refusals import refusal as refusal
from rainengine.core.kernel._wakes import due_wakes as due_wakes
from rainengine.core.kernel._wakes import wake_refusal as wake_refusal
