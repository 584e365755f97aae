"""What all stored facts have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

if TYPE_CHECKING:
    JsonValue: TypeAlias = (
        bool | int | float | str | list["JsonValue"] | dict[str, "JsonValue"] | None
    )
else:
    # The codec's fast path cannot follow a recursive alias; at run time any JSON value will do.
    JsonValue = Any

JsonObject: TypeAlias = dict[str, JsonValue]


class Record:
    """A fact in the ledger. `kind` and `version` are stored beside its JSON, never inside it."""

    __slots__ = ()
    kind: ClassVar[str]
    version: ClassVar[int] = 1


class Trigger:
    """Something that happened outside and sets an agent in motion."""

    __slots__ = ()


class Action:
    """What a model decided to do."""

    __slots__ = ()


class KernelEvent:
    """A change of the agent's world: goals, tasks, observations, wakes, resources."""

    __slots__ = ()
