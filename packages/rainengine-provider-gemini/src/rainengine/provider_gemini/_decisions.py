"""From the model's answer to the engine's decision."""

from __future__ import annotations

from rainengine.core.abc import InvalidAnswer, ProviderRequest
from rainengine.core.records import Action
from rainengine.core.tool_calling import ModelAnswer, json_text, read_answer
from rainengine.provider_gemini._answers import Answer
from rainengine.provider_gemini._requests import ANSWER_TOOL, answer_in

_MALFORMED = {
    "MALFORMED_FUNCTION_CALL": "the function call could not be read",
    "UNEXPECTED_TOOL_CALL": "a function was called that there is not",
    "TOO_MANY_TOOL_CALLS": "too many functions were called",
    "MALFORMED_RESPONSE": "the answer could not be read",
}
_CUT_SHORT = frozenset({"MAX_TOKENS", "CONTINUATION"})

TOLD = frozenset(_MALFORMED) | _CUT_SHORT
"""Endings that the model is told of, so that it can do better in the next step."""

_READABLE = TOLD | {"STOP"}


def action_of(answer: Answer, request: ProviderRequest, model: str) -> Action:
    """Return the action that an answer means, or an `InvalidAnswer`.

    Raises `ProviderError` where there is no answer that the model could be told about.
    """
    answer.check(_READABLE)
    malformed = _MALFORMED.get(answer.ending or "")
    if malformed is not None:
        said = f": {answer.ending_message}" if answer.ending_message else ""
        return InvalidAnswer(f"{malformed}{said}", raw=answer.text)
    cut_short = answer.ending in _CUT_SHORT
    sent = ModelAnswer(text=answer.text, uses=answer.uses(model), cut_short=cut_short)
    return read_answer(_unwrapped(sent, request), request)


def _unwrapped(sent: ModelAnswer, request: ProviderRequest) -> ModelAnswer:
    """Return the answer without the tool that it may have been given with; see `ANSWER_TOOL`."""
    schema = request.config.response_schema
    others = tuple(use for use in sent.uses if use.name != ANSWER_TOOL)
    if schema is None or len(others) == len(sent.uses):
        return sent
    if others:  # skills go first: the answer comes again once their results are there
        return ModelAnswer(text=sent.text, uses=others, cut_short=sent.cut_short)
    text = json_text(answer_in(sent.uses[0].args, schema))
    return ModelAnswer(text=text, cut_short=sent.cut_short)
