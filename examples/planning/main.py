"""An agent that plans: what is known to be right is done without asking a model."""

from __future__ import annotations

import trio

from rainengine.core import (
    AgentEngine,
    CallSkills,
    ContinueRequest,
    ExternalEvent,
    InMemoryLedger,
    PlannedSkillCall,
    ProcessRequest,
    Respond,
    ScriptedProvider,
    skill,
)
from rainengine.core.abc import PlannerOutput, PlanningContext, ProposedPlan
from rainengine.core.projection import SessionProjection
from rainengine.core.records import GoalCreated

stock = {"tea": 3, "cups": 0}


@skill(effects="pure")
async def reserve(item: str) -> str:
    """Set an item aside."""
    if not stock[item]:
        raise ValueError(f"there are no {item}")
    return f"one {item} is set aside"


class OrderPlanner:
    """Every order is reserved and confirmed. Whatever else comes in is the model's business."""

    def plan(self, state: SessionProjection, context: PlanningContext) -> PlannerOutput:
        """Plan the run of an order."""
        if not isinstance(context.trigger, ExternalEvent):
            return PlannerOutput()
        item = context.trigger.payload
        call = PlannedSkillCall(call_id="reserve", name="reserve", args={"item": item})
        return PlannerOutput(
            events=(GoalCreated(goal_id=context.trigger_id, title=f"deliver {item}"),),
            proposed_plan=ProposedPlan(
                objective=f"sell {item}",
                steps=(CallSkills([call]), Respond(f"Your {item} is on its way.")),
            ),
        )


async def main() -> None:
    """Sell what there is, and what there is not."""
    model = ScriptedProvider([Respond("I am sorry, there are no cups left.")])
    engine = AgentEngine(
        ledger=InMemoryLedger(), provider=model, skills=[reserve], planner=OrderPlanner()
    )
    for item in ("tea", "cups"):
        order = ExternalEvent(source="shop", payload=item)
        result = await engine.advance(ProcessRequest(session_id=item, trigger=order))
        while result.outcome is None:
            result = await engine.advance(ContinueRequest(session_id=item))
        asked = len(model.requests)
        print(f"{result.outcome.response} (asked the model: {asked}, steps: "
              f"{result.outcome.steps_executed})")  # fmt: skip


if __name__ == "__main__":
    trio.run(main)
