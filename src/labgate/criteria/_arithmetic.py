"""Differences and ratios in a source that compare what was measured, and not coordinates or paths."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from labgate.bundle import Source
from labgate.bundle.syntax import called, every, parents, walked

COMPARES = re.compile(
    r"improve|imp_|_imp\b|gain|gap|delta|diff|relative|reduction|speed_?up|uplift|ratio|saving|overhead|lift|versus|_vs_|advantage|increase",
    re.IGNORECASE,
)
_LAYOUT = re.compile(
    r"^(x|y|i|j|k|n|m|w|h|pos|position|positions|idx|index|indices|width|height|offset|bar_width|total|step|"
    r"xs|ys|x_pos|xpos|size|len|dpi|alpha|angle|margin|span|count|ncols|nrows|start|end|t0|t1|ymin|ymax|low|high|lo|hi|min|max|eps)$"
)
_PATHS = re.compile(r"dir|path|folder|root|base$|parent|out$|dest|save|here|repo", re.IGNORECASE)
_METHODS = ("pct_change", "diff", "sub", "subtract", "div", "divide", "rsub", "rdiv")


def comparisons(source: Source) -> Iterator[tuple[int, str]]:
    """Line and word of each comparison: `improvement` where the code calls it so, "" where no name tells."""
    if source.tree is None:
        return
    for node in every(source.tree, ast.BinOp, ast.Call):
        if _compares(node):
            yield node.lineno, _called(node, parents(source.tree))


def _compares(node: ast.AST) -> bool:
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        return node.func.attr in _METHODS and bool(node.args or node.func.attr == "pct_change")
    if not isinstance(node, ast.BinOp) or not isinstance(node.op, ast.Sub | ast.Div):
        return False
    if _is_number(node.left) and _is_number(node.right):
        return False
    if _is_layout(node.left) or _is_layout(node.right):
        return False
    if isinstance(node.op, ast.Div):
        return not _is_path(node) and not _is_number(node.right)
    return not _is_number(node.right) and not _is_number(node.left)


def _is_number(node: ast.expr) -> bool:
    if isinstance(node, ast.UnaryOp):
        return _is_number(node.operand)
    return isinstance(node, ast.Constant) and isinstance(node.value, int | float)


def _is_layout(node: ast.expr) -> bool:
    """A coordinate, a count or an index: `x - width / 2`, `len(runs) - 1`."""
    if isinstance(node, ast.BinOp):
        return _is_layout(node.left) or _is_layout(node.right)
    if isinstance(node, ast.Call):
        name = called(node)
        return name in (
            "len",
            "range",
            "arange",
            "linspace",
            "get_width",
            "get_height",
            "get_x",
            "get_y",
            "time",
            "perf_counter",
        )
    return isinstance(node, ast.Name) and bool(_LAYOUT.match(node.id))


def _is_path(node: ast.BinOp) -> bool:
    """`folder / "name"`."""
    if isinstance(node.right, ast.JoinedStr) or (
        isinstance(node.right, ast.Constant) and isinstance(node.right.value, str)
    ):
        return True
    left: ast.expr = node.left
    while isinstance(left, ast.BinOp):
        left = left.left
    if isinstance(left, ast.Call):
        left = left.func
    while isinstance(left, ast.Subscript):
        left = left.value
    name = left.attr if isinstance(left, ast.Attribute) else getattr(left, "id", "")
    return bool(_PATHS.search(name)) or name == "Path"


def _called(node: ast.AST, around: dict[ast.AST, ast.AST]) -> str:
    """What the code calls the value: a name around it that speaks of a comparison."""
    current: ast.AST | None = node
    while current is not None:
        for name in _names(current, node):
            if COMPARES.search(name):
                return name
        if isinstance(current, ast.FunctionDef | ast.AsyncFunctionDef):
            return ""
        current = around.get(current)
    return ""


def _names(node: ast.AST, inner: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        yield node.name
    elif isinstance(node, ast.Assign | ast.AnnAssign | ast.AugAssign):
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        for part in (part for target in targets for part in walked(target)):
            if isinstance(part, ast.Name):
                yield part.id
            elif isinstance(part, ast.Constant) and isinstance(part.value, str):
                yield part.value
            elif isinstance(part, ast.Attribute):
                yield part.attr
    elif isinstance(node, ast.Dict):
        for key, value in zip(node.keys, node.values, strict=True):
            if key is not None and any(part is inner for part in walked(value)):
                for part in walked(key):
                    if isinstance(part, ast.Constant) and isinstance(part.value, str):
                        yield part.value
    elif isinstance(node, ast.keyword) and node.arg:
        yield node.arg
    elif isinstance(node, ast.Call) and node is not inner:
        name = called(node)
        yield name
