"""The fact `flow`: every command of the contract followed, and what was seen on the way."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, TypeVar

from labgate.bundle import Bundle
from labgate.compose import Compositions
from labgate.contract import Contract, Mode
from labgate.flow import models
from labgate.flow.events import Event, Place, Walk
from labgate.flow.machine import CaughtError, OutOfStepsError
from labgate.flow.values import Known
from labgate.flow.walker import Walker

E = TypeVar("E", bound=Event)

RESULTS = "results"
"""What the commands are given as `results_dir`."""


@dataclass(frozen=True)
class Sighting:
    """The same event on one or more walks; `certain` when it is on every walk named in `walks`."""

    event: Any
    walks: tuple[Walk, ...]

    @property
    def certain(self) -> bool:
        return bool(self.event.certain)

    @property
    def place(self) -> Place:
        place: Place = self.event.place
        return place

    @property
    def where(self) -> str:
        """On which runs and modes, for a person."""
        names = list(dict.fromkeys(walk.name for walk in self.walks))
        return "; ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")


class Flow:
    """Walks of the bundle's code. Lazy: following begins when a walk is first asked for."""

    def __init__(self, bundle: Bundle, contract: Contract, compositions: Compositions | None = None) -> None:
        self.bundle = compositions.bundle if compositions is not None else bundle
        self.contract = contract
        self.compositions = compositions
        assert models

    @cached_property
    def walks(self) -> tuple[Walk, ...]:
        """Training, per run and mode; then evaluation."""
        return (*self.training, *self.evaluation)

    @cached_property
    def training(self) -> tuple[Walk, ...]:
        """One walk for each run and mode of the contract."""
        run_ids: Iterable[str] = self.compositions.run_ids if self.compositions is not None else ()
        return tuple(self._train(run_id, mode) for run_id in run_ids or [""] for mode in self.contract.modes)

    @cached_property
    def evaluation(self) -> tuple[Walk, ...]:
        """The walk of the evaluation command over all runs; none when there is no such file."""
        if self.bundle.module(self.contract.evaluate_module) is None:
            return ()
        run_ids = self.compositions.run_ids if self.compositions is not None else ()
        argv = self.contract.evaluate_argv(run_ids or ("run-1", "run-2"), RESULTS)
        walk = Walk("", "", self.contract.evaluate_module, tuple(argv))
        self._follow(walk, [self.contract.evaluate_module])
        return (walk,)

    def _train(self, run_id: str, mode: Mode) -> Walk:
        argv = self.contract.train_argv(run_id or "run-1", mode, RESULTS)
        walk = Walk(run_id, mode.name, self.contract.main_module, tuple(argv))
        self._follow(walk, [self.contract.main_module, self.contract.train_module])
        return walk

    def _follow(self, walk: Walk, modules: list[str]) -> None:
        walker = Walker(self.bundle, walk, self.compositions)
        words: list[Any] = [Known(word) for word in walk.argv]
        for index, module in enumerate(modules):
            if self.bundle.module(module) is None or module in walker.loaded:
                continue
            certain = index == 0 or self.bundle.module(modules[0]) is None
            walker.certain = certain
            _to_the_end(walker, partial(walker.start, module, list(words)))
        _to_the_end(walker, walker.unreached)

    def sightings(
        self,
        kind: type[E],
        key: Callable[[E], Hashable],
        walks: Iterable[Walk] | None = None,
    ) -> Iterator[Sighting]:
        """Events of one kind that are the same by `key`, place and certainty, merged over walks.

        A certain event is given once, with the walks on which it is certain; one that is certain nowhere once
        with the walks on which it may be.
        """
        met: dict[Hashable, tuple[list[tuple[E, Walk]], list[tuple[E, Walk]]]] = {}
        for walk in self.walks if walks is None else walks:
            for event in walk.of(kind):
                name = (event.place.path, event.place.line, event.place.column, key(event))
                sure, maybe = met.setdefault(name, ([], []))
                (sure if event.certain else maybe).append((event, walk))
        for sure, maybe in met.values():
            found = sure or maybe
            yield Sighting(found[0][0], tuple({id(walk): walk for _, walk in found}.values()))


def _to_the_end(walker: Walker, follow: Callable[[], None]) -> None:
    """Follow until the code ends, or the walk has become too long; that is noted, not hidden."""
    try:
        follow()
    except CaughtError:
        pass
    except OutOfStepsError:
        walker.walk.truncated = "the code was too long to be followed to its end"
    except RecursionError:
        walker.walk.truncated = "the code was nested too deeply to be followed"
