"""What a worker has done, in numbers."""

from __future__ import annotations

import attrs


@attrs.define(eq=False)
class Counts:
    """What is counted while a worker works; the names are those of `WorkerStats`."""

    advances: int = 0
    runs: int = 0
    wakes: int = 0
    busy: int = 0
    errors: int = 0
    outages: int = 0
    delivered: int = 0
    failed: int = 0
    dead: int = 0
    discarded: int = 0


@attrs.frozen(kw_only=True)
class WorkerStats:
    """What a worker has done, and what it has in hand.

    Counted since it was made, or during one `Worker.run_once`:

    - `advances`: steps taken. `runs`: runs brought to an outcome.
    - `wakes`: wakes brought in.
    - `busy`: sessions left to somebody else who had them.
    - `errors`: steps that raised an error of their own.
    - `outages`: how often the ledger was found to be away.
    - `delivered`, `failed`, `dead`: rows of the outbox that were handed over, that are to be tried
      again, and that were given up. `discarded`: delivered rows deleted for their age.

    As of now:

    - `under_way`: sessions being worked on. `backed_off`: sessions left alone after errors.
    - `waiting_for_agent`: sessions that there is no engine for; `missing_agents` names the agents.
    """

    advances: int
    runs: int
    wakes: int
    busy: int
    errors: int
    outages: int
    delivered: int
    failed: int
    dead: int
    discarded: int
    under_way: int
    backed_off: int
    waiting_for_agent: int
    missing_agents: tuple[str, ...]

    def since(self, earlier: WorkerStats) -> WorkerStats:
        """What was counted after `earlier`, with what is in hand now."""
        names = [field.name for field in attrs.fields(Counts)]
        counted = {name: getattr(self, name) - getattr(earlier, name) for name in names}
        return attrs.evolve(self, **counted)
