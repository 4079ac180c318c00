"""The report for a terminal: the verdict, what failed and where, what is open, and the verdict again."""

from __future__ import annotations

from dataclasses import replace

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from labgate.finding import Evidence, Finding, Outcome
from labgate.report import Report, summary
from labgate.verdict import Decision, State

COLOURS = {Decision.READY: "bold green", Decision.NOT_READY: "bold red", Decision.UNDECIDED: "bold yellow"}
NOTHING_RAN = "Nothing was run: this was read only, and what is read only is undecided at best."


def write(report: Report, console: Console, *, verbose: bool = False) -> None:
    """Print the whole report; `verbose` spells out what is open and what could not be told."""
    console.print(Text(_plain(f"{report.origin} · contract {report.contract.name}"), "dim"))
    _verdict(report, console)
    for impact, found in report.failures():
        _heading(console, f"{impact.words.capitalize()} ({len(found)})")
        for finding in found:
            _finding(console, finding)
    _errors(report, console)
    _remarks(report, console, verbose)
    _open(report, console, verbose)
    _skips(report, console, verbose)
    if verbose:
        _passes(report, console)
    console.print()
    console.print(_table(report))
    advisory = report.in_state(State.NOT_JUDGED)
    if advisory:
        console.print(Text(f"Advisory, and not judged: {', '.join(s.bullet.id for s in advisory)}.", "dim"))
    if not report.ran:
        console.print(Text(NOTHING_RAN, "dim"))
    _verdict(report, console)


def line(report: Report) -> Text:
    """The verdict, the bundle and the sentence, in one line."""
    said = Text(str(report.decision).upper(), COLOURS[report.decision])
    return said.append(_plain(f"  {report.origin}: {summary(report)}"), "default")


def _verdict(report: Report, console: Console) -> None:
    said = Text(str(report.decision).upper(), COLOURS[report.decision])
    console.print(said.append(f": {summary(report)}", "not bold default"))


def _heading(console: Console, words: str) -> None:
    console.print()
    console.print(Text(words, "bold underline"))


def _finding(console: Console, finding: Finding) -> None:
    console.print()
    name = Text(finding.check, "bold red" if finding.weighs else "bold")
    if finding.answers:
        name.append(f"  {', '.join(finding.answers)}", "not bold dim")
    console.print(name)
    _indented(console, Text(_plain(finding.says)))
    for place in finding.evidence:
        _place(console, place)
    if finding.do:
        _indented(console, Text("→ ", "green").append(_plain(finding.do)))


def _place(console: Console, place: Evidence) -> None:
    where = Text(_plain(str(place)), "cyan")
    if place.label:
        where.append(f"  {_plain(place.label)}", "dim")
    _indented(console, where)
    if place.shows.strip():
        quote = Text("│ ", "dim").append(_plain(place.shows.strip()), "default")
        quote.no_wrap, quote.overflow = True, "ellipsis"
        _indented(console, quote, 4)


def _indented(console: Console, text: Text, columns: int = 2) -> None:
    console.print(Padding(text, (0, 0, 0, columns), expand=False))


def _errors(report: Report, console: Console) -> None:
    """labgate's own failures, each once: one broken fact fails every check that wants it."""
    alike: dict[tuple[str, tuple[Evidence, ...]], list[Finding]] = {}
    for finding in report.of(Outcome.ERROR):
        alike.setdefault((finding.says, finding.evidence), []).append(finding)
    if not alike:
        return
    _heading(console, f"labgate's own failures, which say nothing about the experiment ({len(alike)})")
    for found in alike.values():
        names = ", ".join(dict.fromkeys(finding.check for finding in found))
        _finding(console, replace(found[0], check=names, answers=()))


def _remarks(report: Report, console: Console, verbose: bool) -> None:
    if not report.remarks:
        return
    _heading(console, f"Worth a look ({len(report.remarks)})")
    for finding in report.remarks:
        if verbose:
            _finding(console, finding)
        else:
            places = f" ({finding.evidence[0]})" if finding.evidence else ""
            _indented(console, Text(_plain(f"{finding.says}{places}")))


def _open(report: Report, console: Console, verbose: bool) -> None:
    unshown = report.in_state(State.OPEN)
    if not unshown:
        return
    _heading(console, f"Open ({len(unshown)})")
    if verbose:
        for standing in unshown:
            entry = Text(standing.bullet.id, "yellow").append(f"  {standing.bullet.says}: ", "default")
            _indented(console, entry.append(_plain(report.why_open(standing)), "dim"))
        return
    waits = sum(report.why_open(standing) == "only a run shows it" for standing in unshown)
    rest = len(unshown) - waits
    _indented(console, Text(f"{waits} need a run, {rest} were not shown by reading; -v lists them."))


def _skips(report: Report, console: Console, verbose: bool) -> None:
    skips = report.of(Outcome.SKIP)
    if not skips:
        return
    _heading(console, f"Could not tell ({len(skips)})")
    if not verbose:
        _indented(console, Text("questions without an answer, which count neither way; -v lists them."))
        return
    for finding in skips:
        _finding(console, finding)


def _passes(report: Report, console: Console) -> None:
    passes = report.of(Outcome.PASS)
    _heading(console, f"Holds ({len(passes)})")
    for finding in passes:
        _finding(console, finding)


def _table(report: Report) -> Table:
    """Counts per criterion, headings not counted."""
    table = Table(box=None, padding=(0, 1), header_style="bold", pad_edge=False)
    table.add_column("", justify="right", no_wrap=True, min_width=2)
    table.add_column("criterion")
    for name in ("holds", "broken", "open"):
        table.add_column(name, justify="right", no_wrap=True, min_width=len(name))
    states = {standing.bullet.id: standing.state for standing in report.bullets}
    for criterion in report.contract.criteria:
        here = [states[bullet.id] for bullet in criterion.bullets if bullet.id in states]
        counts = {state: here.count(state) for state in State}
        table.add_row(
            str(criterion.number),
            criterion.title,
            _count(counts[State.HOLDS], "green"),
            _count(counts[State.BROKEN], "red"),
            _count(counts[State.OPEN], "yellow"),
        )
    return table


def _count(count: int, style: str) -> Text:
    return Text(str(count), style if count else "dim")


def _plain(text: str) -> str:
    """What a terminal may be given: control characters of a hostile file do not reach it."""
    return "".join(
        c if c.isprintable() else " " if c in "\t\n\r" else "\N{REPLACEMENT CHARACTER}" for c in text
    )
