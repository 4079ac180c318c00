"""`python -m labgate.criteria` prints docs/criteria.md, made from the default contract and the docstrings."""

from __future__ import annotations

import re
from collections.abc import Iterator

from labgate.checks import Check, all_checks
from labgate.contract import DEFAULT, Bullet, Contract, Criterion, load
from labgate.explain import answering, settled_by
from labgate.finding import Basis

OPENING = """\
<!-- Made by `make docs` from the contract and the checks; do not edit. -->

# Criteria

What labgate holds an experiment to, and how each line is decided, for the contract `{name}`.
What reading finds broken is broken. To be shown to hold, a line needs evidence on one of the bases under
"settled by"; a basis marked "to come" has no check yet. Lines that are not required are advisory.
"""


def page(contract: Contract) -> str:
    """The page as Markdown."""
    parts = [OPENING.format(name=contract.name), *summary_table(contract), ""]
    for criterion in contract.criteria:
        parts += _criterion(criterion)
    parts += ["## Checks", ""]
    for check in all_checks():
        parts += _check(check)
    return "\n".join(parts)


def summary_table(contract: Contract) -> list[str]:
    """Per criterion, how its lines can be shown to hold; the README has it too."""
    lines = ["| | criterion | lines | shown by reading | only by running | only by a judge |"]
    lines.append("|---:|---|---:|---:|---:|---:|")
    for criterion in contract.criteria:
        plain = [bullet for bullet in criterion.bullets if not bullet.parts]
        read = sum(Basis.READ in bullet.settled_by for bullet in plain)
        judged = sum(bullet.settled_by == (Basis.JUDGED,) for bullet in plain)
        row = (criterion.number, criterion.title, len(plain), read, len(plain) - read - judged, judged)
        lines.append("| " + " | ".join(map(str, row)) + " |")
    return lines


def _criterion(criterion: Criterion) -> Iterator[str]:
    yield f"## {criterion.number}. {criterion.title}"
    yield ""
    yield "| line | says | required | settled by | answered by |"
    yield "|---|---|---|---|---|"
    for bullet in criterion.bullets:
        yield _row(bullet)
    yield ""


def _row(bullet: Bullet) -> str:
    if bullet.parts:
        parts = ", ".join(f"`{part}`" for part in bullet.parts)
        return f"| `{bullet.id}` | {bullet.says} | | its parts | {parts} |"
    required = "yes" if bullet.required else "no"
    return f"| `{bullet.id}` | {bullet.says} | {required} | {settled_by(bullet)} | {_answered(bullet)} |"


def _answered(bullet: Bullet) -> str:
    """The checks, each with its basis; one whose basis does not settle the line can only refute it."""
    told = []
    for check in answering(bullet):
        power = "" if check.basis in bullet.settled_by else ", which can only refute it"
        told.append(f"[{check.id}](#{_anchor(check)}) by {check.basis.words}{power}")
    return "<br>".join(told) or "*not yet*"


def _anchor(check: Check) -> str:
    """As GitHub makes it of the heading."""
    return re.sub(r"[^\w\- ]", "", check.id.lower()).replace(" ", "-")


def _check(check: Check) -> Iterator[str]:
    """Its docstring, whose indented examples are code blocks in Markdown once they stand apart."""
    yield f"### {check.id}"
    yield ""
    answers = ", ".join(f"`{id}`" for id in check.answers) or "no line"
    yield f"Known by {check.basis.words} · a failure {check.impact.words} · answers {answers}"
    yield ""
    yield re.sub(r"\n*^(Bad|Good):\n+", r"\n\n\1:\n\n", check.doc, flags=re.MULTILINE)
    yield ""


if __name__ == "__main__":
    print(page(load(DEFAULT)).rstrip())
