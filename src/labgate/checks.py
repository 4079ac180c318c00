"""A check: a function that puts one question to facts and answers in findings.

The names of its parameters say which facts it needs (`bundle`, `contract`, `flow`, …); those facts decide
the basis of what it says. Its docstring is its documentation: a sentence that names the good state, why the
bad one costs, then a `Bad:` and a `Good:` example.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

from labgate.finding import Answer, Basis, Impact

READ = ("bundle", "contract", "compositions", "flow", "packages")
"""Facts that come of reading."""
RAN = ("rehearsal",)
JUDGED = ("reviewer",)

Answers = Iterator[Answer]


class CannotLookError(Exception):
    """Raised by a check that lacks what it needs; becomes a SKIP with this reason."""


@dataclass(frozen=True)
class Check:
    """One question. `id` is `family/name-of-the-good-state`, `answers` the sub-bullets it speaks to."""

    id: str
    question: Callable[..., Answers]
    answers: tuple[str, ...]
    impact: Impact
    needs: tuple[str, ...]
    basis: Basis

    @property
    def doc(self) -> str:
        return inspect.getdoc(self.question) or ""

    @property
    def title(self) -> str:
        return self.doc.partition("\n")[0]


_found: dict[str, Check] = {}


def check(
    *answers: str, impact: Impact = Impact.BREACHES
) -> Callable[[Callable[..., Answers]], Callable[..., Answers]]:
    """Register a question. `answers` are ids of sub-bullets, `impact` what its failures cost unless they say.

    Raises TypeError at import when a parameter names no known fact.
    """

    def register(question: Callable[..., Answers]) -> Callable[..., Answers]:
        needs = tuple(inspect.signature(question).parameters)
        unknown = [name for name in needs if name not in READ + RAN + JUDGED]
        if unknown:
            raise TypeError(f"{question.__qualname__} asks for unknown facts: {', '.join(unknown)}")
        basis = Basis.READ
        if any(name in RAN for name in needs):
            basis = Basis.RAN
        if any(name in JUDGED for name in needs):
            basis = Basis.JUDGED
        family = question.__module__.rpartition(".")[2]
        name = f"{family}/{question.__name__.replace('_', '-')}"
        _found[name] = Check(name, question, answers, impact, needs, basis)
        return question

    return register


@cache
def all_checks() -> tuple[Check, ...]:
    """Every check of `labgate.criteria`, in the order of their files and of their lines."""
    package: Any = importlib.import_module("labgate.criteria")
    for module in sorted(pkgutil.iter_modules(package.__path__), key=lambda m: m.name):
        if not module.name.startswith("_"):
            importlib.import_module(f"labgate.criteria.{module.name}")
    # by place, since tests import modules in any order
    return tuple(sorted(_found.values(), key=lambda c: (c.question.__module__, _line(c.question))))


def _line(question: Callable[..., Answers]) -> int:
    return int(inspect.unwrap(question).__code__.co_firstlineno)
