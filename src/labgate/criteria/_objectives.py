"""Where the objective of a search hands back its value."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from labgate.bundle import Bundle, Source
from labgate.bundle.syntax import walked
from labgate.finding import Evidence
from labgate.flow.events import Call

_Function = ast.FunctionDef | ast.AsyncFunctionDef


def body(bundle: Bundle, call: Call) -> tuple[str, int, int]:
    """The file and the lines of the objective that `optimize` is handed; ("", 0, 0) when it is not found."""
    for source, node in return_statements(bundle, call):
        for function in walked(source.tree) if source.tree is not None else ():
            if isinstance(function, _Function) and any(inner is node for inner in walked(function)):
                inside = [other for other in walked(function) if isinstance(other, _Function)]
                if not any(
                    other is not function and any(n is node for n in walked(other)) for other in inside
                ):
                    return source.path, function.lineno, function.end_lineno or function.lineno
    return "", 0, 0


def return_statements(bundle: Bundle, call: Call) -> Iterator[tuple[Source, ast.Return]]:
    """Where the objective that is handed to `optimize` hands back its value."""
    source = bundle.sources.get(call.place.path)
    given = call.node.args[0] if call.node is not None and call.node.args else None
    name = getattr(given, "id", "")
    if isinstance(given, ast.Lambda):
        body = given.body
        name = getattr(body.func, "id", "") if isinstance(body, ast.Call) else ""
        if not name and source is not None:
            yield source, ast.copy_location(ast.Return(body), body)
    if source is None or source.tree is None or not name:
        return
    for node in walked(source.tree):
        if isinstance(node, _Function) and node.name == name:
            nested = [inner for part in node.body for inner in walked(part) if isinstance(inner, _Function)]
            hidden = {id(inner) for function in nested for inner in walked(function)}
            for inner in walked(node):
                if isinstance(inner, ast.Return) and id(inner) not in hidden:
                    yield source, inner


def returns(bundle: Bundle, call: Call) -> list[Evidence]:
    """Those places, as evidence."""
    return [
        bundle.place(s.path, node.lineno, "the objective's value")
        for s, node in return_statements(bundle, call)
    ]
