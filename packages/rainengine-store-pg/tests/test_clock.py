"""Reckoning the database's time."""

from __future__ import annotations

import time

from rainengine.store_pg._clock import DatabaseClock


def test_it_goes_on_from_the_databases_last_answer() -> None:
    """However far the database's clock is from this machine's, it is the one that counts."""
    clock = DatabaseClock()
    for answer_ms in (5_000, 4_000_000_000_000, 1_000):
        before_ns = time.monotonic_ns()
        clock.observe(answer_ms)
        now_ms = clock.now_ms()
        passed_ms = (time.monotonic_ns() - before_ns) / 1e6
        assert answer_ms - 1 <= now_ms <= answer_ms + passed_ms
