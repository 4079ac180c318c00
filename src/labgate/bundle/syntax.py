"""Walking syntax trees, which many checks do over the same nodes."""

from __future__ import annotations

import ast


def walked(node: ast.AST) -> tuple[ast.AST, ...]:
    """Every node at and below `node`, in the order of `ast.walk`, gathered once and kept on the node.

    Trees of a bundle are never changed, so the tuple stays true.
    """
    found: tuple[ast.AST, ...] | None = getattr(node, "_labgate_walked", None)
    if found is None:
        found = tuple(ast.walk(node))
        node._labgate_walked = found  # type: ignore[attr-defined]
    return found
