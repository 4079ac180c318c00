"""The facts that checks ask for by name, each made on first use, once.

Whatever stands behind a fact is imported only when a check wants it: `labgate explain` never loads the flow.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from datetime import date
from typing import TYPE_CHECKING, Any

from labgate.bundle import Bundle
from labgate.contract import Contract

if TYPE_CHECKING:
    from labgate.compose import Child

COMPOSED = frozenset(("compositions", "flow"))
"""Facts for which configs have to be composed."""


@dataclass
class Facts:
    """A context manager: on leaving it, what the facts hold open (a child that composes configs) is closed.

    `as_of` is the day whose package index decides, `resolve` whether packages may be resolved at all.
    `child` composes configs; without it the facts start one of their own. `seconds` tells what each fact took
    to make.
    """

    bundle: Bundle
    contract: Contract
    as_of: date | None = None
    resolve: bool = True
    child: Child | None = None
    seconds: dict[str, float] = field(default_factory=dict)
    open: ExitStack = field(default_factory=ExitStack)
    _made: dict[str, Any] = field(default_factory=dict)
    _failed: dict[str, Exception] = field(default_factory=dict)

    def __enter__(self) -> Facts:
        return self

    def __exit__(self, *_: object) -> None:
        self.open.close()

    def ahead(self) -> None:
        """Begin with what others than this process work at."""
        with suppress(Exception):  # it is raised again where a check asks for it
            self["compositions"]

    def __getitem__(self, name: str) -> Any:
        """The fact of that name. Raises what making it raised, the first time and every time after."""
        if name in ("bundle", "contract"):
            return getattr(self, name)
        if name in self._failed:
            raise self._failed[name]
        if name not in self._made:
            start = time.perf_counter()
            try:
                self._made[name] = _MAKERS[name](self)
            except Exception as error:
                self._failed[name] = error
                raise
            finally:
                self.seconds[name] = time.perf_counter() - start
        return self._made[name]


def _compositions(facts: Facts) -> object:
    from labgate.compose import Compositions

    compositions = facts.open.enter_context(Compositions(facts.bundle, facts.contract, facts.child))
    compositions.ahead()
    return compositions


def _flow(facts: Facts) -> object:
    from labgate.flow import Flow

    return Flow(facts.bundle, facts.contract, facts["compositions"])


def _packages(facts: Facts) -> object:
    from labgate import packages

    return packages.read(facts.bundle, as_of=facts.as_of, resolve=facts.resolve)


_MAKERS: dict[str, Callable[[Facts], object]] = {
    "compositions": _compositions,
    "flow": _flow,
    "packages": _packages,
}
