"""The scripted model: a function of what it is shown, as any model is.

It sees the conversation, with the calls that were made and what came of them, and decides what
to do next. It keeps nothing between two questions, so it matters to nobody which process asks.
"""

from __future__ import annotations

import re
from typing import Any

import attrs

from rainengine.core import CallSkills, PlannedSkillCall, Respond
from rainengine.core.abc import ProviderRequest
from rainengine.core.records import Action, TextPart, ToolFailure, ToolResultPart


def decide(request: ProviderRequest) -> Action:
    """Return the next action."""
    seen = Seen.of(request)
    if "list" not in seen.values:
        return CallSkills([_call("list", "list_invoices")])
    if not seen.of_all("read"):
        return CallSkills(
            [_call(f"read:{_stem(file)}", "read_invoice", file=file) for file in seen["list"]]
        )
    if not seen.of_all("check"):
        return CallSkills(_checks(seen))
    if "report" not in seen.values:
        return CallSkills(_work(seen))
    return Respond(_answer(seen))


@attrs.frozen(kw_only=True)
class Seen:
    """The conversation as the model sees it: what it was asked, and results by call id."""

    today: str
    values: dict[str, Any]
    failures: dict[str, ToolFailure]

    @classmethod
    def of(cls, request: ProviderRequest) -> Seen:
        """Go through all messages."""
        parts = [part for message in request.messages for part in message.parts]
        text = " ".join(part.text for part in parts if isinstance(part, TextPart))
        today = re.search(r"\d{4}-\d\d-\d\d", text)
        results = [part for part in parts if isinstance(part, ToolResultPart)]
        return cls(
            today=today[0] if today else "1970-01-01",
            values={part.call_id: part.value for part in results},
            failures={part.call_id: part.failure for part in results if part.failure},
        )

    def __getitem__(self, call_id: str) -> Any:  # noqa: ANN401  # JSON
        return self.values.get(call_id)

    def of_all(self, prefix: str) -> dict[str, Any]:
        """The values of the calls whose id begins so, by the rest of the id."""
        return {
            call_id.partition(":")[2]: value
            for call_id, value in self.values.items()
            if call_id.startswith(f"{prefix}:") and call_id not in self.failures
        }

    def reasons(self) -> dict[str, str]:
        """Why which invoices cannot be posted."""
        reasons = {name: findings["faults"] for name, findings in self.of_all("check").items()}
        for file in self["duplicates"] or ():
            reasons[_stem(file)] = ["this invoice came in before"]
        for call_id, failure in self.failures.items():
            reasons.setdefault(call_id.partition(":")[2], []).append(failure.message)
        return {name: " and ".join(faults) for name, faults in reasons.items() if faults}


def _checks(seen: Seen) -> list[PlannedSkillCall]:
    invoices = seen.of_all("read")
    return [
        *(
            _call(f"check:{name}", "check_invoice", invoice=invoice, today=seen.today)
            for name, invoice in invoices.items()
        ),
        _call("duplicates", "find_duplicates", invoices=list(invoices.values())),
        *(
            _call(
                f"convert:{name}",
                "convert_to_euros",
                cents=invoice["total_cents"],
                currency=invoice["currency"],
            )
            for name, invoice in invoices.items()
            if invoice["currency"] != "EUR"
        ),
    ]


def _work(seen: Seen) -> list[PlannedSkillCall]:
    """One graph: letters and postings side by side, then the report, then the report is sent."""
    invoices, reasons = seen.of_all("read"), seen.reasons()
    letters = [_letter(name, invoices[name], reason) for name, reason in reasons.items()]
    postings = [
        _call(
            f"post:{name}",
            "post_invoice",
            supplier=invoice["supplier"],
            number=invoice["number"],
            euro_cents=seen[f"convert:{name}"] or invoice["total_cents"],
            overdue_days=seen[f"check:{name}"]["overdue_days"],
        )
        for name, invoice in invoices.items()
        if name not in reasons
    ]
    aside = [
        {"supplier": invoices[name]["supplier"], "number": invoices[name]["number"], "reason": why}
        for name, why in reasons.items()
    ]
    report = attrs.evolve(
        _call("report", "write_report", set_aside=aside, today=seen.today),
        depends_on=tuple(call.call_id for call in postings),
    )
    note = _call(
        "mail:report",
        "send_mail",
        to="the owner",
        subject=f"Invoices on {seen.today}",
        text=f"{len(postings)} posted, {len(aside)} set aside. The report is in report.md.",
    )
    return [*letters, *postings, report, attrs.evolve(note, depends_on=("report",))]


def _letter(name: str, invoice: dict[str, Any], reason: str) -> PlannedSkillCall:
    call = _call(
        f"mail:{name}",
        "send_mail",
        to=invoice["supplier"],
        subject=f"Your invoice {invoice['number']}",
        text=f"We cannot post your invoice {invoice['number']}: {reason}. Please help.",
    )
    return attrs.evolve(call, priority=1)  # people take longest to answer


def _answer(seen: Seen) -> str:
    posted, letters = seen.of_all("post"), seen.of_all("mail")
    answer = (
        f"{len(posted)} invoices are posted, EUR {seen['report']} in all;"
        f" {len(letters) - 1} are set aside, and their suppliers are asked."
    )
    doubtful = [
        call_id for call_id, failure in seen.failures.items() if failure.kind == "unknown_outcome"
    ]
    return answer + "".join(f" I do not know whether {one} was done." for one in doubtful)


def _call(call_id: str, skill: str, **arguments: Any) -> PlannedSkillCall:  # noqa: ANN401  # JSON
    return PlannedSkillCall(call_id=call_id, name=skill, args=arguments)


def _stem(file: str) -> str:
    return file.removesuffix(".txt")
