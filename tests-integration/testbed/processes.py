"""Processes that tests start."""

from __future__ import annotations

import os
import sys


def environment() -> dict[str, str]:
    """What a Python needs to import whatever this one can."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
