"""From what a model sent to the one action that it means."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, TypeAlias, cast

import attrs

from rainengine.core.abc import InvalidAnswer, ProviderRequest
from rainengine.core.records import (
    Action,
    CallSkills,
    JsonObject,
    PlannedSkillCall,
    Respond,
    Yield,
)
from rainengine.core.tool_calling._actions import ACTION_TOOLS, Calls
from rainengine.core.tool_calling._names import RESERVED, tool_name


@attrs.frozen(kw_only=True)
class ToolUse:
    """A call as the model sent it. `args` may be JSON text, sound or not.

    `opaque` is what the provider wants back with the call; see `PlannedSkillCall.opaque`.
    """

    name: str
    args: JsonObject | str | None
    call_id: str | None = None
    opaque: str | None = None


@attrs.frozen(kw_only=True)
class ModelAnswer:
    """All that counts of an answer. `cut_short`: it ended where it had no tokens left."""

    text: str = ""
    uses: tuple[ToolUse, ...] = ()
    cut_short: bool = False


def read_answer(answer: ModelAnswer, request: ProviderRequest) -> Action:
    """Return the action that the answer means; an `InvalidAnswer` where it means none."""
    try:
        return _read(answer, request)
    except _Unreadable as reason:
        return InvalidAnswer(str(reason), raw=_raw(answer))


def _read(answer: ModelAnswer, request: ProviderRequest) -> Action:
    if answer.cut_short:
        raise _Unreadable("the answer was cut short at the limit of its length: say less at a time")
    return _of_uses(answer, request) if answer.uses else _of_text(answer.text, request)


class _Unreadable(Exception):  # never leaves this module
    """Why an answer means nothing."""


def _raw(answer: ModelAnswer) -> str:
    uses = [f"{use.name}({use.args})" for use in answer.uses]
    return "\n".join(part for part in (answer.text, *uses) if part)


# Text.


def _of_text(text: str, request: ProviderRequest) -> Action:
    if not text.strip():
        raise _Unreadable("the answer was empty: answer with a text, or call a tool")
    if request.purpose == "act" and "yield" in request.actions:
        return _yield_of(text) or _respond(text, request)
    return _respond(text, request)


def _respond(text: str, request: ProviderRequest) -> Action:
    if request.config.response_schema is not None and _parsed(text) is _NOTHING:
        raise _Unreadable("the answer is no JSON: answer with a JSON document that fits the schema")
    return Respond(text)


def _yield_of(text: str) -> Yield | None:
    value = _parsed(text) if text.lstrip().startswith("{") else None
    if not isinstance(value, dict):
        return None
    fields = cast(dict[str, Any], value)
    reason = fields.get("reason", "")
    if fields.get("type") != "yield" or not fields.keys() <= {"type", "reason"}:
        return None
    return Yield(reason) if isinstance(reason, str) else None


_NOTHING = object()


def _parsed(text: str) -> object:
    try:
        return cast(object, json.loads(text))
    except (ValueError, RecursionError):
        return _NOTHING


# Tools.

_Reserved: TypeAlias = list[tuple[str, JsonObject]]


def _of_uses(answer: ModelAnswer, request: ProviderRequest) -> Action:
    if request.purpose != "act":
        raise _Unreadable("no tool is offered: answer with a text")
    calls, reserved = _sorted(answer.uses, request)
    suspension = next((args for kind, args in reserved if kind == "suspend"), None)
    if calls and suspension is not None:
        return _built("suspend", suspension, calls)
    if calls:
        return CallSkills(calls)
    kind, args = reserved[0]
    action = _built(kind, args, ())
    return attrs.evolve(action, reason=answer.text) if action == Yield() else action


def _sorted(uses: Sequence[ToolUse], request: ProviderRequest) -> tuple[Calls, _Reserved]:
    skills = {tool_name(skill.name): skill.name for skill in request.available_skills}
    calls: list[PlannedSkillCall] = []
    reserved: _Reserved = []
    taken: set[str] = set()
    for use in uses:
        args = _arguments(use)
        if use.name.startswith(RESERVED):
            reserved.append((_kind(use.name, request), args))
            continue
        call_id = use.call_id or ""
        calls.append(
            PlannedSkillCall(
                call_id="" if call_id in taken else call_id,
                name=skills.get(use.name, use.name),
                args=args,
                opaque=use.opaque,
            )
        )
        taken.add(call_id)
    return tuple(calls), reserved


def _arguments(use: ToolUse) -> JsonObject:
    value: object = use.args
    if value is None or (isinstance(value, str) and not value.strip()):
        return {}
    for _ in range(2):  # some endpoints encode twice
        value = _parsed(value) if isinstance(value, str) else value
    if not isinstance(value, dict):
        raise _Unreadable(f"the arguments of the call to {use.name} are no JSON object")
    return cast(JsonObject, value)


def _kind(name: str, request: ProviderRequest) -> str:
    kind = name.removeprefix(RESERVED)
    if kind not in request.actions or kind not in ACTION_TOOLS:
        raise _Unreadable(f"{name} is not offered")
    return kind


def _built(kind: str, sent: JsonObject, calls: Calls) -> Action:
    tool = ACTION_TOOLS[cast(Any, kind)]
    args = {name: value for name, value in sent.items() if value is not None}
    missing = [name for name in tool.required if name not in args]
    if missing:
        raise _Unreadable(f"{RESERVED}{kind} was called without {', '.join(missing)}")
    wrong = [name for name, value in args.items() if not _fits(tool.properties.get(name), value)]
    if wrong:
        raise _Unreadable(f"{RESERVED}{kind} was called with {', '.join(wrong)} of another type")
    return tool.build(args, calls)


_TYPES: dict[object, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "object": (dict,),
    "array": (list,),
}


def _fits(schema: JsonObject | None, value: object) -> bool:
    if schema is None:
        return True  # more than was asked for does no harm
    types = _TYPES[schema["type"]]
    return isinstance(value, types) and not isinstance(value, bool)
