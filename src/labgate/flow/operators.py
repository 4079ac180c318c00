"""Operators, formatting and identity on values, where they are known."""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable
from typing import Any

from labgate.flow.config import ListNode, Node
from labgate.flow.values import (
    UNKNOWN,
    Absent,
    Class,
    External,
    Function,
    Instance,
    Known,
    Map,
    Module,
    OneOf,
    PathLike,
    Seq,
    Text,
    Value,
)

OPERATORS: dict[type[ast.AST], Callable[..., Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
    ast.BitAnd: operator.and_,
    ast.BitOr: operator.or_,
    ast.BitXor: operator.xor,
    ast.LShift: operator.lshift,
    ast.RShift: operator.rshift,
}

COMPARISONS: dict[type[ast.AST], Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}


def identical(left: Value, right: Value) -> bool | None:
    """`left is right`."""
    for one, other in ((left, right), (right, left)):
        if isinstance(one, Known) and one.value is None:
            if isinstance(other, Known):
                return other.value is None
            if isinstance(
                other, Node | ListNode | Seq | Map | Text | Function | Class | Module | Instance | PathLike
            ):
                return False
            if isinstance(other, External) and "(" not in other.path and other.path.count(".") == 0:
                return False
            if isinstance(other, External) and made(other):
                return False
            return None
    if isinstance(left, Known) and isinstance(right, Known):
        return left == right
    if isinstance(left, External) and isinstance(right, External) and "(" not in left.path + right.path:
        return left.path == right.path
    return None


def made(value: External) -> bool:
    """Whether an outside value is sure to be an object: what a class gives, or a W&B run that was started."""
    if value.path in ("wandb.init()", "wandb.run"):
        return value.call is not None
    name = value.path.removesuffix("()").rpartition(".")[2]
    return value.path.endswith("()") and name[:1].isupper() and not name.isupper()


def hashable(value: Any) -> bool:
    try:
        hash(value)
    except TypeError:
        return False
    return True


def arithmetic(left: Any, op: ast.operator, right: Any) -> Value:
    """`left op right` for plain values, kept from growing without bound."""
    work = OPERATORS.get(type(op))
    if work is None:
        return UNKNOWN
    if isinstance(op, ast.Mult) and (isinstance(left, str | bytes) or isinstance(right, str | bytes)):
        size = left if isinstance(left, int) else right
        if not isinstance(size, int) or size > 1000:
            return UNKNOWN
    if isinstance(op, ast.Pow | ast.LShift) and not (
        isinstance(right, int | float)
        and abs(right) < 64
        and isinstance(left, int | float)
        and abs(left) < 1e6
    ):
        return UNKNOWN
    try:
        made = work(left, right)
    except (TypeError, ValueError, ArithmeticError):
        return UNKNOWN
    return Known(made) if isinstance(made, str | bytes | int | float | complex | bool) else UNKNOWN


_WIDE = re.compile(r"\d{4}")
"""Widths and precisions of a thousand and more: nothing that a name or a number is written with."""


def percent(template: str, value: Value) -> Value:
    if _WIDE.search(template) or "*" in template:
        return Text((None,))
    try:
        if isinstance(value, Known):
            return Known(template % (value.value,))
        if isinstance(value, Seq) and all(isinstance(item, Known) for item in value.items):
            return Known(template % tuple(item.value for item in value.items if isinstance(item, Known)))
    except (TypeError, ValueError):
        pass
    return Text((None,))


def formatted(value: Value, spec: Value | None, conversion: int) -> Value:
    """One `{value!r:spec}` of an f-string."""
    if isinstance(value, Known):
        try:
            inner = value.value
            if conversion == ord("r"):
                inner = repr(inner)
            if spec is None:
                return Known(str(inner))
            if isinstance(spec, Known) and not _WIDE.search(str(spec.value)):
                return Known(format(inner, str(spec.value)))
        except (ValueError, TypeError):
            pass
        return Text((None,), (value,))
    if isinstance(value, Text | PathLike) and spec is None and conversion == -1:
        return value
    if isinstance(value, OneOf) and spec is None:
        texts = [
            formatted(option, spec, conversion) for option in value.options if not isinstance(option, Absent)
        ]
        return texts[0] if len(set(map(repr, texts))) == 1 else Text((None,), (value,))
    return Text((None,), (value,))


SAFE = frozenset(
    [
        "lower",
        "upper",
        "strip",
        "lstrip",
        "rstrip",
        "split",
        "rsplit",
        "splitlines",
        "replace",
        "startswith",
        "endswith",
        "format",
        "join",
        "title",
        "capitalize",
        "removeprefix",
        "removesuffix",
        "partition",
        "rpartition",
        "isdigit",
        "isnumeric",
        "isidentifier",
        "zfill",
        "count",
        "find",
        "index",
        "encode",
        "decode",
        "is_integer",
        "bit_length",
        "casefold",
        "swapcase",
        "ljust",
        "rjust",
        "center",
        "rfind",
    ]
)
"""Methods of immutable values that are called for real."""
