"""Loops over values: comprehensions, what is gone over, and what a target is bound to."""

from __future__ import annotations

import ast
from collections.abc import Callable
from typing import Any

from labgate.flow import config
from labgate.flow.attributes import bind
from labgate.flow.calls import Calls
from labgate.flow.config import ListNode, Node
from labgate.flow.operators import hashable
from labgate.flow.registry import LONGEST
from labgate.flow.values import (
    ABSENT,
    UNKNOWN,
    External,
    Function,
    Instance,
    Known,
    Map,
    OneOf,
    Scope,
    Seq,
    Text,
    Unknown,
    Value,
    join,
    unknown_of,
)


class Iteration(Calls):
    """Goes over values and binds targets."""

    # -- comprehensions

    def _comprehension(self, node: ast.ListComp | ast.SetComp | ast.GeneratorExp) -> Value:
        kind = "set" if isinstance(node, ast.SetComp) else "list"
        made = Seq([], kind)
        outer, self.scope = self.scope, Scope(self.scope.module, self.scope)
        try:
            self._generate(node.generators, 0, lambda: made.items.append(self.evaluate(node.elt)), made)
        finally:
            self.scope = outer
        return made

    def _dict_comprehension(self, node: ast.DictComp) -> Value:
        made = Map()

        def add() -> None:
            key, value = self.evaluate(node.key), self.evaluate(node.value)
            if isinstance(key, Known) and hashable(key.value):
                made.items[key.value] = value
            elif isinstance(key, Text):
                made.items[key] = value
            else:
                made.open = True

        outer, self.scope = self.scope, Scope(self.scope.module, self.scope)
        try:
            self._generate(node.generators, 0, add, made)
        finally:
            self.scope = outer
        if made.open and not made.items:
            made.of = made.of or self._items_of(node)
        return made

    def _items_of(self, node: ast.DictComp) -> Value | None:
        """What `{k: f(v) for k, v in x.items()}` draws its items from, when the keys stay as they are."""
        first = node.generators[0]
        names = first.target.elts if isinstance(first.target, ast.Tuple) else []
        call = first.iter
        if not (
            len(node.generators) == 1
            and isinstance(call, ast.Call)
            and isinstance(call.func, ast.Attribute)
            and call.func.attr == "items"
            and isinstance(node.key, ast.Name)
            and names
            and isinstance(names[0], ast.Name)
            and names[0].id == node.key.id
        ):
            return None
        with self._quietly():
            holder = self.evaluate(call.func.value)
        return holder.of if isinstance(holder, Map) and holder.of is not None else holder

    def _generate(
        self, parts: list[ast.comprehension], index: int, add: Callable[[], None], made: Seq | Map
    ) -> None:
        if index == len(parts):
            add()
            return
        part = parts[index]
        holder = self.evaluate(part.iter)
        items = self.iterate(holder)
        if items is None:
            made.open = True
            if isinstance(made, Seq) and index == 0:
                made.of = holder
                made.excludes = self._kept_out(part)
            items = [self.element(holder)]
        for item in items[:LONGEST]:
            self.bind_target(part.target, item)
            came: bool | None = True
            certain = self.certain
            try:
                for test in part.ifs:
                    truth = self.truth(self.evaluate(test))
                    if truth is False:
                        came = False
                        break
                    if truth is None:
                        came = None
                        self.certain = False
                if came is None:
                    made.open = True
                if came is not False:
                    self._generate(parts, index + 1, add, made)
            finally:
                self.certain = certain

    def _kept_out(self, part: ast.comprehension) -> tuple[Value, ...]:
        """Values that `for x in … if x not in (…)` or `if x != …` leaves out for sure."""
        found: list[Value] = []
        if not isinstance(part.target, ast.Name):
            return ()
        for test in part.ifs:
            if not (
                isinstance(test, ast.Compare)
                and len(test.ops) == 1
                and isinstance(test.left, ast.Name)
                and test.left.id == part.target.id
            ):
                continue
            with self._quietly():
                other = self.evaluate(test.comparators[0])
            if isinstance(test.ops[0], ast.NotEq):
                found.append(other)
            elif isinstance(test.ops[0], ast.NotIn) and isinstance(other, Seq | ListNode):
                found.extend(other.items)
        return tuple(found)

    def _quietly(self) -> Any:
        from contextlib import contextmanager

        @contextmanager
        def quiet() -> Any:
            self.quiet += 1
            try:
                yield
            finally:
                self.quiet -= 1

        return quiet()

    # -- iteration

    def iterate(self, value: Value) -> list[Value] | None:
        """The items of a loop over `value`, None when they are not all known."""
        value = shown(value)
        if isinstance(value, Seq):
            return None if value.open else list(value.items)
        if isinstance(value, ListNode):
            return [config.resolve_quietly(item, value) for item in value.items]
        if isinstance(value, Node):
            return None if value.open else [Known(key) for key in value.items]
        if isinstance(value, Map):
            if value.open or any(
                isinstance(item, OneOf) and ABSENT in item.options for item in value.items.values()
            ):
                return None
            return [key if isinstance(key, Value) else Known(key) for key in value.items]
        if isinstance(value, Known) and isinstance(value.value, str) and len(value.value) <= LONGEST:
            return [Known(letter) for letter in value.value]
        return None

    def element(self, value: Value) -> Value:
        """Some item of a loop over `value`."""
        value = shown(value)
        if isinstance(value, External):
            return External(f"{value.path}[]", value)
        if isinstance(value, Seq):
            if value.of is not None and not value.items:
                return self.element(value.of)
            return join((*value.items, UNKNOWN)) if value.items else UNKNOWN
        if isinstance(value, Map):
            keys = [key if isinstance(key, Value) else Known(key) for key in value.items]
            return join((*keys, UNKNOWN)) if keys else UNKNOWN
        if isinstance(value, OneOf):
            return join(self.element(option) for option in value.options if option is not ABSENT)
        if isinstance(value, Unknown):
            return unknown_of(value)
        if isinstance(value, Instance):
            for name in ("__iter__", "__getitem__"):
                found = value.cls.find(name)
                if isinstance(found, Function):
                    given: list[Value] = [UNKNOWN] if name == "__getitem__" else []
                    made = self.call(bind(found, value), given, {}, None)
                    return self.element(made) if name == "__iter__" else made
        return UNKNOWN

    def bind_target(self, target: ast.expr, value: Value) -> None:
        """Assign `value` to a target. Statements extend it."""
        if isinstance(target, ast.Name):
            self.put(self.scope.names, target.id, value)
        elif isinstance(target, ast.Tuple | ast.List):
            self._unpack(target.elts, value)
        elif isinstance(target, ast.Starred):
            self.bind_target(target.value, value)

    def _unpack(self, targets: list[ast.expr], value: Value) -> None:
        starred = next((i for i, part in enumerate(targets) if isinstance(part, ast.Starred)), None)
        items = self.iterate(value) if isinstance(value, Seq | ListNode) else None
        if isinstance(value, OneOf):
            lists = [self.iterate(o) for o in value.options if isinstance(o, Seq)]
            good = [found for found in lists if found is not None and len(found) == len(targets)]
            if good and starred is None:
                for position, target in enumerate(targets):
                    self.bind_target(target, join(found[position] for found in good))
                return
        if items is not None and starred is None and len(items) == len(targets):
            for target, item in zip(targets, items, strict=True):
                self.bind_target(target, item)
            return
        if items is not None and starred is not None and len(items) >= len(targets) - 1:
            tail = len(targets) - starred - 1
            for target, item in zip(targets[:starred], items, strict=False):
                self.bind_target(target, item)
            self.bind_target(targets[starred], Seq(items[starred : len(items) - tail]))
            for target, item in zip(targets[starred + 1 :], items[len(items) - tail :], strict=False):
                self.bind_target(target, item)
            return
        if items is not None and starred is None and isinstance(value, Seq):
            few = "too many" if len(items) > len(targets) else "not enough"
            says = f"{few} values to unpack (expected {len(targets)}, got {len(items)})"
            self.fault(targets[0], "ValueError", says)
        for target in targets:
            inner: Value = UNKNOWN
            if isinstance(value, External):
                inner = External(f"{value.path}[]", value)
            elif isinstance(value, Unknown):
                inner = unknown_of(value)
            elif isinstance(value, OneOf):
                inner = join(self.element(o) for o in value.options if isinstance(o, External | Unknown))
            self.bind_target(target, inner)


PROGRESS = frozenset(
    f"{name}()" for name in ("tqdm.tqdm", "tqdm.auto.tqdm", "tqdm.notebook.tqdm", "rich.progress.track")
)


def shown(value: Value) -> Value:
    """What a progress bar goes over; any other value is itself."""
    while isinstance(value, External) and value.path in PROGRESS and value.call is not None:
        inner = value.call.argument(0, "iterable", "sequence")
        if inner is None:
            break
        value = inner
    return value
