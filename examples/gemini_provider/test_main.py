"""The example asks, looks up, and answers: against a server that speaks Gemini's format."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

from rainengine.model_servers import Answer, Call, Failure, open_gemini_server

MAIN = runpy.run_path(str(Path(__file__).with_name("main.py")))


@pytest.mark.parametrize("sdk", ["google-genai", "google-generativeai"])
async def test_question_is_answered(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], sdk: str
) -> None:
    """The model calls the skill, is told its result, and its answer is printed as it comes."""
    monkeypatch.setenv("GEMINI_API_KEY", "a-key")
    script = [
        Answer(calls=(Call(name="count_stock", args={"product": "cinnamon rolls"}),)),
        Answer(text="3 are left."),
    ]
    async with open_gemini_server(script, api_key="a-key") as server:
        settings = {**MAIN["SETTINGS"], "base_url": server.url, "sdk": sdk}
        assert "3 are left." == await MAIN["main"]("How many rolls are left?", settings)
    assert "3 are left.\n" == capsys.readouterr().out
    told = server.requests[1].json["contents"][-1]["parts"][0]
    assert {"output": 3} == (told.get("functionResponse") or told["function_response"])["response"]


async def test_failure_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where the model cannot be asked, the example says why."""
    monkeypatch.setenv("GEMINI_API_KEY", "a-key")
    async with open_gemini_server([Failure(status=404, message="no such model")]) as server:
        assert await MAIN["main"]("Hi", {**MAIN["SETTINGS"], "base_url": server.url}) is None
    assert "no such model" in capsys.readouterr().out
