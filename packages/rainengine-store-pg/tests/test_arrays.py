"""Columns as Postgres arrays: psycopg reads back what was encoded."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from psycopg.adapt import Transformer
from psycopg.pq import Format

from rainengine.store_pg._arrays import Bigints, Byteas, Integers, Texts

TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"))
BIGINT = st.integers(-(2**63), 2**63 - 1)


def _read(oid: int, data: bytes) -> Any:
    return Transformer().get_loader(oid, Format.BINARY).load(data)


@given(st.lists(st.none() | TEXT))
def test_texts(column: list[str | None]) -> None:
    """Text of any kind, and nulls."""
    assert column == _read(1009, Texts.of(column))


@given(st.lists(st.binary()))
def test_byteas(column: list[bytes]) -> None:
    """Bytes of any kind."""
    assert column == _read(1001, Byteas.of(column))


@given(st.lists(st.integers(-(2**31), 2**31 - 1)))
def test_integers(column: list[int]) -> None:
    """Numbers of 32 bits."""
    assert column == _read(1007, Integers.of(column))


@given(st.lists(st.none() | BIGINT))
def test_bigints(column: list[int | None]) -> None:
    """Numbers of 64 bits, and nulls."""
    assert column == _read(1016, Bigints.of(column))


def test_text_that_is_none_is_refused() -> None:
    """A lone surrogate is never sent."""
    with pytest.raises(UnicodeEncodeError):
        Texts.of(["\ud800"])
