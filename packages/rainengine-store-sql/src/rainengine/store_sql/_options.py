"""Settings as text, from the query of a URL."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar, get_type_hints

import attrs

from rainengine.core.errors import InvalidConfiguration

NumberT = TypeVar("NumberT", int, float)
SettingsT = TypeVar("SettingsT", bound=attrs.AttrsInstance)


def read_settings(
    options: Mapping[str, str], defaults: SettingsT, *, besides: tuple[str, ...] = ()
) -> SettingsT:
    """Return settings of the kind of `defaults`, changed as `options` say.

    `besides` are the names that the caller understands himself, to be told of with the others.
    Raises `InvalidConfiguration`, for an unknown name too.
    """
    kinds = setting_kinds(type(defaults))
    for name in options:
        if name not in kinds:
            known = ", ".join(sorted([*besides, *kinds]))
            raise InvalidConfiguration("url", f"unknown setting {name!r}; known are {known}")
    changes: dict[str, Any] = {
        name: read_flag(name, text) if kinds[name] is bool else read_number(name, text, kinds[name])
        for name, text in options.items()
    }
    return type(defaults)(**{**attrs.asdict(defaults, recurse=False), **changes})


def setting_kinds(settings: type[attrs.AttrsInstance]) -> Mapping[str, type]:
    """Return the settings' names with their types."""
    return get_type_hints(settings)


def read_flag(name: str, text: str) -> bool:
    """Return what `true` or `false` says. Raises `InvalidConfiguration`."""
    if text not in {"true", "false"}:
        raise InvalidConfiguration(name, f"{text!r} is neither true nor false")
    return text == "true"


def read_number(name: str, text: str, kind: type[NumberT]) -> NumberT:
    """Return a number above 0. Raises `InvalidConfiguration`."""
    try:
        number = kind(text)
    except ValueError:
        raise InvalidConfiguration(name, f"{text!r} is not a number") from None
    return check_positive(name, number)


def above_0(_: object, attribute: attrs.Attribute[Any], value: float) -> None:
    """Validate a field of settings. Raises `InvalidConfiguration`."""
    check_positive(attribute.name, value)


def check_positive(name: str, number: NumberT) -> NumberT:
    """Return the number. Raises `InvalidConfiguration` unless it is above 0 and finite."""
    if not 0 < number < float("inf"):
        raise InvalidConfiguration(name, f"{number} is not above 0")
    return number
