"""An experiment of ours with a dozen real defects in it, and where they stand (`expected.toml`)."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from importlib import resources
from pathlib import Path

from labgate.bundle import Bundle, read
from labgate.finding import Finding

AS_OF = date(2025, 11, 6)
"""Packages are resolved as of the day of the contract, so that the demo does not change with the index."""


@dataclass(frozen=True)
class Defect:
    """One thing that is wrong: at `line` (1-based, 0 for the whole file) of `file`, against `criterion`."""

    id: str
    file: str
    line: int
    criterion: str
    impact: str
    says: str

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        return f"{self.id} at {place} ({self.criterion}, {self.impact}): {self.says}"

    def is_found_by(self, finding: Finding) -> bool:
        """Whether a failure speaks to the same criterion and shows this place."""
        criteria = {id.partition(".")[0] for id in finding.answers}
        shown = any(e.where == self.file and (e.line == self.line or not self.line) for e in finding.evidence)
        return finding.weighs and self.criterion in criteria and shown


def folder() -> Path:
    """Where the demo's files lie."""
    return Path(str(resources.files("labgate.demo")))


def bundle() -> Bundle:
    """The demo's experiment."""
    return read(folder() / "experiment")


def expected() -> tuple[Defect, ...]:
    """The defects that were put there."""
    data = tomllib.loads((folder() / "expected.toml").read_text(encoding="utf-8"))
    return tuple(Defect(**entry) for entry in data["defect"])


def missed(findings: Iterable[Finding]) -> tuple[Defect, ...]:
    """Those of the expected defects that no finding shows."""
    found = tuple(findings)
    return tuple(defect for defect in expected() if not any(defect.is_found_by(one) for one in found))
