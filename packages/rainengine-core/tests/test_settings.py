"""Settings from plain mappings, and secrets by reference."""

from __future__ import annotations

import copy
import logging
import pickle
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import pytest

from rainengine.core.errors import InvalidConfiguration
from rainengine.core.records import TokenPrice
from rainengine.core.settings import (
    Secret,
    check_count,
    check_flag,
    check_one_of,
    check_positive,
    check_text,
    check_url,
    read_price,
    read_secret,
    read_settings,
)

CANARY = "sk-canary-4711"


def _key(given: str | Secret) -> Secret:
    return read_secret("key", given)


@attrs.frozen(kw_only=True)
class Settings:
    key: Secret = attrs.field(converter=_key)
    name: str = attrs.field(validator=check_text)
    url: str = attrs.field(default="https://api.example/v1", validator=check_url)
    seconds: float = attrs.field(default=1.5, validator=check_positive)
    count: int = attrs.field(default=3, validator=check_count)
    flag: bool = attrs.field(default=True, validator=check_flag)
    mode: str = attrs.field(default="a", validator=check_one_of("a", "b"))


GOOD: dict[str, object] = {"key": Secret(CANARY), "name": "n"}


# Secrets.


def test_a_secret_shows_itself_only_when_asked(caplog: pytest.LogCaptureFixture) -> None:
    """No way of writing it down shows it, but `reveal`."""
    secret = Secret(CANARY)
    shown = [repr(secret), str(secret), f"{secret}", "%s" % secret, repr([secret])]  # noqa: UP031
    logging.getLogger("test").warning("with %s %r", secret, secret)
    shown += [caplog.text, repr(Settings(key=secret, name="n"))]
    assert CANARY not in "".join(shown)
    assert secret.reveal() == CANARY


@pytest.mark.parametrize("write", [pickle.dumps, copy.deepcopy, copy.copy])
def test_a_secret_is_not_written(write: Callable[[Any], Any]) -> None:
    """It cannot be pickled or copied, only handed on."""
    with pytest.raises(TypeError, match="reference"):
        write(Secret(CANARY))


def test_secrets_compare_by_what_they_hide() -> None:
    """Two secrets of one text are equal, and no text equals a secret."""
    assert Secret("ü") == Secret("ü")
    assert Secret("a") != Secret("b")
    assert Secret("a") != "a"
    assert hash(Secret("a")) == hash(Secret("a"))


def test_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """`env:NAME` is an environment variable, as it is."""
    monkeypatch.setenv("ACME_KEY", CANARY)
    assert read_secret("key", "env:ACME_KEY").reveal() == CANARY


@pytest.mark.parametrize("ending", ["", "\n", "\r\n"])
def test_from_a_file(tmp_path: Path, ending: str) -> None:
    """`file:PATH` is a file, without the line break at its end."""
    file = tmp_path / "key"
    file.write_bytes((CANARY + ending).encode())
    assert read_secret("key", f"file:{file}").reveal() == CANARY


def test_a_secret_passes_through() -> None:
    """What is a secret already is returned as it is."""
    secret = Secret(CANARY)
    assert read_secret("key", secret) is secret


@pytest.mark.parametrize("around", ["\n", "\r\n", " ", "\t"])
def test_a_secret_has_nothing_around_it(around: str) -> None:
    """White space around a secret is no part of it."""
    assert read_secret("key", Secret(f"{around}{CANARY}{around}")).reveal() == CANARY


@pytest.mark.parametrize("odd", ["\n", "\r", " ", "\t", "\0", "\x7f", "é", "\u200b", "\u2028"])
def test_a_secret_that_no_header_could_carry(odd: str) -> None:
    """A secret of anything but visible ASCII is refused by its field, and is not shown."""
    with pytest.raises(InvalidConfiguration, match="visible ASCII") as caught:
        read_secret("key", Secret(f"{CANARY}{odd}{CANARY}"))
    assert caught.value.field == "key"
    assert CANARY not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize(
    ("reference", "said"),
    [
        (CANARY, "by reference"),
        (f"key:{CANARY}", "by reference"),
        ("env:", "by reference"),
        ("", "by reference"),
        (None, "by reference"),
        (7, "by reference"),
        ("env:ACME_NOT_SET", "ACME_NOT_SET is not set"),
        ("file:/no/such/file", "/no/such/file cannot be read: FileNotFoundError"),
        (Secret(""), "is empty"),
        (Secret(" \n"), "is empty"),
    ],
)
def test_a_wrong_reference(reference: object, said: str) -> None:
    """The error names the field and what to do, and does not repeat what may be the secret."""
    with pytest.raises(InvalidConfiguration, match=said) as caught:
        read_secret("key", reference)
    assert caught.value.field == "key"
    assert CANARY not in "".join(traceback.format_exception(caught.value))


def test_a_file_that_is_no_text(tmp_path: Path) -> None:
    """Bytes that are no UTF-8 are an error that does not repeat them."""
    file = tmp_path / "key"
    file.write_bytes(CANARY.encode() + b"\xff")
    with pytest.raises(InvalidConfiguration, match="UnicodeDecodeError") as caught:
        read_secret("key", f"file:{file}")
    assert CANARY not in "".join(traceback.format_exception(caught.value))


# Settings.


def test_plain_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """A mapping of plain values becomes the class, with its defaults."""
    monkeypatch.setenv("ACME_KEY", CANARY)
    read = read_settings(Settings, {"key": "env:ACME_KEY", "name": "n", "count": 7})
    assert read == Settings(key=Secret(CANARY), name="n", count=7)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"colour": "red"}, "colour"),
        ({"key": None}, "key"),
        ({"name": ""}, "name"),
        ({"name": " "}, "name"),
        ({"name": 7}, "name"),
        ({"url": "api.example/v1"}, "url"),
        ({"url": "ftp://api.example"}, "url"),
        ({"url": "https://"}, "url"),
        ({"url": "https://user:pw@api.example"}, "url"),
        ({"url": "https://api.example?key=1"}, "url"),
        ({"url": "https://api.example/#x"}, "url"),
        ({"url": "https://api.example:port"}, "url"),
        ({"url": "https://[api.example"}, "url"),
        ({"url": None}, "url"),
        ({"seconds": 0}, "seconds"),
        ({"seconds": float("nan")}, "seconds"),
        ({"seconds": float("inf")}, "seconds"),
        ({"seconds": True}, "seconds"),
        ({"seconds": "1"}, "seconds"),
        ({"count": 0}, "count"),
        ({"count": 1.0}, "count"),
        ({"count": True}, "count"),
        ({"flag": 1}, "flag"),
        ({"mode": "c"}, "mode"),
        ({"mode": []}, "mode"),
    ],
)
def test_a_wrong_setting(changes: dict[str, object], field: str) -> None:
    """What is wrong is named by its field."""
    with pytest.raises(InvalidConfiguration) as caught:
        read_settings(Settings, GOOD | changes)
    assert caught.value.field == field


@pytest.mark.parametrize("field", ["key", "name"])
def test_a_setting_that_is_missing(field: str) -> None:
    """What has no default has to be there."""
    with pytest.raises(InvalidConfiguration) as caught:
        read_settings(Settings, {name: one for name, one in GOOD.items() if name != field})
    assert (caught.value.field, caught.value.reason) == (field, "has to be set")


# Prices.

PRICE = TokenPrice(input_micros=1, output_micros=2, source="settings")


def test_a_price() -> None:
    """A price is given as it is, as plain values, or not at all."""
    assert read_price("price", PRICE) is PRICE
    assert read_price("price", {"input_micros": 1, "output_micros": 2}) == PRICE
    assert read_price("price", None) is None


@pytest.mark.parametrize(
    ("given", "field"),
    [
        (7, "price"),
        ({"input_micros": 1}, "price.output_micros"),
        ({"input_micros": 1, "output_micros": 2, "colour": 1}, "price.colour"),
        ({"input_micros": -1, "output_micros": 2}, "price"),
        ({"input_micros": 1.5, "output_micros": 2}, "price"),
        ({"input_micros": 1, "output_micros": 2, "cached_micros": True}, "price"),
        (TokenPrice(input_micros=-1, output_micros=2), "price"),
    ],
)
def test_a_wrong_price(given: Any, field: str) -> None:
    """What is wrong with a price is named."""
    with pytest.raises(InvalidConfiguration) as caught:
        read_price("price", given)
    assert caught.value.field == field
