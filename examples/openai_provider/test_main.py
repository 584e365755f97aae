"""The example asks, looks up, and answers: against a server that speaks OpenAI's formats."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

from rainengine.core.settings import Secret
from rainengine.model_servers import Answer, Call, Failure, open_openai_server

MAIN = runpy.run_path(str(Path(__file__).with_name("main.py")))


@pytest.mark.parametrize("endpoint", MAIN["ENDPOINTS"])
async def test_a_question_is_answered(endpoint: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The model calls the skill, is told its result, and its answer is printed as it comes."""
    script = [
        Answer(calls=(Call(name="count_stock", args={"product": "cinnamon rolls"}),)),
        Answer(text="3 are left."),
    ]
    async with open_openai_server(script, api_key="a-key") as server:
        there = {"base_url": f"{server.url}/v1", "api_key": Secret("a-key")}
        settings = {**MAIN["ENDPOINTS"][endpoint], **there}
        assert await MAIN["main"]("How many rolls are left?", settings) == "3 are left."
    assert capsys.readouterr().out == "3 are left.\n"
    body = server.requests[1].json
    told = (body.get("messages") or body["input"])[-1]
    assert told.get("content", told.get("output")) == "3"


async def test_a_failure_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    """Where the model cannot be asked, the example says why."""
    async with open_openai_server([Failure(status=404, message="no such model")]) as server:
        there = {"base_url": f"{server.url}/v1", "api_key": Secret("a-key")}
        assert await MAIN["main"]("Hi", {**MAIN["ENDPOINTS"]["openai"], **there}) is None
    assert "no such model" in capsys.readouterr().out
