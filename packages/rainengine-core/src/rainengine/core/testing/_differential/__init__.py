"""The differential driver: crashed runs against an uncrashed twin."""

from __future__ import annotations

from rainengine.core.testing._differential._account import Account as Account
from rainengine.core.testing._differential._account import account_of as account_of
from rainengine.core.testing._differential._driver import VARIANTS as VARIANTS
from rainengine.core.testing._differential._driver import Blow as Blow
from rainengine.core.testing._differential._driver import DifferentialReport as DifferentialReport
from rainengine.core.testing._differential._driver import Trial as Trial
from rainengine.core.testing._differential._driver import Variant as Variant
from rainengine.core.testing._differential._driver import differential as differential
from rainengine.core.testing._differential._evidence import Evidence as Evidence
from rainengine.core.testing._differential._judgement import Finding as Finding
from rainengine.core.testing._differential._judgement import Judge as Judge
from rainengine.core.testing._differential._process import Process as Process
from rainengine.core.testing._differential._process import Step as Step
from rainengine.core.testing._differential._process import Stuck as Stuck
from rainengine.core.testing._differential._process import Workload as Workload
from rainengine.core.testing._differential._receivers import Deeds as Deeds
from rainengine.core.testing._differential._receivers import InMemoryReceiver as InMemoryReceiver
from rainengine.core.testing._differential._receivers import Receiver as Receiver
from rainengine.core.testing._differential._thinking import THINKING
from rainengine.core.testing._differential._transactional import TRANSACTIONAL as TRANSACTIONAL
from rainengine.core.testing._differential._waiting import WAITING
from rainengine.core.testing._differential._witness import Event as Event
from rainengine.core.testing._differential._witness import Witness as Witness
from rainengine.core.testing._differential._workloads import PLAIN_WORKLOADS

WORKLOADS = (*PLAIN_WORKLOADS, *THINKING, *WAITING)
"""What the differential driver and the crash sweeps run on every store."""
