"""Plain mappings into settings, and secrets by reference.

A configuration names its secrets and does not hold them: `env:NAME` is an environment variable,
`file:PATH` a file, of which a line break at the end does not count. What is read is a `Secret`.
"""

from __future__ import annotations

import hmac
import math
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn, TypeVar, cast
from urllib.parse import urlsplit

import attrs

from rainengine.core.errors import InvalidConfiguration
from rainengine.core.records import TokenPrice

_T = TypeVar("_T")


class Secret:
    """A text that is shown only where `reveal` is called; it cannot be pickled."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """Return the text, to be handed on at once to whoever needs it."""
        return self._text

    def __repr__(self) -> str:
        return "Secret()"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(self._text.encode(), other._text.encode())

    def __hash__(self) -> int:
        return hash((Secret, self._text))

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Secret is not written anywhere: pass on the reference to it")


def read_secret(field: str, given: object) -> Secret:
    """Return the secret that is given, or that a reference names, without white space around it.

    Raises `InvalidConfiguration` for `field` where there is none, it is empty, no header of HTTP
    could carry it, or something else is given; that is never repeated, as it may be the secret
    itself.
    """
    secret = given if isinstance(given, Secret) else Secret(_referenced(field, given))
    text = secret.reveal().strip()
    if not text:
        raise InvalidConfiguration(field, "the secret is empty")
    if not all("!" <= character <= "~" for character in text):
        raise InvalidConfiguration(
            field, "the secret has to be one line of visible ASCII characters, without spaces"
        )
    return secret if text == secret.reveal() else Secret(text)


def _referenced(field: str, reference: object) -> str:
    kind, colon, rest = reference.partition(":") if isinstance(reference, str) else ("", "", "")
    read = _READERS.get(kind)
    if not colon or not rest or read is None:
        raise InvalidConfiguration(
            field, "a secret is given by reference, env:NAME or file:PATH, or as a Secret"
        )
    return read(field, rest)


def _from_environment(field: str, name: str) -> str:
    text = os.environ.get(name)
    if text is None:
        raise InvalidConfiguration(field, f"the environment variable {name} is not set")
    return text


def _from_file(field: str, path: str) -> str:
    try:
        return Path(path).expanduser().read_text("utf-8").rstrip("\r\n")
    except (OSError, ValueError) as error:
        reason = type(error).__name__
        raise InvalidConfiguration(field, f"{path} cannot be read: {reason}") from None


_READERS: Mapping[str, Callable[[str, str], str]] = {"env": _from_environment, "file": _from_file}


def read_settings(settings: type[_T], given: Mapping[str, object]) -> _T:
    """Return an attrs class made of a plain mapping.

    Raises `InvalidConfiguration` for a setting that there is not, and for one that is missing;
    whether the others are right is the class's own business.
    """
    fields = {field.name: field for field in attrs.fields(cast(Any, settings)) if field.init}
    for name in given:
        if name not in fields:
            known = ", ".join(fields)
            raise InvalidConfiguration(str(name), f"there is no such setting; there are {known}")
    for name, field in fields.items():
        if field.default is attrs.NOTHING and name not in given:
            raise InvalidConfiguration(name, "has to be set")
    return settings(**given)


def read_price(field: str, given: TokenPrice | Mapping[str, object] | None) -> TokenPrice | None:
    """Return the price that is given, or that a plain mapping of its fields makes.

    Raises `InvalidConfiguration` for `field`, or for `field.name` where one of its fields is wrong.
    """
    if isinstance(given, Mapping):
        try:
            given = read_settings(TokenPrice, {"source": "settings", **given})
        except InvalidConfiguration as error:
            raise InvalidConfiguration(f"{field}.{error.field}", error.reason) from None
    if given is not None and not isinstance(cast(object, given), TokenPrice):
        raise InvalidConfiguration(field, "has to be a mapping with input_micros and so on")
    if given is not None and not all(map(_is_amount, _amounts(given))):
        raise InvalidConfiguration(field, "has to be made of whole numbers that are not negative")
    return given


def _amounts(price: TokenPrice) -> tuple[object, ...]:
    cached = price.cached_micros
    return (price.input_micros, price.output_micros, 0 if cached is None else cached)


def _is_amount(value: object) -> bool:
    return type(value) is int and value >= 0


# Checks for the fields of such classes, to be used as attrs validators.


def check_text(_: object, field: attrs.Attribute[Any], value: object) -> None:
    """Want a text that is not empty."""
    if not isinstance(value, str) or not value.strip():
        raise InvalidConfiguration(field.name, "has to be a text that is not empty")


def check_url(_: object, field: attrs.Attribute[Any], value: object) -> None:
    """Want an http or https URL with a host, and no user, password, query or fragment in it."""
    if not isinstance(value, str) or not _is_plain_url(value):
        raise InvalidConfiguration(
            field.name, "has to be a URL such as https://host/v1, without a key or password in it"
        )


def _is_plain_url(url: str) -> bool:
    try:
        parts = urlsplit(url)
        _ = parts.port  # raises where it is no number
    except ValueError:
        return False
    extras = parts.query or parts.fragment or parts.username or parts.password
    return parts.scheme in {"http", "https"} and bool(parts.hostname) and not extras


def check_positive(_: object, field: attrs.Attribute[Any], value: object) -> None:
    """Want a number above 0."""
    sound = isinstance(value, int | float) and not isinstance(value, bool)
    if not sound or not 0 < cast(float, value) < math.inf:
        raise InvalidConfiguration(field.name, "has to be a number above 0")


def check_count(_: object, field: attrs.Attribute[Any], value: object) -> None:
    """Want a whole number above 0."""
    if type(value) is not int or value < 1:
        raise InvalidConfiguration(field.name, "has to be a whole number above 0")


def check_flag(_: object, field: attrs.Attribute[Any], value: object) -> None:
    """Want true or false."""
    if not isinstance(value, bool):
        raise InvalidConfiguration(field.name, "has to be true or false")


def check_one_of(*values: object) -> Callable[[object, attrs.Attribute[Any], object], None]:
    """Want one of these values."""

    def check(_: object, field: attrs.Attribute[Any], value: object) -> None:
        if value not in values:
            raise InvalidConfiguration(
                field.name, f"has to be one of {', '.join(map(str, values))}"
            )

    return check
