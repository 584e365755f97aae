"""What the Gemini API would complain of.

The rules are those that are documented, and those that the API's errors tell of. Where the API is
said to be lax in some versions and strict in others, the strict rule stands here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from rainengine.model_servers import _gemini_rules as rules
from rainengine.model_servers._complaining import Complaints, as_object, fields, filled, gathered
from rainengine.model_servers._gemini_names import camel_cased

_IN_THE_CACHE = ("systemInstruction", "tools", "toolConfig")
_SIGNING = 3
"""From this generation on models want their signatures back."""


def gemini_complaints(
    body: object, *, model: str = "", cached: Mapping[str, Any] | None = None
) -> list[str]:
    """Return what is wrong with the body of a `generateContent`, streamed or not.

    Nothing is wrong where the list is empty. Rules that hold for some models only are checked
    where the `model` is given; `cached` is the body that the request's cache was created with.
    """
    given = as_object(camel_cased(body))
    if given is None:
        return ["$: an object is wanted"]
    complaints = list(fields(given, "$", {"contents": rules.CONTENTS}, rules.REQUEST))
    if complaints:
        return gathered(complaints)
    return gathered(_beyond_fields(given, model, as_object(camel_cased(cached)) or {}))


def cache_complaints(body: object) -> list[str]:
    """Return what is wrong with the body that a cache is to be created with."""
    given = as_object(camel_cased(body))
    if given is None:
        return ["$: an object is wanted"]
    return gathered(fields(given, "$", {"model": filled}, rules.CACHE))


def _beyond_fields(body: Mapping[str, Any], model: str, cached: Mapping[str, Any]) -> Complaints:
    thinks = generation_of(model) >= _SIGNING
    yield from rules.about_tools(body)
    yield from rules.about_generation(body, thinks=thinks)
    if "cachedContent" in body:
        for name in _IN_THE_CACHE:
            if name in body:
                yield f"$.{name}: has to be in the cached content"
    contents = [*cached.get("contents", ()), *body["contents"]]
    yield from _about_turns(contents)
    yield from _about_pairs(contents)
    if thinks:
        yield from _about_signatures(contents)


def generation_of(model: str) -> int:
    """Return the generation in a model's name, such as 3 of `models/gemini-3-pro`; or 0."""
    found = re.search(r"gemini-(\d+)", model)
    return int(found[1]) if found else 0


def _about_turns(contents: Sequence[Mapping[str, Any]]) -> Complaints:
    roles = [content["role"] for content in contents]
    if roles[0] != "user":
        yield "$.contents[0].role: the first turn has to be the user's"
    if roles[-1] != "user":
        yield f"$.contents[{len(roles) - 1}].role: the last turn has to be the user's"
    for index in range(1, len(roles)):
        if roles[index] == roles[index - 1]:
            yield f"$.contents[{index}].role: turns have to alternate"


def _about_pairs(contents: Sequence[Mapping[str, Any]]) -> Complaints:
    """Each turn with calls is followed at once by one that begins with a response for each."""
    called: list[Mapping[str, Any]] = []
    for index, content in enumerate(contents):
        path = f"$.contents[{index}]"
        responses = _in(content, "functionResponse")
        if len(responses) != len(called):
            yield f"{path}: {len(responses)} function responses follow {len(called)} function calls"
        for call, response in zip(called, responses, strict=False):
            yield from _about_pair(call, response, path)
        if any("functionResponse" in part for part in content["parts"][len(responses) :]):
            yield f"{path}: function responses have to come first"
        called = _in(content, "functionCall")
        yield from _about_calls(called, content["role"], path)
        if responses and content["role"] != "user":
            yield f"{path}: function responses are the user's"
    if called:
        yield f"$.contents: {len(called)} function calls have no responses"


def _in(content: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    return [part[name] for part in content["parts"] if name in part]


def _about_pair(call: Mapping[str, Any], response: Mapping[str, Any], path: str) -> Complaints:
    for name in ("name", "id"):
        if call.get(name) != response.get(name):
            given, wanted = response.get(name), call.get(name)
            yield f"{path}: a response has the {name} {given!r}, its call has {wanted!r}"


def _about_calls(called: Sequence[Mapping[str, Any]], role: str, path: str) -> Complaints:
    ids = [call["id"] for call in called if "id" in call]
    if len(ids) != len(set(ids)):
        yield f"{path}: two function calls have one id"
    if called and role != "model":
        yield f"{path}: function calls are the model's"


def _about_signatures(contents: Sequence[Mapping[str, Any]]) -> Complaints:
    """The first call of each of the model's turns is signed, since the user last said something."""
    begun = max((i for i, one in enumerate(contents) if _says_something(one)), default=0)
    for index, content in enumerate(contents):
        calls = [part for part in content["parts"] if "functionCall" in part]
        if index > begun and calls and "thoughtSignature" not in calls[0]:
            yield f"$.contents[{index}]: function call is missing a thought_signature"


def _says_something(content: Mapping[str, Any]) -> bool:
    responses = any("functionResponse" in part for part in content["parts"])
    return content["role"] == "user" and not responses
