"""An agent that may refund small sums by itself, and asks a person about the large ones."""

from __future__ import annotations

import trio

from rainengine.core import (
    AgentEngine,
    Approval,
    CallSkills,
    InMemoryLedger,
    Message,
    PlannedSkillCall,
    ProcessRequest,
    ProviderRequest,
    Respond,
    ScriptedProvider,
    run_until_terminal,
    skill,
)
from rainengine.core.records import JsonObject, ToolResultPart


def is_large(args: JsonObject) -> str | None:
    """Say why a person has to allow it, if so."""
    cents = args["cents"]
    return f"{cents} cents is a lot" if isinstance(cents, int) and cents > 2_000 else None


@skill(effects="idempotent", approval_required=is_large)
async def refund(order: str, cents: int) -> str:
    """Give a customer their money back."""
    return f"{cents} cents for {order}"


def decide(request: ProviderRequest) -> CallSkills | Respond:
    """Refund whatever is asked for; in place of a model."""
    newest = request.messages[-1].parts[0]
    if isinstance(newest, ToolResultPart):
        return Respond(f"Done: {newest.value or 'nothing, as it was refused'}")
    args = {"order": "A-7", "cents": 9_900}
    return CallSkills([PlannedSkillCall(call_id="1", name="refund", args=args)])


async def main() -> None:
    """Ask for a refund; a person allows half of it."""
    engine = AgentEngine(
        ledger=InMemoryLedger(), provider=ScriptedProvider(decide), skills=[refund]
    )
    wish = Message(user_id="eve", content="I want my money back.")
    run = await run_until_terminal(engine, ProcessRequest(session_id="A-7", trigger=wish))
    print(f"{run.outcome.stop_reason}: {run.outcome.detail}")

    # Hours later, in any process: whoever is shown the question answers with its token.
    (asked,) = await engine.pending_approvals("A-7")
    (call,) = asked.calls
    answer = Approval(
        resume_token=asked.resume_token,
        decision="approved",
        approver="ann",
        edited_args={call.call_id: {**call.args, "cents": 4_950}},
    )
    scopes = ("scope:human_approval",)  # what the host knows that Ann may do
    request = ProcessRequest(session_id="A-7", trigger=answer, granted_scopes=scopes)
    print((await run_until_terminal(engine, request)).response)
    print((await run_until_terminal(engine, request)).outcome.detail)


if __name__ == "__main__":
    trio.run(main)
