"""What tests of ledgers, engines and skills need; imports no test framework.

`LEDGER_CHECKS` states what every ledger promises, `CrashingLedger` and `FaultyLedger` break
things on purpose, `ScriptedClock` and `ScriptedIds` take chance and waiting out of a test.
Its module `strategies`, generators of records and histories, needs hypothesis to be installed.
"""

from __future__ import annotations

from rainengine.core.testing._crashing import CrashingLedger as CrashingLedger
from rainengine.core.testing._crashing import SimulatedCrash as SimulatedCrash
from rainengine.core.testing._environment import ScriptedClock as ScriptedClock
from rainengine.core.testing._environment import ScriptedIds as ScriptedIds
from rainengine.core.testing._expect import CheckFailed as CheckFailed
from rainengine.core.testing._faulty import FailAfter as FailAfter
from rainengine.core.testing._faulty import FailBefore as FailBefore
from rainengine.core.testing._faulty import Fault as Fault
from rainengine.core.testing._faulty import FaultyLedger as FaultyLedger
from rainengine.core.testing._faulty import IntakeBefore as IntakeBefore
from rainengine.core.testing._ledger_checks import LEDGER_CHECKS as LEDGER_CHECKS
from rainengine.core.testing._ledger_checks import LedgerCheck as LedgerCheck
from rainengine.core.testing._maker import LedgerMaker as LedgerMaker
