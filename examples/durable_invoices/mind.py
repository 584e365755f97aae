"""Who decides: the scripted model, or a real one that the environment names.

`RAINENGINE_MODEL` asks for a real model; the key, and where it is not OpenAI's own the URL, say
whose it is. Only the provider differs: the skills, the ledger, the kill and the resumption do not.
"""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager

import attrs
from model import decide

from rainengine.core import ScriptedProvider, open_provider
from rainengine.core.abc import LlmProvider

_NAMED = ("OPENAI_BASE_URL", "OPENAI_API_KEY", "GEMINI_API_KEY")


@attrs.frozen(kw_only=True)
class Mind:
    """A model: the plugin that asks it, with its settings, or none for the scripted one."""

    told: str
    plugin: str | None = None
    settings: Mapping[str, object] = attrs.field(factory=dict[str, object])

    @property
    def is_real(self) -> bool:
        """Whether nobody knows beforehand what it will decide."""
        return self.plugin is not None


def chosen_mind(environment: Mapping[str, str] = os.environ) -> Mind:
    """Return the model that the environment asks for."""
    named = [name for name in _NAMED if environment.get(name)]
    model = environment.get("RAINENGINE_MODEL")
    if not model or not named:
        return Mind(told=_why_scripted(named, model))
    if "GEMINI_API_KEY" in named and (named == ["GEMINI_API_KEY"] or model.startswith("gemini")):
        mind = _mind("gemini", model, "GEMINI_API_KEY", environment.get("GOOGLE_GEMINI_BASE_URL"))
        sdk = environment.get("RAINENGINE_GEMINI_SDK", "google-genai")
        return attrs.evolve(mind, settings={**mind.settings, "sdk": sdk})
    mind = _mind("openai", model, "OPENAI_API_KEY", environment.get("OPENAI_BASE_URL"))
    api = environment.get("RAINENGINE_OPENAI_API", "chat")
    return attrs.evolve(mind, settings={**mind.settings, "api": api})


def _why_scripted(named: list[str], model: str | None) -> str:
    if named:
        return f"{' and '.join(named)} is set, RAINENGINE_MODEL is not: a scripted model decides."
    if model:
        return f"RAINENGINE_MODEL is set, none of {', '.join(_NAMED)} is: a scripted model decides."
    return "No model is named: a scripted model decides."


def _mind(plugin: str, model: str, key: str, url: str | None) -> Mind:
    settings = {"model": model, "api_key": f"env:{key}", **({"base_url": url} if url else {})}
    where = f" at {url}" if url else ""
    return Mind(told=f"{model}{where} decides.", plugin=plugin, settings=settings)


@asynccontextmanager
async def open_mind() -> AsyncGenerator[LlmProvider]:
    """Open the provider that asks the chosen model."""
    mind = chosen_mind()
    if mind.plugin is None:
        yield ScriptedProvider(decide)
        return
    async with open_provider(mind.plugin, mind.settings) as provider:
        yield provider
