"""Facts, then every check, then findings, then the verdict."""

from __future__ import annotations

import time
import traceback
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

from labgate.bundle import Bundle
from labgate.checks import CannotLookError, Check, all_checks
from labgate.contract import Contract
from labgate.facts import COMPOSED, Facts
from labgate.finding import Answer, Evidence, Finding, Impact, Outcome
from labgate.verdict import Verdict, decide

if TYPE_CHECKING:
    from labgate.compose import Child


@dataclass(frozen=True)
class Examination:
    """All that was found. `facts` names the facts that were made and the seconds each took."""

    bundle: Bundle
    contract: Contract
    findings: tuple[Finding, ...]
    verdict: Verdict
    seconds: float
    facts: Mapping[str, float]


def examine(
    bundle: Bundle,
    contract: Contract,
    *,
    as_of: date | None = None,
    resolve: bool = True,
    checks: Iterable[Check] | None = None,
    child: Child | None = None,
) -> Examination:
    """Ask `checks` (all of them by default) about `bundle`, and weigh their answers against `contract`.

    A check whose sub-bullets the contract does not know is not asked. `child`, where given, composes configs,
    and may do so for many bundles one after the other. Nothing that goes wrong in a check gets
    out: it becomes a SKIP when the check cannot look, and an ERROR, of labgate's own, in every other case.
    """
    start = time.perf_counter()
    known = {bullet.id for bullet in contract.bullets()}
    with Facts(bundle, contract, as_of=as_of, resolve=resolve, child=child) as facts:
        if checks is None:
            facts.ahead()
            checks = all_checks()
        asked = [check for check in checks if not check.answers or known & {*check.answers}]
        # while configs are being composed, the checks that need none are asked
        turns = sorted(range(len(asked)), key=lambda turn: not COMPOSED.isdisjoint(asked[turn].needs))
        answers = {turn: _merged(_ask(asked[turn], facts, known)) for turn in turns}
    found = [finding for turn in range(len(asked)) for finding in answers[turn]]
    order = {bullet.id: place for place, bullet in enumerate(contract.bullets())}
    found.sort(key=lambda finding: min((order[id] for id in finding.answers), default=len(order)))
    findings = tuple(found)
    verdict = decide(findings, contract)
    return Examination(bundle, contract, findings, verdict, time.perf_counter() - start, dict(facts.seconds))


def _ask(check: Check, facts: Facts, known: set[str]) -> Iterator[Finding]:
    """The check's answers as findings, in the order of their places; at least one."""
    answers: list[Answer] = []
    try:
        for answer in check.question(**{need: facts[need] for need in check.needs}):
            answers.append(answer)  # one by one: what it said before it broke still counts
        if not answers:
            answers.append(Answer(Outcome.ERROR, f"labgate's own failure: {check.id} said nothing"))
    except CannotLookError as reason:
        answers.append(Answer(Outcome.SKIP, str(reason) or "cannot look"))
    except Exception as error:
        answers.append(_failure(error))
    answers.sort(key=lambda answer: [(e.where, e.line) for e in answer.evidence[:1]])
    for answer in answers:
        yield Finding(
            check=check.id,
            answers=tuple(id for id in check.answers if id in known),
            outcome=answer.outcome,
            basis=check.basis,
            impact=answer.impact or check.impact,
            says=answer.says,
            evidence=answer.evidence,
            do=answer.do,
        )


def _failure(error: Exception) -> Answer:
    """An ERROR that says where in labgate it happened."""
    frames = traceback.extract_tb(error.__traceback__)
    says = f"labgate's own failure: {type(error).__name__}: {error}".rstrip(": ")
    if not frames:
        return Answer(Outcome.ERROR, says)
    last = frames[-1]
    place = Evidence(Path(last.filename).name, last.lineno or 0, last.line or "", f"in {last.name}")
    return Answer(Outcome.ERROR, says, (place,))


def _merged(findings: Iterable[Finding]) -> list[Finding]:
    """One check's findings, those with the same outcome at the same places made one."""
    merged: dict[object, Finding] = {}
    worst = list(Impact)
    for number, finding in enumerate(findings):
        places = tuple((e.where, e.line) for e in finding.evidence)
        key: object = (finding.outcome, finding.weighs, places) if places else number
        first = merged.get(key)
        if first is None:
            merged[key] = finding
            continue
        said = first.says if finding.says in first.says else f"{first.says}; {finding.says}"
        impact = min(first.impact, finding.impact, key=worst.index)
        merged[key] = replace(first, says=said, impact=impact, do=first.do or finding.do)
    return list(merged.values())
