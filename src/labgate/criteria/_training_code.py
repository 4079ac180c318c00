"""What of a bundle's code takes part in training."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from labgate.bundle import Bundle, Source
from labgate.bundle.syntax import every, walked
from labgate.contract import Contract

Function = ast.FunctionDef | ast.AsyncFunctionDef


def sources_of_training(bundle: Bundle, contract: Contract) -> Iterator[Source]:
    """The sources below `src/` that parse, less the evaluation."""
    for source in bundle.sources.values():
        inside = source.path.startswith("src/") and source.module != contract.evaluate_module
        if source.tree is not None and inside:
            yield source


def functions(source: Source) -> Iterator[Function]:
    """Every function of a source, methods and inner ones too."""
    yield from every(source.tree, ast.FunctionDef, ast.AsyncFunctionDef)


def defined(bundle: Bundle, source: Source, name: str) -> tuple[Source, Function] | None:
    """The function of that name on top of the source, or of another that it may import it from."""
    for other in (source, *bundle.sources.values()):
        for node in other.tree.body if other.tree is not None else ():
            if isinstance(node, Function) and node.name == name:
                return other, node
    return None


def around(source: Source, node: ast.AST) -> ast.AST:
    """The innermost function that holds `node`, else the module."""
    found: ast.AST = source.tree or ast.Module([], [])
    for function in functions(source):
        if any(inner is node for inner in walked(function)):
            found = function
    return found
