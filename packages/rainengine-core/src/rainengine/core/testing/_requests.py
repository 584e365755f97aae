"""A request as an engine makes it, to ask a provider without one."""

from __future__ import annotations

from typing import Any

import attrs

from rainengine.core.abc import ProviderRequest, StepContext
from rainengine.core.records import (
    AgentRef,
    ChatMessage,
    EnginePolicy,
    Message,
    ProviderConfig,
    TextPart,
)


def provider_request(
    *messages: ChatMessage | str,
    session_id: str = "s",
    deadline_ms: int = 2**53,
    **changes: Any,  # noqa: ANN401  # a field each
) -> ProviderRequest:
    """Return a request of these messages, each whole or in the words of a user.

    `deadline_ms` is Unix time. `changes` are other fields of `ProviderRequest`.
    """
    said = [ChatMessage("user", (TextPart(m),)) if isinstance(m, str) else m for m in messages]
    context = StepContext(
        tenant="default",
        session_id=session_id,
        trigger_id="t",
        agent=AgentRef(),
        step=1,
        granted_scopes=(),
        deadline_ms=deadline_ms,
    )
    request = ProviderRequest(
        trigger=Message(user_id="ada", content="hi"),
        context=context,
        messages=tuple(said),
        available_skills=(),
        config=ProviderConfig(),
        policy=EnginePolicy(),
    )
    return attrs.evolve(request, **changes)
