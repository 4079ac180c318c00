"""The answer for AIRAS's generator of code: whether it is ready, and what its next try must mend."""

from __future__ import annotations

from labgate.finding import Finding, Outcome
from labgate.report import Report
from labgate.verdict import Decision, State

NOT_SHOWN = "not shown to be the code's fault:"


def answer(report: Report) -> dict[str, bool | str]:
    """`{"is_code_ready": bool, "code_issue": str}`; the string is empty when it is ready."""
    return {"is_code_ready": report.decision is Decision.READY, "code_issue": _issue(report)}


def _issue(report: Report) -> str:
    if report.decision is Decision.READY:
        return ""
    if report.decision is Decision.UNDECIDED:
        errors = [f"- {finding.says}" for finding in report.of(Outcome.ERROR)]
        unshown = [
            f"- {s.bullet.id} ({s.bullet.says}): {report.why_open(s)}" for s in report.in_state(State.OPEN)
        ]
        return "\n".join([NOT_SHOWN, *errors, *unshown])
    lines: list[str] = []
    number = 0
    for impact, found in report.failures():
        lines.append(f"{impact.words.capitalize()}:")
        for finding in found:
            number += 1
            lines += _failure(number, finding)
    return "\n".join(lines)


def _failure(number: int, finding: Finding) -> list[str]:
    about = f" [{', '.join(finding.answers)}]" if finding.answers else ""
    lines = [f"{number}. {finding.says}{about}"]
    for place in finding.evidence:
        label = f" ({place.label})" if place.label else ""
        quote = f": {place.shows.strip()}" if place.shows.strip() else ""
        lines.append(f"   at {place}{label}{quote}")
    if finding.do:
        lines.append(f"   do: {finding.do}")
    return lines
