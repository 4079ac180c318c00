"""Walking syntax trees, which many checks do over the same nodes.

Trees of a bundle are never changed, so what was gathered once is kept on the nodes.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import TypeVar, overload

from labgate.bundle.kept import kept

N = TypeVar("N", bound=ast.AST)
M = TypeVar("M", bound=ast.AST)
O = TypeVar("O", bound=ast.AST)  # noqa: E741

_LEAVES = frozenset((ast.Constant, ast.Load, ast.Store, ast.Del, ast.Pass, ast.alias))
"""What has nothing below it."""
_MIXED = frozenset((ast.Dict, ast.arguments, ast.Global, ast.Nonlocal, ast.MatchClass))
"""Whose lists hold None or words too; all others hold nodes alone."""

_SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef)
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


def below(nodes: Iterable[ast.AST]) -> list[ast.AST]:
    """The children of all these nodes, in the order of `ast.iter_child_nodes` but several times as fast."""
    found: list[ast.AST] = []
    for node in nodes:
        kind = node.__class__
        if kind in _LEAVES:
            continue
        if kind is ast.Name:  # with the leaves, two nodes of three
            found.append(node.ctx)  # type: ignore[attr-defined]
            continue
        for field in kind._fields:
            value = getattr(node, field, None)
            if value.__class__ is list:
                found += [item for item in value if isinstance(item, ast.AST)] if kind in _MIXED else value
            elif isinstance(value, ast.AST):
                found.append(value)
    return found


def children(node: ast.AST) -> list[ast.AST]:
    """The nodes directly below one."""
    return below((node,))


@kept
def levels(node: ast.AST) -> tuple[list[ast.AST], ...]:
    """`node`, its children, their children and so on, each generation by itself."""
    found = []
    level = [node]
    while level:
        found.append(level)
        level = below(level)
    return tuple(found)


@kept
def walked(node: ast.AST) -> tuple[ast.AST, ...]:
    """Every node at and below `node`, in the order of `ast.walk`."""
    return tuple(chain.from_iterable(levels(node)))


def called(call: ast.Call) -> str:
    """The last word of what is called: `c` of `a.b.c()`; "" when it has none."""
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")


def own(body: Iterable[ast.AST]) -> Iterator[ast.AST]:
    """What stands in a block, less what stands in the functions and classes inside it."""
    level = list(body)
    while level:
        yield from level
        level = below(node for node in level if not isinstance(node, _SCOPES))


@overload
def every(node: ast.AST | None, one: type[N], /) -> tuple[N, ...]: ...
@overload
def every(node: ast.AST | None, one: type[N], other: type[M], /) -> tuple[N | M, ...]: ...
@overload
def every(node: ast.AST | None, one: type[N], other: type[M], third: type[O], /) -> tuple[N | M | O, ...]: ...
@overload
def every(node: ast.AST | None, /, *kinds: type[ast.AST]) -> tuple[ast.AST, ...]: ...
def every(node: ast.AST | None, /, *kinds: type[ast.AST]) -> tuple[ast.AST, ...]:
    """The nodes of these kinds at and below `node`, in the order of `ast.walk`; none without a tree."""
    return _every(node, *kinds) if node is not None else ()


@kept
def _every(node: ast.AST, *kinds: type[ast.AST]) -> tuple[ast.AST, ...]:
    nodes = walked(node)
    at: list[int] = []
    for kind, places in _places(node).items():
        if issubclass(kind, kinds):
            at += places
    return tuple([nodes[place] for place in sorted(at)])


@kept
def parents(tree: ast.AST) -> dict[ast.AST, ast.AST]:
    """What each node below `tree` stands in."""
    return {child: node for node in walked(tree) for child in children(node)}


@kept
def _places(node: ast.AST) -> dict[type[ast.AST], list[int]]:
    """Where in `walked` the nodes of each kind stand."""
    places: dict[type[ast.AST], list[int]] = {}
    for place, one in enumerate(walked(node)):
        kind = one.__class__
        if kind in places:
            places[kind].append(place)
        else:
            places[kind] = [place]
    return places
