"""What code makes of the names of parameters: loops over them, tried on names of the kind that a model has.

Which parameters a filter lets through, and what string surgery turns a name into, is decided by running just
that on examples. An expression that holds more than strings is not run: `UnsureError`.
"""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

from labgate.bundle.kept import kept
from labgate.bundle.syntax import every, walked

Function = ast.FunctionDef | ast.AsyncFunctionDef
NAMED = ("named_parameters", "state_dict", "named_modules")

_MODULES = tuple(
    f"{stem}.{index}.{leaf}"
    for stem, leaves in (
        ("roberta.encoder.layer", ("attention.self.query", "attention.self.value", "output.dense")),
        ("model.layers", ("self_attn.q_proj", "self_attn.v_proj", "mlp.down_proj")),
        ("transformer.h", ("attn.c_attn",)),
    )
    for index in (3,)
    for leaf in leaves
)
_REST = (
    "roberta.embeddings.word_embeddings.weight",
    "model.embed_tokens.weight",
    "roberta.encoder.layer.0.attention.output.LayerNorm.weight",
    "model.layers.0.input_layernorm.weight",
)


class UnsureError(Exception):
    """What an expression gives is not decided by names alone."""


def parameter_names(wrapped: str) -> tuple[str, ...]:
    """Names as `named_parameters()` gives them.

    `wrapped` is "peft" for LoRA as PEFT names it from 0.7 on, "old-peft" for how it did before, "" for none.
    """
    if not wrapped:
        plain = [f"{module}.{leaf}" for module in _MODULES for leaf in ("weight", "bias")]
        return (*plain, *_REST, "classifier.weight", "classifier.bias", "lm_head.weight")
    base = ".base_layer" if wrapped == "peft" else ""
    leaves = (f"{base}.weight", f"{base}.bias", ".lora_A.default.weight", ".lora_B.default.weight")
    inside = [f"{module}{leaf}" for module in _MODULES for leaf in leaves]
    heads = (
        "classifier.original_module.weight",
        "classifier.modules_to_save.default.weight",
        "lm_head.weight",
    )
    return tuple(f"base_model.model.{name}" for name in (*inside, *_REST, *heads))


@dataclass(frozen=True)
class Loop:
    """`for name, parameter in model.named_parameters()`, as a statement or inside a comprehension."""

    node: ast.For | ast.comprehension
    holder: ast.expr
    """What is looped over."""
    name: str
    """The variable that holds the name; "" when only parameters are looped over."""
    parameter: str
    inside: ast.AST
    """The statement or comprehension, with its body."""


@kept
def loops(function: ast.AST) -> tuple[Loop, ...]:
    """Loops of `function` over the parameters of a model."""
    met: list[Loop | None] = []
    for node in every(function, ast.For, ast.ListComp, ast.SetComp, ast.GeneratorExp, ast.DictComp):
        if isinstance(node, ast.For):
            met.append(_loop(node.target, node.iter, node, node))
        elif isinstance(node, ast.ListComp | ast.SetComp | ast.GeneratorExp | ast.DictComp):
            met += [_loop(part.target, part.iter, part, node) for part in node.generators]
    return tuple([loop for loop in met if loop is not None])


def _loop(
    target: ast.expr, holder: ast.expr, node: ast.For | ast.comprehension, inside: ast.AST
) -> Loop | None:
    call = holder
    if (
        isinstance(call, ast.Call)
        and isinstance(call.func, ast.Name)
        and call.func.id == "list"
        and call.args
    ):
        call = call.args[0]
    if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute):
        named, items = call.func.attr == "named_parameters", call.func.attr == "parameters"
        names = target.elts if isinstance(target, ast.Tuple) else []
        if named and len(names) == 2 and all(isinstance(part, ast.Name) for part in names):
            return Loop(node, call, _id(names[0]), _id(names[1]), inside)
        if items and isinstance(target, ast.Name):
            return Loop(node, call, "", target.id, inside)
    return None


def _id(node: ast.expr) -> str:
    return node.id if isinstance(node, ast.Name) else ""


@dataclass
class Met:
    """Code of a loop's body that is come by, and what the names hold there; `sure` when it always is."""

    nodes: frozenset[ast.AST]
    env: dict[str, Any]
    sure: bool


def rounds(loop: Loop, names: tuple[str, ...], known: dict[str, Any]) -> Iterator[tuple[str, list[Met]]]:
    """Each name through the loop: which expressions are reached with it.

    Tests of anything but names are taken to let it pass; one that is about names and about something else too
    leaves what depends on it unsure.
    """
    for name in names:
        round_ = _Round(loop, name, known)
        if isinstance(loop.node, ast.For):
            round_.block(loop.node.body)
        else:
            round_.comprehension(loop.node, loop.inside)
        yield name, round_.met


class _Came(Enum):
    """What a test comes to: UNSURE when it is about the name and more, OTHER when it is not about it."""

    YES = auto()
    NO = auto()
    OTHER = auto()
    UNSURE = auto()


@kept
def _all_of(tree: ast.AST) -> frozenset[ast.AST]:
    return frozenset(walked(tree))


class _Round:
    """One name on its way through a loop."""

    def __init__(self, loop: Loop, name: str, known: dict[str, Any]) -> None:
        self.env: dict[str, Any] = {**known, **({loop.name: name} if loop.name else {})}
        self.met: list[Met] = []
        self.sure = True

    def meet(self, tree: ast.AST) -> None:
        self.met.append(Met(_all_of(tree), dict(self.env), self.sure))

    def comprehension(self, part: ast.comprehension, inside: ast.AST) -> None:
        came = [self.test(test) for test in part.ifs]
        if _Came.NO in came:
            return
        self.sure = _Came.UNSURE not in came
        parts = (
            [inside.key, inside.value]
            if isinstance(inside, ast.DictComp)
            else [getattr(inside, "elt", inside)]
        )
        for tree in parts:
            self.meet(tree)

    def test(self, test: ast.expr) -> _Came:
        """What a test comes to for this name."""
        about = (
            isinstance(node, ast.Name) and isinstance(self.env.get(node.id), str) for node in walked(test)
        )
        if not any(about):
            return _Came.OTHER
        if isinstance(test, ast.BoolOp):
            came = {self.test(part) for part in test.values}
            settles, idle = (_Came.NO, _Came.YES) if isinstance(test.op, ast.And) else (_Came.YES, _Came.NO)
            return next((one for one in (settles, _Came.UNSURE, _Came.OTHER) if one in came), idle)
        try:
            return _Came.YES if evaluate(test, self.env) else _Came.NO
        except UnsureError:
            return _Came.UNSURE

    def block(self, body: list[ast.stmt]) -> bool:
        """Whether the block is left by `continue` or the like."""
        for statement in body:
            if isinstance(statement, ast.Continue | ast.Break | ast.Return | ast.Raise):
                return True
            if isinstance(statement, ast.If):
                if self._if(statement):
                    return True
            elif isinstance(statement, ast.With | ast.For | ast.While | ast.Try):
                if self.block(statement.body):
                    return not isinstance(statement, ast.For | ast.While)
            else:
                self.meet(statement)
                if isinstance(statement, ast.Assign) and len(statement.targets) == 1:
                    self._bind(statement.targets[0], statement.value)
        return False

    def _if(self, node: ast.If) -> bool:
        self.meet(node.test)
        came = self.test(node.test)
        if came in (_Came.YES, _Came.NO):
            return self.block(node.body if came is _Came.YES else node.orelse)
        before = self.sure
        self.sure = before and came is _Came.OTHER
        left = [self.block(node.body), self.block(node.orelse)]
        self.sure = before and not (came is _Came.UNSURE and any(left))
        return all(left)

    def _bind(self, target: ast.expr, value: ast.expr) -> None:
        names = [target] if isinstance(target, ast.Name) else getattr(target, "elts", [])
        try:
            made = evaluate(value, self.env)
        except UnsureError:
            for part in names:
                self.env.pop(_id(part), None)
            return
        if isinstance(target, ast.Name):
            self.env[target.id] = made
        elif isinstance(made, list | tuple) and len(made) == len(names):
            self.env.update({_id(part): item for part, item in zip(names, made, strict=True)})


def constants(tree: ast.AST) -> dict[str, Any]:
    """Names that are bound once to plain strings, or lists of them, directly in the body of `tree`."""
    found: dict[str, Any] = {}
    for statement in getattr(tree, "body", []):
        if isinstance(statement, ast.Assign) and len(statement.targets) == 1:
            try:
                value = ast.literal_eval(statement.value)
            except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
                continue
            if isinstance(statement.targets[0], ast.Name):
                found[statement.targets[0].id] = value
    return found


_BUILTINS: dict[str, Callable[..., Any]] = {
    "any": any,
    "all": all,
    "len": len,
    "str": str,
    "list": list,
    "tuple": list,
    "set": list,
}
_METHODS = frozenset(
    [
        "startswith",
        "endswith",
        "split",
        "rsplit",
        "replace",
        "removesuffix",
        "removeprefix",
        "partition",
        "rpartition",
        "strip",
        "lstrip",
        "rstrip",
        "lower",
        "upper",
        "join",
        "find",
        "count",
        "format",
    ]
)
_COMPARISONS: dict[type[ast.cmpop], Callable[[Any, Any], bool]] = {
    ast.In: lambda item, holder: item in holder,
    ast.NotIn: lambda item, holder: item not in holder,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Is: operator.is_,
    ast.IsNot: operator.is_not,
    ast.Gt: operator.gt,
    ast.Lt: operator.lt,
    ast.GtE: operator.ge,
    ast.LtE: operator.le,
}
_PATTERNS: dict[str, Callable[..., Any]] = {
    "sub": re.sub,
    "search": re.search,
    "match": re.match,
    "fullmatch": re.fullmatch,
    "split": re.split,
    "findall": re.findall,
}


def evaluate(node: ast.expr, env: dict[str, Any]) -> Any:
    """The value of an expression over strings, lists of strings and numbers. Raises UnsureError."""
    try:
        return _value(node, env)
    except UnsureError:
        raise
    except Exception as error:
        raise UnsureError(str(error)) from error


def _value(node: ast.expr | None, env: dict[str, Any]) -> Any:
    if node is None:
        return None
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, ast.Name):
        if node.id in env:
            return env[node.id]
        raise UnsureError(node.id)
    if isinstance(node, ast.JoinedStr):
        return "".join(str(_value(part, env)) for part in node.values)
    if isinstance(node, ast.FormattedValue):
        return _value(node.value, env)
    if isinstance(node, ast.List | ast.Tuple | ast.Set):
        return [_value(part, env) for part in node.elts]
    if isinstance(node, ast.BoolOp):
        return _boolean(node, env)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not | ast.USub):
        value = _value(node.operand, env)
        return not value if isinstance(node.op, ast.Not) else -value
    if isinstance(node, ast.Compare):
        return _compared(node, env)
    if isinstance(node, ast.IfExp):
        return _value(node.body if _value(node.test, env) else node.orelse, env)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return _value(node.left, env) + _value(node.right, env)
    if isinstance(node, ast.Subscript):
        if isinstance(node.slice, ast.Slice):
            bounds = (_value(part, env) for part in (node.slice.lower, node.slice.upper, node.slice.step))
            return _value(node.value, env)[slice(*bounds)]
        return _value(node.value, env)[_value(node.slice, env)]
    if isinstance(node, ast.GeneratorExp | ast.ListComp):
        return list(_generated(node, env))
    if isinstance(node, ast.Call):
        return _called(node, env)
    raise UnsureError(type(node).__name__)


def _boolean(node: ast.BoolOp, env: dict[str, Any]) -> Any:
    value: Any = None
    for part in node.values:
        value = _value(part, env)
        if bool(value) is isinstance(node.op, ast.Or):
            break
    return value


def _compared(node: ast.Compare, env: dict[str, Any]) -> bool:
    left = _value(node.left, env)
    for op, part in zip(node.ops, node.comparators, strict=True):
        right = _value(part, env)
        if not _COMPARISONS[type(op)](left, right):
            return False
        left = right
    return True


def _generated(node: ast.GeneratorExp | ast.ListComp, env: dict[str, Any]) -> Iterator[Any]:
    if len(node.generators) != 1 or not isinstance(node.generators[0].target, ast.Name):
        raise UnsureError("a nested comprehension")
    part = node.generators[0]
    for item in _value(part.iter, env):
        inner = {**env, part.target.id: item}  # type: ignore[attr-defined]
        if all(_value(test, inner) for test in part.ifs):
            yield _value(node.elt, inner)


def _called(node: ast.Call, env: dict[str, Any]) -> Any:
    args = [_value(part, env) for part in node.args]
    if isinstance(node.func, ast.Name) and node.func.id in _BUILTINS:
        return _BUILTINS[node.func.id](*args)
    if isinstance(node.func, ast.Attribute):
        if isinstance(node.func.value, ast.Name) and node.func.value.id == "re" and "re" not in env:
            if not isinstance(args[0], str) or re.search(r"\)[*+{]", args[0]):
                raise UnsureError("a pattern that may take for ever")
            return _PATTERNS[node.func.attr](*args)
        holder = _value(node.func.value, env)
        if isinstance(holder, str) and node.func.attr in _METHODS:
            keywords = {k.arg: _value(k.value, env) for k in node.keywords if k.arg}
            return getattr(holder, node.func.attr)(*args, **keywords)
    raise UnsureError("a call")
