"""Uses the store as any program would: by its URL, without importing it."""

import trio

from rainengine.core import AgentEngine, Message, ProcessRequest, Respond, ScriptedProvider
from rainengine.core.plugins import open_ledger, plugin_names


async def main() -> None:
    """Ask an agent something, on a ledger that a plugin keeps."""
    async with open_ledger("acme:bakery") as ledger:
        engine = AgentEngine(ledger=ledger, provider=ScriptedProvider([Respond("hello from acme")]))
        question = Message(user_id="ada", content="Hello?")
        result = await engine.advance(ProcessRequest(session_id="s", trigger=question))
        if result.outcome is not None:
            print(result.outcome.response)


if __name__ == "__main__":
    print("stores:", ", ".join(plugin_names("rainengine.stores")))
    trio.run(main)
