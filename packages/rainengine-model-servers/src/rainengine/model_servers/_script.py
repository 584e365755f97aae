"""What a model server answers, in a form that belongs to no vendor."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Literal, TypeAlias

import attrs

from rainengine.core.records import ChatMessage, JsonObject
from rainengine.model_servers._messages import Reply, Request
from rainengine.model_servers._moves import Sending


@attrs.frozen(kw_only=True)
class Call:
    """The model calls a tool.

    `args` given as a text goes over the wire as it is, sound or not. The server makes up a
    `call_id` where there is none; an empty one stays empty.
    """

    name: str
    args: JsonObject | str = "{}"
    call_id: str | None = None
    opaque: str | None = None
    """What the vendor wants back with the call, where its API has a place for it."""


@attrs.frozen(kw_only=True)
class Tokens:
    """What an answer is said to have used. `input` includes `cached`, `output` `thinking`."""

    input: int = 10
    output: int = 5
    cached: int = 0
    thinking: int = 0


Stop: TypeAlias = Literal["end", "length", "content_filter"]


@attrs.frozen(kw_only=True)
class Answer:
    """What the model says. In a stream, `pieces` are the pieces of its text: by default, words."""

    text: str | None = None
    pieces: tuple[str, ...] | None = None
    calls: tuple[Call, ...] = ()
    refusal: str | None = None
    thoughts: str | None = None
    opaque: str | None = None
    """Thinking that only the vendor can read; the responses API gives it where it is asked for."""
    stop: Stop = "end"
    tokens: Tokens | None = Tokens()
    model: str | None = None
    """The model that is said to have answered: by default the one that was asked."""
    sending: Sending | None = None
    """How the answer goes out: by default at once and whole."""

    def text_pieces(self) -> tuple[str, ...]:
        """The text in pieces, with all its spaces."""
        if self.pieces is not None:
            return self.pieces
        words = (self.text or "").split(" ")
        return tuple(word for word in (*(f"{one} " for one in words[:-1]), words[-1]) if word)


@attrs.frozen(kw_only=True)
class Failure:
    """The server fails with a status, in the vendor's form.

    `code` is the vendor's own word for it, such as `context_length_exceeded`.
    """

    status: int
    message: str = "the script says so"
    code: str | None = None
    headers: Mapping[str, str] = MappingProxyType({})


@attrs.frozen(kw_only=True)
class Asked:
    """A request for an answer, in a form that belongs to no vendor, and as it came."""

    model: str
    messages: tuple[ChatMessage, ...]
    tools: tuple[str, ...]
    stream: bool
    request: Request


Turn: TypeAlias = Answer | Failure | Reply
"""One answer of a script. A `Reply` is sent as it is."""

Script: TypeAlias = Iterable[Turn] | Callable[[Asked], Turn | Awaitable[Turn]]
"""The answers in order, or a function of what is asked."""

Answering: TypeAlias = Callable[[Asked], Awaitable[Turn]]


def follow(script: Script) -> Answering:
    """Return what answers by the script; used up, it fails with 400."""
    answer = script if callable(script) else _in_order(list(script))

    async def answering(asked: Asked) -> Turn:
        turn = answer(asked)
        return await turn if inspect.isawaitable(turn) else turn

    return answering


def _in_order(turns: list[Turn]) -> Callable[[Asked], Turn]:
    remaining = iter(turns)
    used_up = Failure(status=400, message=f"the script of {len(turns)} turns is used up")
    return lambda _: next(remaining, used_up)
