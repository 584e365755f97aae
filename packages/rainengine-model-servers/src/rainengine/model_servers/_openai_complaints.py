"""What OpenAI's APIs would complain of.

The rules are those that are documented, and those that the APIs' errors tell of. Endpoints that
are compatible may be laxer; what passes here passes there.
"""

from __future__ import annotations

from rainengine.model_servers._complaining import as_object, gathered
from rainengine.model_servers._openai_chat_rules import of_completion
from rainengine.model_servers._openai_response_rules import of_response


def openai_complaints(body: object) -> list[str]:
    """Return what is wrong with a request to chat completions or to the responses API.

    A body with `input` is the latter's. Nothing is wrong where the list is empty.
    """
    given = as_object(body)
    if given is None:
        return ["$: an object is wanted"]
    return gathered(of_response(given) if "input" in given else of_completion(given))
