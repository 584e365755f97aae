"""Hypothesis strategies for everything that a ledger stores; needs hypothesis to be installed."""

from __future__ import annotations

from rainengine.core.testing._histories import History as History
from rainengine.core.testing._histories import histories as histories
from rainengine.core.testing._strategies import actions as actions
from rainengine.core.testing._strategies import identifiers as identifiers
from rainengine.core.testing._strategies import instances as instances
from rainengine.core.testing._strategies import json_objects as json_objects
from rainengine.core.testing._strategies import json_values as json_values
from rainengine.core.testing._strategies import kernel_events as kernel_events
from rainengine.core.testing._strategies import new_records as new_records
from rainengine.core.testing._strategies import records as records
from rainengine.core.testing._strategies import texts as texts
from rainengine.core.testing._strategies import triggers as triggers
from rainengine.core.testing._strategies import unknown_records as unknown_records
