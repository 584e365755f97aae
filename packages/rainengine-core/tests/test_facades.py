"""The public surface, and what a turn costs."""

from __future__ import annotations

import importlib
import pkgutil
from types import ModuleType
from typing import Any

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

import rainengine.core
from rainengine.core import Continue, ContinueRequest, Respond, run_until_terminal
from rainengine.core.errors import AgentMismatch, SessionNotFound
from rainengine.core.records import OutcomeRecord

PUBLIC = sorted(
    name
    for _, name, _ in pkgutil.walk_packages(rainengine.core.__path__, "rainengine.core.")
    if not any(part.startswith("_") for part in name.split("."))
)


def exported(module: ModuleType) -> dict[str, object]:
    """The names that a facade offers: those written `Name as Name`, and what it defines."""
    return {
        name: value
        for name, value in vars(module).items()
        if not name.startswith("_")
        and not isinstance(value, ModuleType)
        and str(getattr(value, "__module__", "")).startswith("rainengine.core")
    }


@pytest.mark.parametrize("name", ["rainengine.core", *PUBLIC])
def test_every_public_module_is_documented(name: str) -> None:
    """A public module and every class and function that it offers has a docstring."""
    module = importlib.import_module(name)
    silent = [
        attribute
        for attribute, value in exported(module).items()
        if callable(value) and not getattr(value, "__doc__", None)
    ]
    assert (bool(module.__doc__), silent) == (True, [])


def test_every_public_name_has_one_home() -> None:
    """A class or function is offered by one submodule, and at most by the front page besides."""
    homes: dict[int, set[str]] = {}
    names: dict[int, str] = {}
    for name in PUBLIC:
        module = importlib.import_module(name)
        if not hasattr(module, "__path__"):
            offered = {k: v for k, v in exported(module).items() if _defined_in(v, module)}
        else:
            offered = {k: v for k, v in exported(module).items() if _reexported(module, k)}
        for attribute, value in offered.items():
            if isinstance(value, type) or callable(value):
                homes.setdefault(id(value), set()).add(name)
                names[id(value)] = attribute
    doubled = {names[key]: sorted(found) for key, found in homes.items() if len(found) > 1}
    assert doubled == {}


def _defined_in(value: object, module: ModuleType) -> bool:
    return getattr(value, "__module__", None) == module.__name__


def _reexported(module: ModuleType, name: str) -> bool:
    from pathlib import Path

    return f"import {name} as {name}" in Path(str(module.__file__)).read_text()


def test_the_front_page_offers_what_its_submodules_do() -> None:
    """Each name of `rainengine.core` is the same object as in the submodule it comes from."""
    from pathlib import Path

    source = Path(str(rainengine.core.__file__)).read_text()
    lines = [line.split() for line in source.splitlines() if line.startswith("from rainengine")]
    for _, module, _, name, _, alias in lines:
        assert name == alias
        assert getattr(rainengine.core, name) is getattr(importlib.import_module(module), name)
    assert len({line[3] for line in lines}) == len(lines)


# The loop.


async def test_the_loop_ends_with_the_requests_own_outcome(stage: Any) -> None:
    """Runs ahead of the request's own are finished on the way; its own outcome is returned."""
    engine = stage.engine(
        lambda r: Continue() if r.context.step == 1 else Respond(r.trigger.content)
    )
    await engine.submit(stage.request(text="a"))
    result = await run_until_terminal(engine, stage.request(text="b"))
    assert (result.outcome.response, result.advances) == ("b", 4)


async def test_the_loop_continues_what_is_open(stage: Any) -> None:
    """With a `ContinueRequest` it finishes the run that is open, or gives the last outcome."""
    engine = stage.engine([Continue(), Continue(), Respond("x")])
    opened = await engine.advance(stage.request())
    result = await run_until_terminal(engine, stage.go_on)
    assert (result.outcome.trigger_id, result.advances) == (opened.trigger_id, 2)
    again = await run_until_terminal(engine, stage.go_on)
    assert (again.outcome.response, again.outcome.idempotent_replay) == ("x", True)


async def test_the_loop_needs_a_session(stage: Any) -> None:
    """A session that is not there is `SessionNotFound`."""
    with pytest.raises(SessionNotFound):
        await run_until_terminal(stage.engine([]), ContinueRequest(session_id="s"))


async def test_another_agents_run_is_left_alone(stage: Any) -> None:
    """An engine of another agent refuses the run and changes nothing."""
    from rainengine.core import Agent

    await stage.engine([Continue()]).advance(stage.request())
    before = await stage.stored()
    other = stage.engine([Respond("x")], agent=Agent(name="other"))
    with pytest.raises(AgentMismatch):
        await other.advance(stage.go_on)
    assert (await stage.stored(), stage.provider.requests) == (before, [])


async def test_engines_of_one_owner_take_turns(stage: Any) -> None:
    """An engine sees that another one of its owner has ended the run that was ahead of its own."""
    from rainengine.core import Agent

    one = stage.engine([Respond("a"), Respond("c"), Respond("e")], agent=Agent(name="one"))
    other = stage.engine([Respond("b"), Respond("d")], agent=Agent(name="other"))
    for key, engine in zip("abcd", (one, other) * 2, strict=True):
        await engine.submit(stage.request(key))
    answers = [(await engine.advance(stage.go_on)).outcome for engine in (one, other) * 2]
    assert list("abcd") == [outcome.response for outcome in answers]
    await other.submit(stage.request("e"))
    with pytest.raises(AgentMismatch):
        await one.advance(stage.request("f"))


async def test_a_request_behind_another_agents_run_is_refused(stage: Any) -> None:
    """A new trigger behind another agent's run is not stored, and the session stays free."""
    from rainengine.core import Agent

    mine = stage.engine([Continue(), Respond("mine")])
    await mine.advance(stage.request())
    before = await stage.stored()
    other = stage.engine([Respond("x")], agent=Agent(name="other"))
    with pytest.raises(AgentMismatch):
        await other.advance(stage.request("key"))
    assert before == await stage.stored()
    result = await run_until_terminal(mine, stage.go_on)
    assert "responded" == result.outcome.stop_reason


async def test_the_loop_finds_its_own_outcome(stage: Any) -> None:
    """Where another process ended the run, and a later one too, the loop tells of its own."""
    first = stage.engine([Continue()], lease_ttl_ms=1)
    other = stage.engine([Respond("mine"), Respond("later")], owner="two")

    class Overtaken:
        ledger = first.ledger

        async def advance(self, request: Any) -> Any:
            result = await first.advance(request)
            stage.clock.jump(10)
            await stage.play(other, stage.go_on)
            await stage.play(other)
            self.advance = first.advance  # type: ignore[method-assign]
            return result

    result = await run_until_terminal(Overtaken(), stage.request())  # type: ignore[arg-type]
    assert ("mine", True) == (result.response, result.outcome.idempotent_replay)


# What it costs.


@pytest.mark.parametrize(("seconds", "commits"), [((1, 1, 1), 4), ((1, 1, 2), 5), ((1, 2, 3), 6)])
async def test_a_turn_is_four_commits(stage: Any, seconds: Any, commits: int) -> None:
    """Two model calls and three tools are 4 commits, and one more for each that ends by itself."""
    names = ("a", "b", "c")
    skills = [
        stage.skill(name, stage.taking(time), effects=effects)
        for name, time, effects in zip(
            names, seconds, ("pure", "idempotent", "unsafe"), strict=True
        )
    ]
    engine = stage.engine([stage.calls(*names), Respond("x")], *skills)
    result = await run_until_terminal(engine, stage.request("k", text="hi"))
    assert (result.outcome.response, result.advances) == ("x", 2)
    assert stage.ledger.stats().commits == commits


TURNS = st.sampled_from(["tools", "continue", "nonsense", "respond", "error"])


@settings(max_examples=40, deadline=None)
@given(script=st.lists(TURNS, max_size=8), texts=st.lists(st.just("hi"), min_size=1, max_size=3))
def test_an_advance_asks_once_and_runs_one_graph(
    script: list[str], texts: list[str], new_stage: Any, run_trio: Any
) -> None:
    """Whatever happens, an advance asks at most once and runs at most one graph."""

    async def main() -> None:
        stage = new_stage()
        answers = {
            "tools": stage.calls("s", "s"),
            "continue": Continue(),
            "nonsense": None,
            "respond": Respond("x"),
            "error": ValueError(),
        }
        turns = [answers[name] for name in script]

        async def answer(_: Any) -> Any:
            await trio.lowlevel.checkpoint()
            turn = turns.pop(0) if turns else Respond("end")
            if isinstance(turn, Exception):
                raise turn
            return turn

        engine = stage.engine(answer, stage.skill("s"))
        for text in texts:
            await engine.submit(stage.request(text=text))
        idle = False
        for _ in range(40):
            before = await counts(stage)
            idle = (await engine.advance(stage.go_on)).idle
            after = await counts(stage)
            assert all(b <= a <= b + 1 for b, a in zip(before, after, strict=True))
        assert idle

    async def counts(stage: Any) -> tuple[int, int, int]:
        kinds = await stage.kinds()
        return (
            len(stage.provider.requests),
            kinds.count("tool_execution_graph"),
            len(await stage.records(OutcomeRecord)),
        )

    run_trio(main)
