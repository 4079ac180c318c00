"""The state of a walk: what is certain, what could be taken back, what was seen.

Every change to something mutable goes through `put` or `alter`, which remember how it was; so both branches
of a test that cannot be decided are tried from the same state, and joined.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from labgate.bundle.kept import kept
from labgate.flow.events import Event, Fault, Place, Walk
from labgate.flow.values import ABSENT, UNKNOWN, Map, Module, Scope, Seq, Value, join

if TYPE_CHECKING:
    from labgate.bundle import Bundle

ROOT = "/experiment"
"""Where the bundle lies for the code that is followed."""

STEPS = 60_000
"""Expressions and statements that one walk may take."""
DEPTH = 24
"""Calls of the bundle's own functions inside one another."""


@kept
def _place(node: ast.AST, path: str) -> Place:
    if not hasattr(node, "lineno"):
        return Place(path, 0)
    line = node.lineno
    return Place(path, line, getattr(node, "col_offset", 0), getattr(node, "end_lineno", None) or line)


class Flowing:
    """How a block may be left: an int of these bits. (enum.Flag takes a tenth of the time of a walk.)"""

    NEXT = 1
    RETURN = 2
    BREAK = 4
    CONTINUE = 8
    RAISE = 16


class OutOfStepsError(Exception):
    """The walk has become too long; what comes after is unknown."""


class CaughtError(Exception):
    """A certain fault inside a `try` that catches it: the walk goes on in the handler."""

    def __init__(self, fault: Fault, level: int) -> None:
        self.fault = fault
        self.level = level


_GONE: Any = object()


class Machine:
    """State shared by everything that walks."""

    def __init__(self, bundle: Bundle, walk: Walk) -> None:
        self.bundle = bundle
        self.walk = walk
        self.certain = True
        self.steps = 0
        self.stack: list[Place] = []
        self.guards: list[frozenset[str]] = []
        self.trail: list[tuple[str, Any, Any, Any]] | None = None
        self.path = ""
        self.modules: dict[str, Module] = {}
        self.looping = 0
        self.quiet = 0
        self.active: dict[int, int] = {}
        self.entered: set[int] = set()
        self.doubts: list[Value] = []
        """What the undecided tests around a statement were about: what is counted there depends on it."""

    scope: Scope
    argv: Seq

    # What the parts that are built on this ask of one another: each is written where it belongs.

    def evaluate(self, node: ast.expr | None) -> Value:
        """What an expression is worth. See `expressions`."""
        raise NotImplementedError

    def call(
        self,
        func: Value,
        args: list[Value],
        kwargs: dict[str, Value],
        node: ast.Call | None,
        spread: bool = False,
    ) -> Value:
        """Call `func`. See `calls`."""
        raise NotImplementedError

    def iterate(self, value: Value) -> list[Value] | None:
        """The items of a loop over `value`, None when they are not all known. See `iteration`."""
        raise NotImplementedError

    def truth(self, value: Value) -> bool | None:
        """`bool(value)`, None when it cannot be known. See `expressions`."""
        raise NotImplementedError

    def spread(self, made: Map, value: Value) -> None:
        """`**value` into `made`. See `expressions`."""
        raise NotImplementedError

    def step(self) -> None:
        self.steps += 1
        if self.steps > STEPS:
            raise OutOfStepsError

    def place(self, node: ast.AST | None) -> Place:
        return Place(self.path, 0) if node is None else _place(node, self.path)

    def context(self, node: ast.AST | None) -> tuple[Place, bool, bool, tuple[Place, ...]]:
        """The first four fields of any event at `node`."""
        return self.place(node), self.certain, bool(self.guards), tuple(self.stack)

    def emit(self, event: Event) -> None:
        if not self.quiet:
            self.walk.events.append(event)

    def fault(
        self,
        node: ast.AST | None,
        kind: str,
        says: str,
        key: str = "",
        about: tuple[tuple[Place, str], ...] = (),
        stands_at: str = "",
    ) -> None:
        """Record that Python would raise here. Raises CaughtError when the code is sure to catch it."""
        place, certain, _, stack = self.context(node)
        caught = self.catcher(kind)
        self.emit(Fault(place, certain, caught is not None, stack, kind, says, key, about, stands_at))
        if caught is not None and certain and not self.quiet:
            raise CaughtError(self.walk.events[-1], caught)  # type: ignore[arg-type]

    def catcher(self, kind: str) -> int | None:
        """Index of the innermost `try` that catches exceptions of class `kind`."""
        names = (*ANCESTORS.get(kind, ()), kind, "Exception", "BaseException")
        for index in range(len(self.guards) - 1, -1, -1):
            if self.guards[index].intersection(names):
                return index
        return None

    def put(self, mapping: MutableMapping[Any, Any], key: Any, value: Any) -> None:
        """Set `mapping[key]`, remembering how it was."""
        if self.trail is not None:
            self.trail.append(("item", mapping, key, mapping.get(key, _GONE)))
        mapping[key] = value

    def drop(self, mapping: MutableMapping[Any, Any], key: Any) -> None:
        """Delete `mapping[key]`, remembering how it was."""
        if key in mapping:
            if self.trail is not None:
                self.trail.append(("item", mapping, key, mapping[key]))
            del mapping[key]

    def alter(self, seq: Any) -> None:
        """Call before changing the items of a sequence (or the openness of a mapping) in place."""
        if self.trail is not None:
            kept = list(seq.items) if isinstance(seq.items, list) else None
            self.trail.append(("seq", seq, getattr(seq, "open", False), kept))

    def _undo(self, trail: list[tuple[str, Any, Any, Any]]) -> None:
        for what, owner, key, old in reversed(trail):
            if what == "seq":
                if old is not None:
                    owner.items = old
                if hasattr(owner, "open"):
                    owner.open = key
            elif old is _GONE:
                owner.pop(key, None)
            else:
                owner[key] = old

    @contextmanager
    def perhaps(self) -> Iterator[None]:
        """What happens inside may happen or not."""
        certain, self.certain = self.certain, False
        try:
            yield
        finally:
            self.certain = certain

    def fork(self, branches: list[Callable[[], int]], certain: bool = False) -> int:
        """Try each branch from the same state and join what they leave; each only may happen."""
        outer, before = self.trail, self.certain
        ends: list[tuple[int, dict[tuple[int, Any], tuple[Any, Any, Any]], list[Any]]] = []
        for branch in branches:
            self.trail = []
            self.certain = before and certain
            try:
                end = branch()
            except CaughtError:
                end = Flowing.RAISE
            finally:
                trail, self.trail = self.trail, outer
                self.certain = before
            after: dict[tuple[int, Any], tuple[Any, Any, Any]] = {}
            seqs: list[Any] = []
            for what, owner, key, _ in trail:
                if what == "item":
                    after[id(owner), key] = (owner, key, owner.get(key, _GONE))
                else:
                    items = list(owner.items) if isinstance(owner.items, list) else None
                    seqs.append((owner, getattr(owner, "open", False), items))
            self._undo(trail)
            ends.append((end, after, seqs))
        whole = 0
        for end, _, _ in ends:
            whole |= end
        going = [end for end in ends if end[0] & Flowing.NEXT] or [
            end for end in ends if end[0] & ~Flowing.RAISE
        ]
        self._join(going)
        return whole

    def _join(self, ends: list[Any]) -> None:
        touched: dict[tuple[int, Any], tuple[Any, Any]] = {}
        for _, after, _ in ends:
            for ref, (owner, key, _) in after.items():
                touched[ref] = (owner, key)
        for ref, (owner, key) in touched.items():
            now = owner.get(key, _GONE)
            finals = [after[ref][2] if ref in after else now for _, after, _ in ends]
            if all(final is _GONE for final in finals):
                self.drop(owner, key)
            elif all(isinstance(final, Value) or final is _GONE for final in finals):
                self.put(owner, key, join(ABSENT if final is _GONE else final for final in finals))
            else:  # flags of a config node: struct mode may be on or off
                known = [final for final in finals if final is not _GONE]
                self.put(owner, key, known[0] if all(k == known[0] for k in finals) else None)
        for _, _, seqs in ends:
            for owner, opened, items in seqs:
                self.alter(owner)
                if hasattr(owner, "open"):
                    owner.open = opened if len(ends) == 1 else True
                if items is not None:
                    if len(ends) == 1:
                        owner.items = items
                    else:
                        mine = list(owner.items)
                        owner.items = mine + [
                            item for item in items if not any(item is m or item == m for m in mine)
                        ]

    def forget(self, names: set[str], mapping: MutableMapping[str, Value]) -> None:
        """Before the body of a loop: names that it changes may hold something else by then."""
        for name in names:
            if name in mapping:
                value = mapping[name]
                if isinstance(value, Seq):
                    continue
                self.put(mapping, name, join((value, UNKNOWN)))


ANCESTORS: dict[str, tuple[str, ...]] = {
    "ConfigAttributeError": ("AttributeError", "OmegaConfBaseException"),
    "ConfigKeyError": ("KeyError", "LookupError", "OmegaConfBaseException"),
    "ConfigTypeError": ("TypeError", "OmegaConfBaseException"),
    "MissingMandatoryValue": ("OmegaConfBaseException",),
    "InterpolationKeyError": ("OmegaConfBaseException", "ValueError"),
    "ReadonlyConfigError": ("OmegaConfBaseException",),
    "KeyError": ("LookupError",),
    "IndexError": ("LookupError",),
    "ModuleNotFoundError": ("ImportError",),
    "JSONDecodeError": ("ValueError",),
    "FileNotFoundError": ("OSError", "IOError"),
    "UnboundLocalError": ("NameError",),
    "ZeroDivisionError": ("ArithmeticError",),
}
"""Base classes of the exceptions that faults are made of, Exception and BaseException left out."""
