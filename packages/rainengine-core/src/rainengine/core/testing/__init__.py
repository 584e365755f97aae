"""What tests of ledgers, engines and skills need; imports no test framework.

`LEDGER_CHECKS` states what every ledger promises, `TRANSACTION_CHECKS` what those promise besides
that run skills in their transactions. `CrashingLedger` and `FaultyLedger` break things on purpose,
`ScriptedClock` and `ScriptedIds` take chance and waiting out of a test, and `provider_request`
asks a provider without an engine.
`differential` crashes a workload at every append and compares it with an uncrashed twin.
Its module `strategies`, generators of records and histories, needs hypothesis to be installed.
"""

from __future__ import annotations

from rainengine.core.testing._crashing import CrashingLedger as CrashingLedger
from rainengine.core.testing._crashing import SimulatedCrash as SimulatedCrash
from rainengine.core.testing._differential import TRANSACTIONAL as TRANSACTIONAL
from rainengine.core.testing._differential import VARIANTS as VARIANTS
from rainengine.core.testing._differential import WORKLOADS as WORKLOADS
from rainengine.core.testing._differential import Account as Account
from rainengine.core.testing._differential import Blow as Blow
from rainengine.core.testing._differential import Deeds as Deeds
from rainengine.core.testing._differential import DifferentialReport as DifferentialReport
from rainengine.core.testing._differential import Event as Event
from rainengine.core.testing._differential import Evidence as Evidence
from rainengine.core.testing._differential import Finding as Finding
from rainengine.core.testing._differential import InMemoryReceiver as InMemoryReceiver
from rainengine.core.testing._differential import Judge as Judge
from rainengine.core.testing._differential import Process as Process
from rainengine.core.testing._differential import Receiver as Receiver
from rainengine.core.testing._differential import Step as Step
from rainengine.core.testing._differential import Stuck as Stuck
from rainengine.core.testing._differential import Trial as Trial
from rainengine.core.testing._differential import Variant as Variant
from rainengine.core.testing._differential import Witness as Witness
from rainengine.core.testing._differential import Workload as Workload
from rainengine.core.testing._differential import account_of as account_of
from rainengine.core.testing._differential import differential as differential
from rainengine.core.testing._environment import ScriptedClock as ScriptedClock
from rainengine.core.testing._environment import ScriptedIds as ScriptedIds
from rainengine.core.testing._expect import CheckFailed as CheckFailed
from rainengine.core.testing._faulty import FailAfter as FailAfter
from rainengine.core.testing._faulty import FailBefore as FailBefore
from rainengine.core.testing._faulty import Fault as Fault
from rainengine.core.testing._faulty import FaultyLedger as FaultyLedger
from rainengine.core.testing._faulty import IntakeBefore as IntakeBefore
from rainengine.core.testing._ledger_checks import LEDGER_CHECKS as LEDGER_CHECKS
from rainengine.core.testing._ledger_checks import WORK_CHECKS as WORK_CHECKS
from rainengine.core.testing._ledger_checks import LedgerCheck as LedgerCheck
from rainengine.core.testing._maker import LedgerMaker as LedgerMaker
from rainengine.core.testing._requests import provider_request as provider_request
from rainengine.core.testing._transaction_checks import TRANSACTION_CHECKS as TRANSACTION_CHECKS
