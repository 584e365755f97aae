"""An agent whose runs keep running out of steps, and what its engine makes of that."""

from __future__ import annotations

import trio

from rainengine.core import (
    AgentEngine,
    Continue,
    EnginePolicy,
    InMemoryLedger,
    Message,
    ProcessRequest,
    ProviderError,
    Respond,
    ScriptedProvider,
    run_until_terminal,
)
from rainengine.core.abc import ProviderRequest
from rainengine.core.records import Action, SelfImprovementPolicy

# The operator's policy: four steps a run, of which the engine may make a quarter more.
POLICY = EnginePolicy(
    max_steps=4,
    self_improvement=SelfImprovementPolicy(
        reflection_interval_records=1, min_observations_before_tuning=2, max_policy_delta_percent=25
    ),
)


def decide(request: ProviderRequest) -> Action:
    """Stand in for a model that needs five steps to file a report, and at last fails."""
    if getattr(request.trigger, "content", "") == "the server is down":
        raise ProviderError("no connection", kind="transport", retryable=False)
    return Respond("filed") if request.context.step == 5 else Continue()


async def main() -> None:
    """File three reports, see what was learned on the way, and have it taken back."""
    engine = AgentEngine(ledger=InMemoryLedger(), provider=ScriptedProvider(decide), policy=POLICY)
    for text in ("monday", "tuesday", "wednesday", "the server is down", "thursday"):
        report = Message(user_id="ada", content=text)
        request = ProcessRequest(session_id="reports", trigger=report)
        outcome = (await run_until_terminal(engine, request)).outcome
        print(f"{text}: {outcome.stop_reason} after {outcome.steps_executed} steps")
        if text in {"tuesday", "the server is down"}:
            print(f"\n{await engine.explain_policy('reports')}\n")


if __name__ == "__main__":
    trio.run(main)
