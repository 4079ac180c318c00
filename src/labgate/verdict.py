"""Ready, not ready or undecided: one pure function over findings and contract."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from labgate.contract import Bullet, Contract
from labgate.finding import Finding, Outcome


class Decision(StrEnum):
    READY = "ready"
    NOT_READY = "not ready"
    UNDECIDED = "undecided"

    @property
    def exit_code(self) -> int:
        return {Decision.READY: 0, Decision.NOT_READY: 1, Decision.UNDECIDED: 3}[self]


class State(StrEnum):
    """Where one sub-bullet stands."""

    HOLDS = "holds"
    BROKEN = "broken"
    OPEN = "open"
    """Required, and not shown to hold."""
    NOT_JUDGED = "not judged"
    """Advisory: only a reviewer could settle it, and none was asked."""


@dataclass(frozen=True)
class Standing:
    """A sub-bullet, where it stands and the findings that speak to it."""

    bullet: Bullet
    state: State
    findings: tuple[Finding, ...]


@dataclass(frozen=True)
class Verdict:
    decision: Decision
    standings: tuple[Standing, ...]
    failures: tuple[Finding, ...]
    open: tuple[Standing, ...]


def decide(findings: Sequence[Finding], contract: Contract) -> Verdict:
    """Weigh `findings` against every required sub-bullet of `contract`.

    One failure above `remarks` gives *not ready*, whether or not it belongs to a sub-bullet. *Ready* needs
    every required sub-bullet shown to hold. All else is *undecided*.
    """
    bullets = tuple(contract.bullets())
    plain = {bullet.id: _standing(bullet, findings) for bullet in bullets if not bullet.parts}
    standings = tuple(plain.get(bullet.id) or _heading(bullet, plain) for bullet in bullets)
    failures = tuple(finding for finding in findings if finding.weighs)
    unshown = tuple(s for s in standings if s.bullet.required and s.state is State.OPEN)
    broke = any(finding.outcome is Outcome.ERROR for finding in findings)
    if failures:
        decision = Decision.NOT_READY
    elif unshown or broke:
        decision = Decision.UNDECIDED
    else:
        decision = Decision.READY
    return Verdict(decision, standings, failures, unshown)


def _standing(bullet: Bullet, findings: Iterable[Finding]) -> Standing:
    about = tuple(finding for finding in findings if bullet.id in finding.answers)
    if any(finding.weighs for finding in about):
        return Standing(bullet, State.BROKEN, about)
    for basis in bullet.settled_by:
        heard = [finding.outcome for finding in about if finding.basis is basis]
        if Outcome.PASS in heard and Outcome.SKIP not in heard and Outcome.ERROR not in heard:
            return Standing(bullet, State.HOLDS, about)
    return Standing(bullet, State.OPEN if bullet.required else State.NOT_JUDGED, about)


def _heading(bullet: Bullet, plain: dict[str, Standing]) -> Standing:
    parts = [plain[part] for part in bullet.parts]
    about = tuple(dict.fromkeys(finding for part in parts for finding in part.findings))
    states = {part.state for part in parts}
    for state in (State.BROKEN, State.OPEN, State.NOT_JUDGED):
        if state in states:
            return Standing(bullet, state, about)
    return Standing(bullet, State.HOLDS, about)
