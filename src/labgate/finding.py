"""What a check says: plain data, imports nothing of labgate.

A *finding* is the answer of one check to one question. It carries *evidence*: places that a person can open,
the words that stand there and half a sentence on why they matter. A finding that passes carries evidence too.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Outcome(StrEnum):
    """What came of a check: SKIP means that it could not tell, ERROR that labgate itself failed."""

    PASS = "pass"
    FAIL = "fail"
    SKIP = "skip"
    ERROR = "error"


class Basis(StrEnum):
    """How a finding is known: by reading the files, by running them, or by a reviewer's judgement."""

    READ = "read"
    RAN = "ran"
    JUDGED = "judged"

    @property
    def words(self) -> str:
        """What one does to know it."""
        return {"read": "reading", "ran": "running", "judged": "a reviewer's judgement"}[self]


class Impact(StrEnum):
    """What a failure costs, the worst first."""

    BLOCKS = "blocks"
    """It would crash or hang."""
    BREACHES = "breaches"
    """It breaks the contract."""
    MISLEADS = "misleads"
    """It runs and the science is wrong."""
    REMARKS = "remarks"
    """Worth a look; never decides a verdict."""

    @property
    def words(self) -> str:
        """What a failure of this kind does."""
        return {
            "blocks": "would crash or hang",
            "breaches": "breaks the contract",
            "misleads": "runs, and the science is wrong",
            "remarks": "is worth a look",
        }[self]


@dataclass(frozen=True, order=True)
class Evidence:
    """A place and what stands there.

    `where` is a path inside the bundle (or the name of another source, such as `uv`), `line` is 1-based and 0
    when the whole file is meant, `shows` is quoted verbatim, `label` says what the place has to do with it.
    """

    where: str
    line: int = 0
    shows: str = ""
    label: str = ""

    def __str__(self) -> str:
        return f"{self.where}:{self.line}" if self.line else self.where


@dataclass(frozen=True)
class Answer:
    """What a check yields; `examine` adds to it which check spoke, and on what basis."""

    outcome: Outcome
    says: str
    evidence: tuple[Evidence, ...] = ()
    do: str = ""
    impact: Impact | None = None


@dataclass(frozen=True)
class Finding:
    """One check's answer. `answers` holds the ids of the contract's sub-bullets that it speaks to."""

    check: str
    answers: tuple[str, ...]
    outcome: Outcome
    basis: Basis
    impact: Impact
    says: str
    evidence: tuple[Evidence, ...] = ()
    do: str = ""

    @property
    def weighs(self) -> bool:
        """Whether this finding alone keeps an experiment from being ready."""
        return self.outcome is Outcome.FAIL and self.impact is not Impact.REMARKS


def passed(says: str, *evidence: Evidence) -> Answer:
    """The good state holds; `evidence` shows where."""
    return Answer(Outcome.PASS, says, evidence)


def failed(says: str, *evidence: Evidence, do: str = "", impact: Impact | None = None) -> Answer:
    """The good state does not hold. `do` tells what would mend it; `impact` overrides the check's own."""
    return Answer(Outcome.FAIL, says, evidence, do, impact)


def remarked(says: str, *evidence: Evidence, do: str = "") -> Answer:
    """Worth a look, and never a reason to refuse."""
    return Answer(Outcome.FAIL, says, evidence, do, Impact.REMARKS)


def cannot_tell(says: str, *evidence: Evidence) -> Answer:
    """The code is too dynamic, or something is missing on our side: no answer, and never a failure."""
    return Answer(Outcome.SKIP, says, evidence)
