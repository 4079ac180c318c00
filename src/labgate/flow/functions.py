"""Functions and classes of the bundle: how they are defined, entered and left."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, Any

from labgate.bundle.kept import kept
from labgate.bundle.syntax import every, own
from labgate.flow.events import Call, Walk
from labgate.flow.exceptions import Exceptions
from labgate.flow.machine import DEPTH, Flowing
from labgate.flow.values import (
    NONE,
    UNKNOWN,
    Class,
    External,
    Function,
    Known,
    Module,
    Scope,
    Seq,
    Text,
    Unknown,
    Value,
    join,
)

if TYPE_CHECKING:
    from labgate.bundle import Bundle


NEXT = Flowing.NEXT

REPEATS = 3
"""Times that a function is followed with arguments of the same look, before its result is taken as known."""
ROUNDS = 60
"""Times that one function is followed from one line of the code on a walk, or twice for each run."""


class Leaving(Value):
    """What a call gives that never comes back: its function always raises."""

    __slots__ = ()


class Functions(Exceptions):
    """Defines and enters functions."""

    def __init__(self, bundle: Bundle, walk: Walk) -> None:
        super().__init__(bundle, walk)
        self.returns: list[Value] = []
        self.results: dict[Any, tuple[int, Value, dict[str, Value]]] = {}
        self.rounds: dict[tuple[int, str, int], int] = {}
        self.most_rounds = ROUNDS

    def composed(self, func: Function, decorator: Call) -> Value:
        """The configuration that Hydra hands to `func`. Its compositions are known to `walker.Walker`."""
        raise NotImplementedError

    def _function(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
        func = Function(node, self.scope, self.defaults(node.args))
        value: Value = func
        wraps: set[str] = set()
        for decorator in reversed(node.decorator_list):
            made = self.evaluate(decorator)
            called = made.call if isinstance(made, External) else None
            path = made.path.removesuffix("()") if isinstance(made, External) else ""
            if path == "hydra.main" and called is not None:
                func.hydra = called
            elif path:
                wraps.add(path.rpartition(".")[2])
            elif isinstance(made, Function):
                with self.perhaps():
                    result = self.call(made, [value], {}, None)
                value = result if isinstance(result, Function) and not _is_wrapper(made, result) else value
        func.wraps = frozenset(wraps)
        self.put(self.scope.names, node.name, value)
        return NEXT

    def _class(self, node: ast.ClassDef) -> int:
        bases: list[Value] = [self.evaluate(base) for base in node.bases]
        cls = Class(node, self.scope, [base if base is not UNKNOWN else External("") for base in bases])
        outer, self.scope = self.scope, Scope(self.scope.module, self.scope)
        try:
            self.block(node.body)
            for name, value in self.scope.names.items():
                if isinstance(value, Function):
                    value.owner = cls
                    value.scope = outer
                cls.attrs[name] = value
        finally:
            self.scope = outer
        for decorator in node.decorator_list:
            made = self.evaluate(decorator)
            if isinstance(made, External) and made.path.removesuffix("()").endswith("dataclass"):
                cls.dataclass = True
        self.put(self.scope.names, node.name, cls)
        return NEXT

    def enter(
        self,
        func: Function,
        args: list[Value],
        kwargs: dict[str, Value],
        node: ast.Call | None,
        spread: bool = False,
    ) -> Value:
        if func.hydra is not None and not args and not kwargs:
            args = [self.composed(func, func.hydra)]
        bound = self.arguments(func, args, kwargs, node, spread)
        key = id(func.node)
        if len(self.stack) >= DEPTH or self.active.get(key, 0) >= 2:
            return UNKNOWN
        again = (key, _fingerprint(bound))
        met = self.results.get(again)
        if met is not None and met[0] >= REPEATS:
            return met[1]
        site = (key, self.path, node.lineno if node is not None else 0)
        self.rounds[site] = self.rounds.get(site, 0) + 1
        if self.rounds[site] > self.most_rounds:
            return UNKNOWN
        self.record_entry(func, bound, node)
        self.entered.add(key)
        inner = Scope(func.scope.module, func.scope)
        inner.names.update(bound)
        if func.owner is not None and func.bound is not None:
            inner.names["<class>"] = func.owner
            inner.names["<self>"] = func.bound
        outer = (self.scope, self.path, self.certain, self.looping)
        doubts, self.doubts = self.doubts, []
        self.stack.append(self.place(node))
        self.active[key] = self.active.get(key, 0) + 1
        self.scope = inner
        self.path = func.scope.module.path
        self.looping = 0
        returns, self.returns = self.returns, []
        try:
            made = self._body(func.node, inner)
            self.results[again] = (met[0] + 1 if met else 1, made, bound)
            return made
        finally:
            self.returns = returns
            self.active[key] -= 1
            self.stack.pop()
            self.scope, self.path, self.certain, self.looping = outer
            self.doubts = doubts

    def _body(self, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda, inner: Scope) -> Value:
        if isinstance(node, ast.Lambda):
            return self.evaluate(node.body)
        if node in self._generators(inner.module):
            inner.names["<yielded>"] = Seq([], "list", True)
        end = self.block(node.body)
        if "<yielded>" in inner.names:
            return inner.names["<yielded>"]
        found = list(self.returns)
        if end & NEXT:
            found.append(NONE)
        return join(found) if found else Leaving()

    def _generators(self, module: Module) -> frozenset[ast.AST]:
        """The functions of a module that yield."""
        source = self.bundle.module(module.name)
        return _yielding(source.tree) if source is not None and source.tree is not None else frozenset()

    def _return(self, node: ast.Return) -> int:
        value = self.evaluate(node.value)
        self.returns.append(value)
        return Flowing.RETURN

    def _global(self, node: ast.Global | ast.Nonlocal) -> int:
        for name in node.names:
            scope = self.scope.outer
            while scope is not None:
                if name in scope.names:
                    self.scope.names[name] = scope.names[name]
                    break
                scope = scope.outer
            else:
                self.scope.names[name] = UNKNOWN
        return NEXT


def _fingerprint(bound: dict[str, Value]) -> tuple[Any, ...]:
    """What the arguments look like: equal for calls that would be followed in the same way."""
    found: list[Any] = []
    for name, value in bound.items():
        if isinstance(value, Known | Text):
            found.append((name, value))
        elif isinstance(value, External):
            found.append((name, value.path))
        elif isinstance(value, Unknown):
            found.append(name)
        else:
            found.append((name, id(value)))
    return tuple(found)


@kept
def _yielding(tree: ast.Module) -> frozenset[ast.AST]:
    if not every(tree, ast.Yield, ast.YieldFrom):
        return frozenset()
    yields = ast.Yield | ast.YieldFrom
    functions = every(tree, ast.FunctionDef, ast.AsyncFunctionDef)
    return frozenset(f for f in functions if any(isinstance(part, yields) for part in own(f.body)))


def _is_wrapper(decorator: Function, made: Function) -> bool:
    """Whether a decorator of the bundle gave back a function of its own around the decorated one."""
    return made.scope is not decorator.scope and made.node is not decorator.node
