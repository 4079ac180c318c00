"""Which parameters an optimizer holds, by their names."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass

from labgate.bundle import Bundle, Source
from labgate.bundle.syntax import walked
from labgate.criteria._names import Loop, UnsureError, constants, loops, rounds
from labgate.criteria._samples import reached
from labgate.criteria._training_code import around, defined, functions
from labgate.finding import Evidence
from labgate.flow import Flow
from labgate.flow.events import Call, evidence


@dataclass(frozen=True)
class Group:
    """Part of what an optimizer was made with: a loop over named parameters and where it stands."""

    source: Source
    loop: Loop


@dataclass(frozen=True)
class Held:
    """What an optimizer holds: everything, or what some loops let through."""

    places: tuple[Evidence, ...]
    groups: tuple[Group, ...]
    all: bool

    def holds(self, names: tuple[str, ...]) -> set[str]:
        """Those of `names`. Raises UnsureError."""
        if self.all:
            return set(names)
        found: set[str] = set()
        for group in self.groups:
            assert group.source.tree is not None
            known = {**constants(group.source.tree), **_constantsaround(group)}
            found |= {name for name, kept in _each(group.loop, names, known) if kept}
        return found


def _constantsaround(group: Group) -> dict[str, object]:
    for function in functions(group.source):
        if any(inner is group.loop.inside for inner in walked(function)):
            return constants(function)
    return {}


def _each(loop: Loop, names: tuple[str, ...], known: dict[str, object]) -> Iterator[tuple[str, bool]]:
    """Whether each name is let through: kept by a comprehension, or appended. Raises UnsureError."""
    for name, met in rounds(loop, names, known):
        if isinstance(loop.node, ast.For):
            met = [one for one in met if any(map(_adds, one.nodes))]
        if met and not any(one.sure for one in met):
            raise UnsureError("what the optimizer's groups let through")
        yield name, bool(met)


def _adds(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in ("append", "add", "extend")
    )


def optimizers(bundle: Bundle, flow: Flow) -> list[Held] | None:
    """What each optimizer holds; None when one of them cannot be followed."""
    found: dict[tuple[str, int], Held] = {}
    for walk in flow.training:
        for call in walk.of(Call):
            name = call.path.rpartition(".")[2]
            spot = (call.place.path, call.place.line)
            if "optim" not in call.path or not name[:1].isupper() or "(" in call.path or call.node is None:
                continue
            if "scheduler" in call.path or spot in found or not reached(call):
                continue
            source = bundle.sources.get(call.place.path)
            given = call.node.args[0] if call.node.args else _keyword(call.node, "params")
            if source is None or given is None:
                return None
            function = around(source, call.node)
            held = _followed(bundle, source, function, given, 4)
            if held is None:
                return None
            place = evidence(bundle, call.place, "the optimizer")
            found[spot] = Held((place,), tuple(held[0]), held[1])
    return list(found.values())


def _keyword(call: ast.Call, name: str) -> ast.expr | None:
    return next((keyword.value for keyword in call.keywords if keyword.arg == name), None)


def _followed(
    bundle: Bundle, source: Source, scope: ast.AST, node: ast.expr, depth: int
) -> tuple[list[Group], bool] | None:
    """The loops by which an optimizer's argument was put together, and whether it takes all there is."""
    if depth <= 0:
        return None
    if isinstance(node, ast.Name):
        made = [
            part.value
            for part in walked(scope)
            if isinstance(part, ast.Assign)
            and any(isinstance(target, ast.Name) and target.id == node.id for target in part.targets)
        ]
        return _followed(bundle, source, scope, made[0], depth - 1) if len(made) == 1 else None
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "parameters":
        return [], True
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        if node.func.id in ("list", "tuple") and node.args:
            return _followed(bundle, source, scope, node.args[0], depth - 1)
        if node.func.id == "filter":
            return ([], True) if "requires_grad" in ast.unparse(node) else None
        found = defined(bundle, source, node.func.id)
        return _by_loops(found[0], found[1]) if found is not None else None
    if isinstance(node, ast.ListComp | ast.GeneratorExp):
        return _by_loops(source, node)
    return None


def _by_loops(source: Source, tree: ast.AST) -> tuple[list[Group], bool] | None:
    found = list(loops(tree))
    if not found:
        return None
    if any("requires_grad" in ast.unparse(loop.inside) or not loop.name for loop in found):
        return [], True
    return [Group(source, loop) for loop in found], False
