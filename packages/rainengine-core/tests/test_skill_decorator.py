"""The decorator that makes a skill of a function."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypedDict

import attrs
import msgspec
import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from rainengine.core import codec
from rainengine.core.abc import (
    Reconciler,
    Reconciliation,
    Settled,
    Skill,
    SkillContext,
    SkillInvocation,
    Undetermined,
)
from rainengine.core.errors import InvalidSkill, SkillFailure
from rainengine.core.records import JsonObject, JsonValue, RetryPolicy
from rainengine.core.tools._arguments import argument_errors, check_schema
from rainengine.core.tools._decorator import skill

CONTEXT = SkillContext(
    tenant="acme",
    session_id="s",
    trigger_id="t",
    graph_id="g",
    step=1,
    granted_scopes=("tool:run",),
    fence=3,
)


def call(args: JsonObject, *, dry_run: bool = False) -> SkillInvocation:
    """Make an invocation with these arguments."""
    return SkillInvocation(
        call_id="c",
        name="n",
        args=args,
        idempotency_key="k",
        attempt=1,
        dry_run=dry_run,
        context=CONTEXT,
    )


@attrs.frozen
class Weather:
    """How it is outside."""

    celsius: float
    words: tuple[str, ...] = ()


@dataclass
class Place:
    city: str
    country: str = "CH"


class Options(TypedDict, total=False):
    days: int


@skill(scopes=["tool:run"], effects="idempotent", timeout_ms=2000)
async def look_up(city: str, units: Literal["c", "f"] = "c") -> Weather:
    """Current weather
    of a city.

    More about it.

    Args:
        city (str): the city's name,
            as on the map
        units: celsius or fahrenheit

    Returns:
        city: not this
    """  # noqa: D205
    return Weather(21.5, (city, units))


def test_the_manifest_comes_from_hints_and_docstring() -> None:
    """Name, description, schema and options end up in the manifest."""
    manifest = look_up.manifest
    assert ("look_up", "Current weather of a city.") == (manifest.name, manifest.description)
    assert (("tool:run",), "idempotent") == (manifest.required_scopes, manifest.effects)
    assert 2000 == manifest.resource_policy.timeout_ms
    assert {
        "type": "object",
        "properties": {
            "city": {"type": "string", "description": "the city's name, as on the map"},
            "units": {
                "enum": ["c", "f"],
                "default": "c",
                "description": "celsius or fahrenheit",
            },
        },
        "required": ["city"],
        "additionalProperties": False,
    } == manifest.input_schema


async def test_it_is_still_the_function() -> None:
    """Called directly, it is the function, with its name, docstring and signature."""
    assert Weather(21.5, ("Bern", "c")) == await look_up("Bern")
    assert "look_up" == look_up.__name__  # type: ignore[attr-defined]
    assert (look_up.__doc__ or "").startswith("Current weather")
    assert look_up.function is look_up.__wrapped__  # type: ignore[attr-defined]


def test_it_is_a_native_skill_and_no_reconciler() -> None:
    """It has what `Skill` asks for, and not what `Reconciler` asks for."""
    assert isinstance(look_up, Skill)
    assert look_up.native
    assert not isinstance(look_up, Reconciler)


def test_bare() -> None:
    """Without options the defaults are the careful ones."""

    @skill
    def bare() -> None:
        """Do nothing."""

    assert ("bare", "unsafe", ()) == (
        bare.manifest.name,
        bare.manifest.effects,
        bare.manifest.required_scopes,
    )
    assert {"type": "object", "properties": {}, "required": [], "additionalProperties": False} == (
        bare.manifest.input_schema
    )


def test_all_options() -> None:
    """Each option has its place in the manifest."""

    @skill(
        name="other-name",
        description="What it does.",
        version="7",
        retry=RetryPolicy(max_attempts=1),
        priority=5,
        approval_required=True,
        circuit_breaker_threshold=0.9,
        effects="pure",
        dry_run=True,
    )
    def plain() -> int:
        return 1

    manifest, resources = plain.manifest, plain.manifest.resource_policy
    assert ("other-name", "What it does.", "7") == (
        manifest.name,
        manifest.description,
        manifest.version,
    )
    assert (1, 5, True) == (
        resources.retry_policy.max_attempts,
        resources.priority_class,
        resources.dry_run_supported,
    )
    assert (True, 0.9) == (manifest.approval_required, manifest.circuit_breaker_threshold)


def test_arguments_become_the_annotated_types() -> None:
    """Classes, lists, dicts, constraints and injected values arrive as they are annotated."""

    @skill(effects="pure")
    async def many(  # noqa: PLR0917
        place: Place,
        weather: Weather,
        options: Options,
        places: list[Place],
        count: Annotated[int, msgspec.Meta(ge=1, description="how many")],
        anything: JsonValue,
        asked: SkillInvocation,
        context: SkillContext,
        maybe: str | None = None,
    ) -> list[object]:
        """Return what came in."""
        return [place, weather, options, places, count, anything, asked, context, maybe]

    args: JsonObject = {
        "place": {"city": "Bern"},
        "weather": {"celsius": 3, "words": ["wet"]},
        "options": {"days": 2.0},
        "places": [{"city": "Rome", "country": "IT"}],
        "count": 2.0,
        "anything": [None, {"a": 1}],
    }
    invocation = call(args)
    check_schema(many.manifest.input_schema)
    assert () == argument_errors(many.manifest.input_schema, args)
    assert argument_errors(many.manifest.input_schema, {**args, "count": 0})
    assert "asked" not in str(many.manifest.input_schema)
    assert [
        Place("Bern"),
        Weather(3.0, ("wet",)),
        {"days": 2},
        [Place("Rome", "IT")],
        2,
        [None, {"a": 1}],
        invocation,
        CONTEXT,
        None,
    ] == trio.run(many.invoke, invocation)


async def test_defaults_are_the_functions_own() -> None:
    """A parameter that the model leaves out gets Python's default, whatever that is."""
    nothing = object()

    @skill
    def grow(numbers: list[int] = [7], other: JsonValue = nothing) -> list[bool]:  # type: ignore[assignment]  # noqa: B006
        """Grow."""
        return [numbers == [7], other is nothing]

    assert [True, True] == await grow.invoke(call({}))
    properties: Any = grow.manifest.input_schema["properties"]
    assert {"type": "array", "items": {"type": "integer"}, "default": [7]} == properties["numbers"]
    assert {} == properties["other"]


@pytest.mark.parametrize(
    "args", [{}, {"city": 1}, {"city": "x", "units": "k"}, {"city": "x", "y": 1}]
)
async def test_arguments_that_do_not_fit(args: JsonObject) -> None:
    """Arguments that do not fit fail as `invalid_arguments`, and the function is not called."""
    called: list[str] = []

    @skill
    async def touch(city: str, units: Literal["c", "f"] = "c") -> None:
        """Touch it."""
        called.append(city + units)

    with pytest.raises(SkillFailure) as raised:
        await touch.invoke(call(args))
    assert "invalid_arguments" == raised.value.kind
    assert [] == called


async def test_a_pattern_that_backtracks_does_not_hang() -> None:
    """A text that does not match a pattern is refused before `re` sees it."""

    @skill
    async def search(word: Annotated[str, msgspec.Meta(pattern="^(a+)+$")]) -> str:
        """Search."""
        return word

    with pytest.raises(SkillFailure, match="pattern"):
        await search.invoke(call({"word": "a" * 60 + "!"}))
    assert "aa" == await search.invoke(call({"word": "aa"}))


async def test_a_sync_function_runs_in_a_thread() -> None:
    """A function that is not async does not block the event loop's thread."""

    @skill
    def where() -> int:
        """Where am I?"""
        return threading.get_ident()

    assert threading.get_ident() != await where.invoke(call({}))


async def test_a_late_effect_counts() -> None:
    """A sync function with effects is waited for, and its late result is not lost."""
    begun, go_on = trio.Event(), threading.Event()

    @skill(effects="unsafe")
    def slow() -> str:
        """Take long."""
        trio.from_thread.run_sync(begun.set)
        go_on.wait(10)
        return "done"

    results: list[object] = []

    async def run(scope: trio.CancelScope) -> None:
        with scope:
            results.append(await slow.invoke(call({})))

    scope = trio.CancelScope()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run, scope)
        await begun.wait()
        scope.cancel()
        await trio.testing.wait_all_tasks_blocked()
        assert [] == results
        go_on.set()
    assert ["done"] == results


async def test_a_late_pure_result_is_dropped() -> None:
    """A sync function without effects is left to itself when it is cancelled."""
    begun, go_on = trio.Event(), threading.Event()

    @skill(effects="pure")
    def slow() -> None:
        """Take long."""
        trio.from_thread.run_sync(begun.set)
        go_on.wait(10)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(slow.invoke, call({}))
        await begun.wait()
        nursery.cancel_scope.cancel()
    assert not go_on.is_set()
    go_on.set()


async def test_dry_runs() -> None:
    """A dry run reaches only a function that can tell it from a real one."""

    @skill(dry_run=True)
    async def told(asked: SkillInvocation) -> bool:
        """Do it, or not."""
        return asked.dry_run

    assert True is await told.invoke(call({}, dry_run=True))
    with pytest.raises(SkillFailure, match="no dry run"):
        await look_up.invoke(call({"city": "Bern"}, dry_run=True))
    with pytest.raises(InvalidSkill, match="needs a parameter annotated SkillInvocation"):

        @skill(dry_run=True)
        async def untold() -> None:
            """Do it."""


async def test_reconcile_makes_a_reconciler() -> None:
    """Only with `reconcile` is the skill a `Reconciler`, which asks that function."""

    async def ask(invocation: SkillInvocation) -> Reconciliation:
        return Settled(invocation.idempotency_key)

    @skill(reconcile=ask)
    async def pay() -> None:
        """Pay."""

    assert isinstance(pay, Reconciler)
    assert isinstance(pay, Skill)
    assert Settled("k") == await pay.reconcile(call({}))

    def at_once(_: SkillInvocation) -> Reconciliation:
        return Undetermined()

    with pytest.raises(InvalidSkill, match="async def"):
        skill(reconcile=at_once)(pay.function)  # type: ignore[arg-type]


def no_hint(x) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001
    """Doc."""


def starred(*args: int) -> None:
    """Doc."""


def keywords(**kwargs: int) -> None:
    """Doc."""


def positional(x: int, /) -> None:
    """Doc."""


def unserialisable(x: threading.Lock) -> None:  # type: ignore[valid-type]
    """Doc."""


def two_classes(x: Weather | Place) -> None:
    """Doc."""


def unresolved(x: Missing) -> None:  # type: ignore[name-defined]  # noqa: F821
    """Doc."""


def lookaround(x: Annotated[str, msgspec.Meta(pattern="(?=a)")]) -> None:
    """Doc."""


async def streaming(x: int) -> AsyncIterator[int]:
    """Doc."""
    yield x


def generating(x: int) -> Iterator[int]:
    """Doc."""
    yield x


def undocumented(x: int) -> None: ...  # noqa: D103


@pytest.mark.parametrize(
    ("function", "advice"),
    [
        (no_hint, "parameter 'x' has no type hint"),
        (starred, r"parameter 'args' is \*args"),
        (keywords, r"parameter 'kwargs' is \*\*kwargs"),
        (positional, "parameter 'x' is positional-only"),
        (unserialisable, "parameter 'x' has a type that JSON cannot carry"),
        (two_classes, "parameter 'x' has a type that JSON cannot carry"),
        (unresolved, "parameter 'x' cannot be resolved"),
        (lookaround, "regex"),
        (streaming, "generator"),
        (generating, "generator"),
        (undocumented, "no description"),
        (Weather, "no function"),
        (look_up, "no function"),
        (lambda: None, "its name must be"),
    ],
)
def test_a_function_that_is_no_skill(function: Callable[..., object], advice: str) -> None:
    """A function that cannot be a skill is refused where it is decorated, with advice."""
    with pytest.raises(InvalidSkill, match=advice) as raised:
        skill(function)
    assert getattr(function, "__name__", "?") == raised.value.name


@pytest.mark.parametrize(
    ("options", "advice"),
    [
        ({"name": "two words"}, "its name must be"),
        ({"name": "x" * 65}, "its name must be"),
        ({"name": "naïve"}, "its name must be"),
        ({"timeout_ms": -1}, "timeout_ms=-1"),
        ({"timeout_ms": 0}, "timeout_ms=0"),
        ({"timeout_ms": 1.5}, "timeout_ms=1.5"),
        ({"timeout_ms": True}, "timeout_ms=True"),
        ({"effects": "harmless"}, "one of pure, idempotent, unsafe"),
        ({"scopes": "tool:run"}, "write a list"),
        ({"scopes": [1]}, "use texts"),
        ({"version": ""}, "version"),
        ({"priority": "high"}, "priority"),
        ({"circuit_breaker_threshold": 0}, "circuit_breaker_threshold"),
        ({"circuit_breaker_threshold": float("nan")}, "circuit_breaker_threshold"),
        ({"retry": RetryPolicy(max_attempts=0)}, "max_attempts"),
        ({"retry": RetryPolicy(initial_interval_ms=-1)}, "intervals"),
        ({"retry": RetryPolicy(backoff_multiplier=0.5)}, "backoff_multiplier"),
    ],
)
def test_options_that_are_wrong(options: dict[str, Any], advice: str) -> None:
    """A wrong option is refused where the function is decorated, with advice."""
    with pytest.raises(InvalidSkill, match=advice):
        skill(**options)(starless)


def starless(x: int = 0) -> int:
    """Doc."""
    return x


def test_types_local_to_a_function() -> None:
    """A type defined beside the function is found, although its hint is only text."""

    @attrs.frozen
    class Local:
        number: int

    @skill
    async def first(x: Local) -> int:
        """First."""
        return x.number

    @skill(effects="pure")
    async def second(x: list[Local]) -> int:
        """Second."""
        return len(x)

    assert 4 == trio.run(first.invoke, call({"x": {"number": 4}}))
    assert 1 == trio.run(second.invoke, call({"x": [{"number": 4}]}))


@skill(effects="pure")
async def echo(number: int, text: str, flags: list[bool], extra: dict[str, float]) -> list[object]:
    """Return what came in."""
    return [number, text, flags, extra]


json_values = (
    st.none() | st.booleans() | st.integers(-9, 9) | st.floats(-9, 9) | st.text(max_size=2)
)


@given(
    st.fixed_dictionaries(
        {"number": json_values, "text": json_values},
        optional={
            "flags": st.lists(json_values, max_size=2) | json_values,
            "extra": st.dictionaries(st.text(max_size=2), json_values, max_size=2) | json_values,
        },
    )
)
def test_what_the_schema_takes_the_function_takes(args: JsonObject) -> None:
    """Arguments are valid by the schema exactly when they convert into the annotated types."""
    errors = argument_errors(echo.manifest.input_schema, args)
    try:
        result = trio.run(echo.invoke, call(args))
    except SkillFailure:
        assert errors
    else:
        assert not errors
        assert [args[name] for name in ("number", "text", "flags", "extra")] == codec.to_json(
            result
        )
