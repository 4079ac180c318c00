"""Which variables hold one and the same dict, or one with the same keys: handed in, handed back, assigned."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Any

from labgate.bundle import Source
from labgate.bundle.kept import kept
from labgate.bundle.syntax import children, every

_Function = ast.FunctionDef | ast.AsyncFunctionDef

Variable = tuple[str, str, str]
"""A name in a function of a file: (path, function, name)."""


class Names:
    """Which variables are one and the same dict: handed in, handed back, assigned."""

    def __init__(self) -> None:
        self.parent: dict[Variable, Variable] = {}

    def find(self, one: Variable) -> Variable:
        while (up := self.parent.get(one, one)) != one:
            one = up
        return one

    def same(self, one: Variable, other: Variable) -> None:
        self.parent[self.find(one)] = self.find(other)


def named_functions(source: Source) -> Iterator[tuple[str, ast.AST]]:
    """Functions of a source by name, and the module itself as ""."""
    assert source.tree is not None
    yield "", source.tree
    for node in every(source.tree, ast.FunctionDef, ast.AsyncFunctionDef):
        yield node.name, node


@kept
def own(tree: ast.AST) -> tuple[ast.AST, ...]:
    """The nodes of a function or module, less those of the functions inside it."""
    nodes: list[ast.AST] = []
    pending = children(tree)
    while pending:
        node = pending.pop()
        nodes.append(node)
        if not isinstance(node, _Function | ast.ClassDef):
            pending.extend(children(node))
    return tuple(nodes)


@kept
def own_statements(tree: ast.AST) -> tuple[ast.AST, ...]:
    """Those of `own` by which values come to variables: assignments, calls and returns."""
    kinds = ast.Assign | ast.AnnAssign | ast.Call | ast.Return
    return tuple([node for node in own(tree) if isinstance(node, kinds)])


def keeps_keys(node: ast.DictComp) -> bool:
    """`{k: f(v) for k, v in other.items()}` keeps the keys of another dict."""
    part = node.generators[0]
    return (
        isinstance(part.iter, ast.Call)
        and isinstance(part.iter.func, ast.Attribute)
        and part.iter.func.attr == "items"
        and isinstance(part.target, ast.Tuple)
        and isinstance(node.key, ast.Name)
        and isinstance(part.target.elts[0], ast.Name)
        and part.target.elts[0].id == node.key.id
    )


def variable(source: Source, function: str, node: ast.AST | None) -> Variable | None:
    """The variable that a name or `self.name` is in `function`; the module's where that binds none."""
    if isinstance(node, ast.Name):
        local = any(node.id in bound for bound in _bound(source).get(function, ()))
        return source.path, function if local else "", node.id
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "self":
        return source.path, "self", node.attr
    return None


@kept
def _bound(source: Source) -> dict[str, list[frozenset[str]]]:
    """Names that each function binds, by the function's name."""
    bound: dict[str, list[frozenset[str]]] = {}
    for name, tree in named_functions(source):
        names = {node.arg for node in every(getattr(tree, "args", None), ast.arg)}
        names |= {
            node.id for node in own(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
        }
        bound.setdefault(name, []).append(frozenset(names))
    return bound


def aliases(trees: list[Source]) -> Names:
    """Which variables are bound to the same dict, or to one with the same keys."""
    same = Names()
    defined: dict[str, list[tuple[Source, _Function]]] = {}
    for source in trees:
        for _, node in named_functions(source):
            if isinstance(node, _Function):
                defined.setdefault(node.name, []).append((source, node))
    for source in trees:
        for name, function in named_functions(source):
            for node in own_statements(function):
                _join(same, source, name, node, defined)
    return same


def _join(
    same: Names,
    source: Source,
    function: str,
    node: ast.AST,
    defined: dict[str, list[tuple[Source, _Function]]],
) -> None:
    if isinstance(node, ast.Assign | ast.AnnAssign):
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        for target in targets:
            one = variable(source, function, target)
            if one is not None and node.value is not None:
                for other in _came_from(source, function, node.value, defined):
                    same.same(one, other)
    if isinstance(node, ast.Return) and node.value is not None:
        for other in _came_from(source, function, node.value, defined):
            same.same((source.path, function, "return"), other)
    if isinstance(node, ast.Call):
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        for other_source, called in defined.get(name, ()):
            parameters = [argument.arg for argument in (*called.args.posonlyargs, *called.args.args)]
            if parameters[:1] == ["self"]:
                parameters = parameters[1:]
            given: list[tuple[str, Any]] = list(zip(parameters, node.args, strict=False))
            given += [(keyword.arg or "", keyword.value) for keyword in node.keywords]
            for parameter, argument in given:
                for other in _came_from(source, function, argument, defined) if parameter else ():
                    same.same(other, (other_source.path, called.name, parameter))


def _came_from(
    source: Source, function: str, node: ast.expr, defined: dict[str, list[tuple[Source, _Function]]]
) -> Iterator[Variable]:
    """The variables that an expression hands on, or whose keys it keeps."""
    itself = variable(source, function, node)
    if itself is not None:
        yield itself
    elif isinstance(node, ast.DictComp) and keeps_keys(node):
        call = node.generators[0].iter
        assert isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute)
        holder = variable(source, function, call.func.value)
        if holder is not None:
            yield holder
    elif isinstance(node, ast.Call):
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        for other_source, called in defined.get(name, ()):
            yield other_source.path, called.name, "return"
        if name in ("dict", "copy", "deepcopy") and node.args:
            yield from _came_from(source, function, node.args[0], defined)
