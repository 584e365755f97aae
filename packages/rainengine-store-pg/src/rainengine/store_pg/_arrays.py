"""Columns of a batch as Postgres arrays in its binary format.

psycopg would choose an array's type by what is in it, another for small numbers than for large
ones and none for nothing but nulls, and so prepare each statement again and again.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from struct import pack

from psycopg import Connection
from psycopg.abc import Buffer
from psycopg.adapt import Dumper
from psycopg.pq import Format

_NULL = b"\xff\xff\xff\xff"
_TEXT, _TEXTS = 25, 1009
_BYTEA, _BYTEAS = 17, 1001
_INTEGER, _INTEGERS = 23, 1007
_BIGINT, _BIGINTS = 20, 1016


class Texts(bytes):
    """A `text[]`, ready to be sent."""

    __slots__ = ()

    @classmethod
    def of(cls, column: Sequence[str | None]) -> Texts:
        """Encode a column. Raises `UnicodeEncodeError`."""
        encoded = [None if text is None else text.encode() for text in column]
        return cls(_array(_TEXT, len(column), _sized(encoded), nulls=None in encoded))


class Byteas(bytes):
    """A `bytea[]`, ready to be sent."""

    __slots__ = ()

    @classmethod
    def of(cls, column: Sequence[bytes]) -> Byteas:
        """Encode a column."""
        return cls(_array(_BYTEA, len(column), _sized(column)))


class Integers(bytes):
    """An `integer[]`, ready to be sent."""

    __slots__ = ()

    @classmethod
    def of(cls, column: Sequence[int]) -> Integers:
        """Encode a column of 32-bit numbers."""
        elements = [pack(">ii", 4, number) for number in column]
        return cls(_array(_INTEGER, len(column), elements))


class Bigints(bytes):
    """A `bigint[]`, ready to be sent."""

    __slots__ = ()

    @classmethod
    def of(cls, column: Sequence[int | None]) -> Bigints:
        """Encode a column of 64-bit numbers."""
        elements = [_NULL if number is None else pack(">iq", 8, number) for number in column]
        return cls(_array(_BIGINT, len(column), elements, nulls=None in column))


def _array(kind: int, length: int, elements: Iterable[bytes], *, nulls: bool = False) -> bytes:
    head = pack(">iiIii", 1, nulls, kind, length, 1) if length else pack(">iiI", 0, 0, kind)
    return head + b"".join(elements)


def _sized(column: Iterable[bytes | None]) -> list[bytes]:
    return [_NULL if data is None else pack(">i", len(data)) + data for data in column]


class _Ready(Dumper):
    format = Format.BINARY

    def dump(self, obj: bytes) -> Buffer:
        return obj


class _TextsDumper(_Ready):
    oid = _TEXTS


class _ByteasDumper(_Ready):
    oid = _BYTEAS


class _IntegersDumper(_Ready):
    oid = _INTEGERS


class _BigintsDumper(_Ready):
    oid = _BIGINTS


def register(connection: Connection[object]) -> None:
    """Have a connection take these as parameters."""
    adapters = connection.adapters
    adapters.register_dumper(Texts, _TextsDumper)
    adapters.register_dumper(Byteas, _ByteasDumper)
    adapters.register_dumper(Integers, _IntegersDumper)
    adapters.register_dumper(Bigints, _BigintsDumper)
