"""What the bookkeeper can do.

Pure skills may run any number of times.
An idempotent one hands its key to a system that honours it, so it may run again as well.
An unsafe one runs once; where a crash leaves doubt, `reconcile` finds out what became of it.
"""

from __future__ import annotations

import time
from datetime import date

import attrs
import office
from invoice import Invoice, parse

from rainengine.core import RetryPolicy, skill
from rainengine.core.abc import Reconciliation, Settled, SkillInvocation, Undetermined
from rainengine.core.errors import SkillFailure


@attrs.frozen(kw_only=True)
class Findings:
    """What is wrong with an invoice, and for how many days it has been overdue."""

    faults: list[str]
    overdue_days: int


@attrs.frozen(kw_only=True)
class SetAside:
    """An invoice that was not posted."""

    supplier: str
    number: str
    reason: str


@skill(effects="pure")
def list_invoices(call: SkillInvocation) -> list[str]:
    """List the invoices that have come in."""
    with office.working(call, "the folder"):
        time.sleep(office.PACE_S)
        return sorted(path.name for path in office.DOCUMENTS.glob("*.txt"))


@skill(effects="pure")
def read_invoice(file: str, call: SkillInvocation) -> Invoice:
    """Read one invoice, in whatever layout and language it is written."""
    with office.working(call, file):
        time.sleep(office.PACE_S)
        if file not in {path.name for path in office.DOCUMENTS.glob("*.txt")}:
            raise SkillFailure("invalid_arguments", f"there is no invoice {file}")
        return parse(file, (office.DOCUMENTS / file).read_text(encoding="utf-8"))


@skill(effects="pure")
def check_invoice(invoice: Invoice, today: str, call: SkillInvocation) -> Findings:
    """Check the sum and the VAT id of an invoice, and whether it is overdue."""
    with office.working(call, invoice.file):
        time.sleep(office.PACE_S / 2)
        faults = []
        correct = sum(invoice.item_cents) + invoice.vat_cents
        if correct != invoice.total_cents:
            faults.append(f"the total is {euros(invoice.total_cents)}, not {euros(correct)}")
        if invoice.vat_id is None:
            faults.append("the VAT id is missing")
        late = date.fromisoformat(today) - date.fromisoformat(invoice.due)
        return Findings(faults=faults, overdue_days=max(late.days, 0))


@skill(effects="pure")
def find_duplicates(invoices: list[Invoice], call: SkillInvocation) -> list[str]:
    """Find the files of invoices whose supplier and number came in before."""
    with office.working(call, f"{len(invoices)} invoices"):
        seen: set[tuple[str, str]] = set()
        again = []
        for invoice in invoices:
            name = (invoice.supplier, invoice.number)
            if name in seen:
                again.append(invoice.file)
            seen.add(name)
        return again


@skill(effects="pure", retry=RetryPolicy(max_attempts=3, initial_interval_ms=200))
def convert_to_euros(cents: int, currency: str, call: SkillInvocation) -> int:
    """Convert an amount to euro cents at today's rate."""
    with office.working(call, currency):
        rate = office.rate(currency, call.attempt)
        if rate is None:
            raise SkillFailure("invalid_arguments", f"there is no rate for {currency}")
        return round(cents / rate)


@skill(effects="idempotent", timeout_ms=8_000)
async def post_invoice(
    supplier: str, number: str, euro_cents: int, overdue_days: int, call: SkillInvocation
) -> int:
    """Post an invoice to the accounting book and return the number of the entry."""
    with office.working(call, f"{supplier}, {euros(euro_cents)}"):
        entry = {
            "supplier": supplier,
            "invoice": number,
            "euro_cents": euro_cents,
            "overdue_days": overdue_days,
        }
        posted = office.post(call.idempotency_key, entry)
        await office.receipt(call)
        return posted["number"]


@skill(effects="idempotent")
def write_report(set_aside: list[SetAside], today: str, call: SkillInvocation) -> str:
    """Write the report of what is in the book and what was set aside; return its total."""
    with office.working(call, str(office.REPORT)):
        entries = office.rows(office.BOOK)
        total = euros(sum(entry["euro_cents"] for entry in entries))
        lines = [f"# Invoices on {today}", "", "## Posted", ""]
        for entry in sorted(entries, key=lambda entry: -entry["overdue_days"]):
            late = f", **{entry['overdue_days']} days overdue**" if entry["overdue_days"] else ""
            lines.append(
                f"- {entry['supplier']}, {entry['invoice']}: {euros(entry['euro_cents'])}{late}"
            )
        lines += ["", f"Total: EUR {total}", "", "## Set aside", ""]
        lines += [f"- {one.supplier}, {one.number}: {one.reason}" for one in set_aside]
        office.REPORT.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return total


async def look_into_sent(call: SkillInvocation) -> Reconciliation:
    """Find out whether a letter went out before the process was killed."""
    if office.sent(call.idempotency_key):
        office.note(call, "found", "was sent already: not sent again")
        return Settled("sent")
    return Undetermined()


@skill(effects="unsafe", timeout_ms=8_000, reconcile=look_into_sent)
async def send_mail(to: str, subject: str, text: str, call: SkillInvocation) -> str:
    """Send a letter by e-mail."""
    with office.working(call, f"to {to}"):
        letter = {"to": to, "subject": subject, "text": text}
        office.send(call.idempotency_key, letter)
        await office.receipt(call)
        return "sent"


def euros(cents: int) -> str:
    """Cents as people write amounts: 1,234.56."""
    return f"{cents / 100:,.2f}"


SKILLS = (
    list_invoices,
    read_invoice,
    check_invoice,
    find_duplicates,
    convert_to_euros,
    post_invoice,
    write_report,
    send_mail,
)
