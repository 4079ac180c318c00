"""What the code does on one walk, in order: facts that checks ask questions of.

An event is *certain* when every run of that command that does not stop before reaches it, else it only may
happen. It is *guarded* when an exception raised there would be caught by the code itself.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NamedTuple

from labgate.finding import Evidence
from labgate.flow.values import UNKNOWN, Value


class Place(NamedTuple):
    """A spot in a file of the bundle; lines are 1-based."""

    path: str
    line: int
    column: int = 0
    end_line: int = 0


@dataclass(slots=True, eq=False)
class Event:
    """Something that the code does at `place`; `stack` are the calls that led there, the outermost first."""

    place: Place
    certain: bool
    guarded: bool
    stack: tuple[Place, ...]


class How(StrEnum):
    """The ways to touch a configuration or an outside mapping."""

    ATTRIBUTE = "attribute"
    ITEM = "item"
    GET = "get"
    IN = "in"
    HASATTR = "hasattr"
    SELECT = "select"
    LOOP = "loop"
    WHOLE = "whole"


@dataclass(slots=True, eq=False)
class ConfigRead(Event):
    """The configuration was asked for dotted `key`; `present` is None when it depends on an unknown test."""

    key: str
    how: How
    present: bool | None
    value: Value
    default: Value | None = None


@dataclass(slots=True, eq=False)
class ConfigWrite(Event):
    """Dotted `key` was set; `new` when it was not there before, `struct` when struct mode held."""

    key: str
    value: Value
    new: bool
    struct: bool


@dataclass(slots=True, eq=False)
class Fault(Event):
    """Here Python would raise `kind`; the walk goes on as if it had been mended.

    `about` are other places that have a part in it, as (place, label).
    """

    kind: str
    says: str
    key: str = ""
    about: tuple[tuple[Place, str], ...] = ()
    stands_at: str = ""
    """For a missing config key: the dotted key under which it stands instead."""


@dataclass(slots=True, eq=False)
class Call(Event):
    """A call of something outside the bundle, `path` as in External, without the closing `()`."""

    path: str
    args: tuple[Value, ...]
    kwargs: dict[str, Value]
    node: ast.Call | None
    spread: bool = False
    """Whether `*args` or `**kwargs` of unknown length were handed in."""
    gave: list[Value] = field(default_factory=list)
    """What functions of the bundle that were handed in gave back (an objective, a `map` function), and what a
    metric was given to compute from."""
    of: Value | None = None
    """The outside object whose method is called."""

    def argument(self, position: int | None, *names: str) -> Value | None:
        """The argument at `position` (None: keyword only) or of one of `names`."""
        for name in names:
            if name in self.kwargs:
                return self.kwargs[name]
        if position is not None and position < len(self.args):
            return self.args[position]
        return None


@dataclass(slots=True, eq=False)
class Use(Event):
    """A name from outside was imported or an attribute of it read: `path` must exist."""

    path: str
    imported: bool = False


@dataclass(slots=True, eq=False)
class Ask(Event):
    """An outside value was asked for `key` (`history["loss"]`, `summary.get(...)`, `"loss" in columns`)."""

    of: Value
    path: str
    key: Value
    how: How
    value: Value


@dataclass(slots=True, eq=False)
class Put(Event):
    """`key` of an outside value was set: `wandb.summary["best"] = ...`, `frame["x"] = ...`, `obj.a = ...`."""

    of: Value
    path: str
    key: Value
    value: Value
    attribute: bool = False


@dataclass(slots=True, eq=False)
class Entered(Event):
    """A function of the bundle was called."""

    name: str
    module: str
    args: dict[str, Value]


@dataclass(slots=True, eq=False)
class Started(Event):
    """A process of the bundle began: `module` with `argv`."""

    module: str
    argv: tuple[str, ...]


@dataclass(slots=True, eq=False)
class Test(Event):
    """A condition and what it came to: True, False or None when it could not be decided."""

    node: ast.expr
    came: bool | None
    value: Value = UNKNOWN


@dataclass
class Walk:
    """One command followed through the code."""

    run_id: str
    mode: str
    module: str
    argv: tuple[str, ...]
    events: list[Event] = field(default_factory=list)
    truncated: str = ""
    mended: str = ""
    """How the configuration was put together when it does not compose; empty when it does."""
    _sorted: dict[tuple[type[Event], ...], tuple[int, tuple[Event, ...]]] = field(default_factory=dict)

    def of(self, *kinds: type[Event]) -> Iterator[Any]:
        """The events of these kinds, in order."""
        count, found = self._sorted.get(kinds, (-1, ()))
        if count != len(self.events):
            found = tuple([event for event in self.events if event.__class__ in kinds])
            self._sorted[kinds] = (len(self.events), found)
        return iter(found)

    @property
    def name(self) -> str:
        if self.module.endswith("evaluate"):
            return "evaluate"
        return f"{self.run_id}, mode {self.mode}" if self.run_id else self.module


def evidence(bundle: Any, place: Place, label: str = "") -> Evidence:
    """`place` quoted from the bundle."""
    found: Evidence = bundle.place(place.path, place.line, label)
    return found
