"""Reads an invoice out of a plain text file, whatever its layout and language."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import date
from typing import TypeVar

import attrs

T = TypeVar("T")


@attrs.frozen(kw_only=True)
class Invoice:
    """What the bakery needs to know of an invoice. Amounts are whole cents, dates ISO 8601."""

    file: str
    supplier: str
    number: str
    date: str
    due: str
    vat_id: str | None
    currency: str
    item_cents: list[int]
    vat_cents: int
    total_cents: int


class UnreadableInvoice(ValueError):
    """The text lacks something that every invoice has."""


_NUMBER = re.compile(
    r"(?:invoice|rechnung|facture|bill|notice)\s*(?:number|no\b|nr\b|n°|#)?[\s.:|#]*"
    r"(?P<found>[A-Z0-9/-]*\d[A-Z0-9/-]*)",
    re.IGNORECASE,
)
_VAT_ID = re.compile(r"(?:VAT ID|Tax ID|USt-IdNr\.?|N° TVA)\s*:?\s*(?P<found>[A-Z]{2}[\w .-]*\w)")
_DUE = re.compile(r"\b(?:due|pay by|payable by|zahlbar bis|échéance)\b(?P<found>.*)", re.IGNORECASE)
_DATED = re.compile(r"\b(?:date|datum|issued)\b(?P<found>.*)", re.IGNORECASE)
_TOTAL = re.compile(r"^\W*(?:total|amount due|gesamtbetrag)\b", re.IGNORECASE)
_SUBTOTAL = re.compile(r"^\W*(?:subtotal|zwischensumme)\b", re.IGNORECASE)
_VAT = re.compile(r"^\W*(?:vat|mwst|tva) \d", re.IGNORECASE)
_AMOUNT = re.compile(r"(?P<found>\d{1,3}(?:[.,]\d{3})*[.,]\d\d)\s*€?\s*$")
_CURRENCY = re.compile(r"\b(?:EUR|USD|GBP|CHF)\b|[€$£]", re.IGNORECASE)
_SIGNS = {"€": "EUR", "$": "USD", "£": "GBP"}

_DATE = re.compile(
    r"(?P<y>\d{4})-(?P<m>\d\d)-(?P<d>\d\d)"
    r"|(?P<d2>\d\d)\.(?P<m2>\d\d)\.(?P<y2>\d{4})"
    r"|(?P<d3>\d{1,2}) (?P<m3>[A-Z][a-z]+) (?P<y3>\d{4})"
    r"|(?P<m4>[A-Z][a-z]+) (?P<d4>\d{1,2}), (?P<y4>\d{4})"
)
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def parse(file: str, text: str) -> Invoice:
    """Read one invoice. Raises `UnreadableInvoice` that names what is missing."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    vat_id = _VAT_ID.search(text)
    total = _needed("line with the total", (line for line in lines if _TOTAL.match(line)))
    amounts = [(line, cents) for line in lines if (cents := _cents(line)) is not None]
    return Invoice(
        file=file,
        supplier=re.split(r"\s{2,}|\s*\|", lines[0])[0],
        number=_needed("number", (match["found"] for match in _NUMBER.finditer(text))),
        date=_needed("date", _dates(_DATED, lines)),
        due=_needed("due date", _dates(_DUE, lines)),
        vat_id=vat_id and vat_id["found"],
        currency=_needed("currency", (_sign(sign) for sign in _CURRENCY.findall(total))),
        item_cents=[cents for line, cents in amounts if not _is_sum(line)],
        vat_cents=sum(cents for line, cents in amounts if _VAT.match(line)),
        total_cents=_needed("total", (cents for line, cents in amounts if line == total)),
    )


def _needed(what: str, found: Iterable[T | None]) -> T:
    first = next((one for one in found if one is not None), None)
    if first is None:
        raise UnreadableInvoice(f"this invoice has no {what}")
    return first


def _dates(label: re.Pattern[str], lines: list[str]) -> Iterable[str | None]:
    return (_date(match["found"]) for line in lines if (match := label.search(line)))


def _date(text: str) -> str | None:
    match = _DATE.search(text)
    if match is None:
        return None
    year, month, day = (
        next(value for name, value in match.groupdict().items() if value and name[0] == part)
        for part in "ymd"
    )
    number = int(month) if month.isdigit() else _MONTHS.index(month[:3]) + 1
    return date(int(year), number, int(day)).isoformat()


def _cents(line: str) -> int | None:
    match = _AMOUNT.search(line)
    return int(re.sub(r"\D", "", match["found"])) if match else None


def _is_sum(line: str) -> bool:
    return any(label.match(line) for label in (_TOTAL, _SUBTOTAL, _VAT))


def _sign(text: str) -> str:
    return _SIGNS.get(text, text.upper())
