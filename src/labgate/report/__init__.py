"""What was found, written down: `text` for a terminal, `json` for programs, `airas` for a code generator."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import TextIO

from labgate.contract import Contract
from labgate.finding import Basis, Finding, Impact, Outcome
from labgate.verdict import Decision, Standing, State, Verdict


class Format(StrEnum):
    TEXT = "text"
    JSON = "json"
    AIRAS = "airas"


class Detail(StrEnum):
    """How much of a text report is written."""

    LINE = "line"
    REPORT = "report"
    ALL = "all"


@dataclass(frozen=True)
class Report:
    """Everything that a report is written from. `origin` is what the user named, `digest` of what was read.

    `ran` tells whether anything of the bundle was run; `seconds` is how long it all took.
    """

    name: str
    origin: str
    digest: str
    date: str | None
    contract: Contract
    findings: tuple[Finding, ...]
    verdict: Verdict
    seconds: float
    ran: bool = False

    @property
    def decision(self) -> Decision:
        return self.verdict.decision

    def of(self, outcome: Outcome) -> tuple[Finding, ...]:
        return tuple(finding for finding in self.findings if finding.outcome is outcome)

    @property
    def remarks(self) -> tuple[Finding, ...]:
        """The failures that never decide."""
        return tuple(finding for finding in self.of(Outcome.FAIL) if not finding.weighs)

    def failures(self) -> Iterator[tuple[Impact, tuple[Finding, ...]]]:
        """The failures that weigh, by what they cost, the worst first."""
        for impact in Impact:
            found = tuple(f for f in self.verdict.failures if f.impact is impact)
            if found:
                yield impact, found

    @property
    def bullets(self) -> tuple[Standing, ...]:
        """Where every sub-bullet stands that is no heading."""
        return tuple(standing for standing in self.verdict.standings if not standing.bullet.parts)

    def in_state(self, state: State) -> tuple[Standing, ...]:
        return tuple(standing for standing in self.bullets if standing.state is state)

    def why_open(self, standing: Standing) -> str:
        """Half a sentence on what keeps a sub-bullet from being shown."""
        wanted = standing.bullet.settled_by
        if Basis.READ not in wanted:
            return "only a run shows it" if Basis.RAN in wanted else "only a reviewer can judge it"
        silent = [f for f in standing.findings if f.outcome in (Outcome.SKIP, Outcome.ERROR)]
        if silent:
            return silent[0].says
        return "not shown by what was read" if standing.findings else "no check answers it yet"


def summary(report: Report) -> str:
    """The verdict in one sentence, without the name of the bundle."""
    if report.decision is Decision.NOT_READY:
        parts = [f"{len(found)} {_costs(impact, len(found))}" for impact, found in report.failures()]
        count = len(report.verdict.failures)
        return f"{count} failure{'s' * (count != 1)}: {', '.join(parts)}"
    required = [standing for standing in report.bullets if standing.bullet.required]
    if report.decision is Decision.READY:
        return f"all {len(required)} required sub-bullets are shown to hold"
    count = sum(standing.state is State.OPEN for standing in required)
    broke = len(report.of(Outcome.ERROR))
    ours = f"; {broke} of labgate's own questions failed" if broke else ""
    return f"nothing is refuted; {count} of {len(required)} required sub-bullets are not shown to hold{ours}"


def _costs(impact: Impact, count: int) -> str:
    if impact is Impact.BREACHES and count != 1:
        return "break the contract"
    if impact is Impact.MISLEADS:
        return "make the science wrong" if count != 1 else "makes the science wrong"
    return impact.words


def write(
    reports: Iterable[Report],
    out: TextIO,
    format: Format = Format.TEXT,
    *,
    detail: Detail = Detail.REPORT,
    color: bool = True,
    one: bool = True,
) -> None:
    """Write reports to `out`: text as each arrives, data when all are there, as a list unless it is `one`."""
    if format is Format.TEXT:
        _write_text(reports, out, detail, color)
        return
    from json import dumps

    if format is Format.JSON:
        from labgate.report.json import data

        written: list[object] = [data(report) for report in reports]
    else:
        from labgate.report.airas import answer

        written = [answer(report) for report in reports]
    if written or not one:
        out.write(dumps(written[0] if one else written, indent=2, ensure_ascii=False) + "\n")


def _write_text(reports: Iterable[Report], out: TextIO, detail: Detail, color: bool) -> None:
    from rich.console import Console

    from labgate.report import text

    width = None if out.isatty() or "COLUMNS" in os.environ else 110
    plain = not color or bool(os.environ.get("NO_COLOR"))
    console = Console(
        file=out, width=width, color_system=None if plain else "auto", highlight=False, emoji=False
    )
    for report in reports:
        with console.capture() as capture:  # rich would end the process on a broken pipe
            if detail is Detail.LINE:
                console.print(text.line(report), soft_wrap=True)
            else:
                text.write(report, console, verbose=detail is Detail.ALL)
        out.writelines(line.rstrip() + "\n" for line in capture.get().splitlines())
        out.flush()
