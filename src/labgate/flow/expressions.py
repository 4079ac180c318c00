"""Expressions: what each is worth, and what evaluating it does."""

from __future__ import annotations

import ast
from collections.abc import Callable
from typing import Any

from labgate.flow.attributes import FALSE_WHEN_RUN
from labgate.flow.config import ListNode, Node
from labgate.flow.events import Ask, ConfigRead, How
from labgate.flow.iteration import Iteration
from labgate.flow.operators import COMPARISONS, arithmetic, formatted, hashable, identical, made, percent
from labgate.flow.values import (
    ABSENT,
    FALSE,
    NONE,
    TRUE,
    UNKNOWN,
    Class,
    External,
    Function,
    Instance,
    Known,
    Map,
    Module,
    OneOf,
    PathLike,
    Scope,
    Seq,
    Text,
    Unknown,
    Value,
    concat,
    join,
    options,
    unknown_of,
)


class Expressions(Iteration):
    """Evaluates expressions in `scope`. Statements are in `walker.Walker`."""

    scope: Scope
    argv: Seq
    """The words of this process: its program, then its arguments."""

    def evaluate(self, node: ast.expr | None) -> Value:
        if node is None:
            return NONE
        self.step()
        method = _DISPATCH.get(type(node))
        return method(self, node) if method else UNKNOWN

    # -- operators

    def truth(self, value: Value) -> bool | None:
        """`bool(value)`, None when it cannot be known."""
        if isinstance(value, Known):
            return bool(value.value)
        if isinstance(value, External) and value.path in FALSE_WHEN_RUN:
            return False
        if isinstance(value, Text):
            return True if any(isinstance(part, str) for part in value.parts) else None
        if isinstance(value, Seq):
            return None if value.open else bool(value.items)
        if isinstance(value, Map | Node):
            if value.items and not any(
                isinstance(item, OneOf) and ABSENT in item.options for item in value.items.values()
            ):
                return True
            return None if value.open or value.items else False
        if isinstance(value, ListNode):
            return bool(value.items)
        if isinstance(value, Function | Class | Module | PathLike):
            return True
        if isinstance(value, Instance):
            closed = value.cls.closed and not value.cls.find("__bool__") and not value.cls.find("__len__")
            return True if closed else None
        if isinstance(value, External) and value.path in ("wandb.init()", "wandb.run"):
            return True if made(value) else None
        if isinstance(value, OneOf):
            found = {self.truth(option) for option in value.options if option is not ABSENT}
            return found.pop() if len(found) == 1 else None
        return None

    def _boolean(self, node: ast.BoolOp) -> Value:
        stops = isinstance(node.op, ast.Or)
        met: list[Value] = []
        certain = self.certain
        try:
            for index, part in enumerate(node.values):
                value = self.evaluate(part)
                truth = self.truth(value)
                if truth is stops or index == len(node.values) - 1:
                    met.append(value)
                    break
                if truth is None:
                    met.append(value)
                    self.certain = False
        finally:
            self.certain = certain
        if len(met) > 1 and all(isinstance(v, Unknown | Known) for v in met):
            truths = {self.truth(v) for v in met}
            if truths == {stops}:
                return Known(stops)
        return join(met)

    def _not(self, node: ast.UnaryOp) -> Value:
        value = self.evaluate(node.operand)
        if isinstance(node.op, ast.Not):
            truth = self.truth(value)
            return unknown_of(value) if truth is None else Known(not truth)
        if isinstance(value, Known) and isinstance(value.value, int | float):
            if isinstance(node.op, ast.USub):
                return Known(-value.value)
            if isinstance(node.op, ast.UAdd):
                return value
        return unknown_of(value)

    def _binary(self, node: ast.BinOp) -> Value:
        left, right = self.evaluate(node.left), self.evaluate(node.right)
        return self.binary(left, node.op, right, node)

    def binary(self, left: Value, op: ast.operator, right: Value, node: ast.AST | None) -> Value:
        """`left op right`."""
        if isinstance(left, PathLike) and isinstance(op, ast.Div):
            from labgate.flow.models.files import join_path

            return join_path(left, right)
        if isinstance(op, ast.Add) and (isinstance(left, Text) or isinstance(right, Text)):
            return concat(left, right)
        if isinstance(op, ast.Mod) and isinstance(left, Known) and isinstance(left.value, str):
            return percent(left.value, right)
        if isinstance(op, ast.Add) and isinstance(left, Known) and isinstance(left.value, str):
            joins = not isinstance(right, Known) or isinstance(right.value, str)
            return concat(left, right) if joins else UNKNOWN
        if isinstance(left, Seq) and isinstance(right, Seq) and isinstance(op, ast.Add):
            return Seq(left.items + right.items, left.kind, left.open or right.open)
        if (
            isinstance(op, ast.Add)
            and isinstance(left, Seq)
            and isinstance(right, External | Unknown | OneOf)
        ):
            return Seq(left.items, left.kind, True)
        if isinstance(left, Map) and isinstance(right, Map) and isinstance(op, ast.BitOr):
            return Map({**left.items, **right.items}, left.open or right.open)
        if isinstance(left, Known) and isinstance(right, Known):
            return arithmetic(left.value, op, right.value)
        return unknown_of(left, right)

    def _compare(self, node: ast.Compare) -> Value:
        left = self.evaluate(node.left)
        sides = [left]
        result: bool | None = True
        for op, part in zip(node.ops, node.comparators, strict=True):
            right = self.evaluate(part)
            sides.append(right)
            came = self.compare(left, op, right, node)
            if came is False:
                return FALSE
            if came is None:
                result = None
            left = right
        return unknown_of(*sides) if result is None else TRUE

    def compare(self, left: Value, op: ast.cmpop, right: Value, node: ast.AST | None) -> bool | None:
        """`left op right` as far as it can be known."""
        if isinstance(op, ast.In | ast.NotIn):
            found = self.contains(right, left, node)
            return found if found is None or isinstance(op, ast.In) else not found
        if isinstance(op, ast.Is | ast.IsNot):
            same = identical(left, right)
            return same if same is None or isinstance(op, ast.Is) else not same
        if isinstance(left, OneOf) or isinstance(right, OneOf):
            came = {
                self.compare(a, op, b, node)
                for a in options(left)
                for b in options(right)
                if a is not ABSENT and b is not ABSENT
            }
            return came.pop() if len(came) == 1 else None
        if isinstance(left, Known) and isinstance(right, Known):
            try:
                return bool(COMPARISONS[type(op)](left.value, right.value))
            except (TypeError, KeyError):
                return None
        if isinstance(op, ast.Eq | ast.NotEq):
            for one, other in ((left, right), (right, left)):
                if isinstance(one, Known) and isinstance(other, Text) and isinstance(one.value, str):
                    if not other.matches(one.value):
                        return isinstance(op, ast.NotEq)
                if (
                    isinstance(one, Known)
                    and one.value is None
                    and isinstance(other, Node | Seq | Map | Text | PathLike | Function)
                ):
                    return isinstance(op, ast.NotEq)
        return None

    def contains(self, holder: Value, key: Value, node: ast.AST | None) -> bool | None:
        """`key in holder`."""
        if isinstance(holder, External):
            self.emit(Ask(*self.context(node), holder, holder.path, key, How.IN, UNKNOWN))
            return None
        if isinstance(holder, OneOf):
            with self.perhaps():
                came = {self.contains(o, key, node) for o in holder.options if o is not ABSENT}
            return came.pop() if len(came) == 1 else None
        if isinstance(key, OneOf):
            with self.perhaps():
                came = {self.contains(holder, k, node) for k in key.options if k is not ABSENT}
            return came.pop() if len(came) == 1 else None
        if isinstance(holder, Node):
            if not isinstance(key, Known):
                return None
            there = holder.has(key.value)
            self.emit(ConfigRead(*self.context(node), holder.under(key.value), How.IN, there, UNKNOWN))
            return there
        if isinstance(holder, Map):
            if not isinstance(key, Known):
                return None if holder.items or holder.open else False
            value = holder.items.get(key.value)
            if value is None:
                return None if holder.open or self.looping else False
            return None if isinstance(value, OneOf) and ABSENT in value.options else True
        if isinstance(holder, Seq | ListNode):
            if any(identical(key, item) is True or key == item for item in holder.items):
                return None if isinstance(holder, Seq) and holder.open else True
            known = isinstance(key, Known) and all(isinstance(item, Known) for item in holder.items)
            opened = isinstance(holder, Seq) and holder.open
            if opened and isinstance(holder, Seq) and any(key == out for out in holder.excludes):
                return False
            return False if known and not opened else None
        if isinstance(holder, Known) and isinstance(key, Known):
            if holder.value is None:
                self.fault(node, "TypeError", "argument of type 'NoneType' is not iterable")
                return None
            try:
                return key.value in holder.value
            except TypeError:
                return None
        if isinstance(holder, Text) and isinstance(key, Known) and isinstance(key.value, str):
            if any(isinstance(part, str) and key.value in part for part in holder.parts):
                return True
        return None

    def _choice(self, node: ast.IfExp) -> Value:
        truth = self.truth(self.evaluate(node.test))
        if truth is not None:
            return self.evaluate(node.body if truth else node.orelse)
        with self.perhaps():
            return join((self.evaluate(node.body), self.evaluate(node.orelse)))

    # -- literals

    def _constant(self, node: ast.Constant) -> Value:
        return Known(node.value)

    def _format(self, node: ast.JoinedStr) -> Value:
        parts: list[Value] = []
        for part in node.values:
            if isinstance(part, ast.FormattedValue):
                value = self.evaluate(part.value)
                spec = self.evaluate(part.format_spec) if part.format_spec else None
                parts.append(formatted(value, spec, part.conversion))
            else:
                parts.append(self.evaluate(part))
        return concat(*parts)

    def _sequence(self, node: ast.List | ast.Tuple | ast.Set) -> Value:
        kind = {ast.List: "list", ast.Tuple: "tuple", ast.Set: "set"}[type(node)]
        items: list[Value] = []
        opened = False
        for part in node.elts:
            if isinstance(part, ast.Starred):
                inner = self.evaluate(part.value)
                spread = self.iterate(inner)
                if spread is None:
                    opened = True
                else:
                    items.extend(spread)
            else:
                items.append(self.evaluate(part))
        return Seq(items, kind, opened)

    def _dict(self, node: ast.Dict) -> Value:
        made = Map()
        for key, part in zip(node.keys, node.values, strict=True):
            value = self.evaluate(part)
            if key is None:
                self.spread(made, value)
                continue
            name = self.evaluate(key)
            if isinstance(name, Known) and hashable(name.value):
                made.items[name.value] = value
            elif isinstance(name, Text):
                made.items[name] = value
            else:
                made.open = True
        return made

    def spread(self, made: Map, value: Value) -> None:
        """`**value` into `made`."""
        if isinstance(value, Map):
            made.items.update(value.items)
            made.open = made.open or value.open
        elif isinstance(value, Node):
            for key in value.items:
                made.items[key] = self.read(value, key, How.WHOLE, None)
            made.open = made.open or value.open
        else:
            made.open = True

    def _lambda(self, node: ast.Lambda) -> Value:
        return Function(node, self.scope, self.defaults(node.args))

    def defaults(self, args: ast.arguments) -> dict[str, Value]:
        """Default values, evaluated where the function is defined."""
        positional = [*args.posonlyargs, *args.args]
        found = {}
        for argument, default in zip(reversed(positional), reversed(args.defaults), strict=False):
            found[argument.arg] = self.evaluate(default)
        for argument, kw_default in zip(args.kwonlyargs, args.kw_defaults, strict=True):
            if kw_default is not None:
                found[argument.arg] = self.evaluate(kw_default)
        return found

    def _walrus(self, node: ast.NamedExpr) -> Value:
        value = self.evaluate(node.value)
        self.put(self.scope.names, node.target.id, value)
        return value

    def _await(self, node: ast.Await) -> Value:
        return self.evaluate(node.value)

    def _yield(self, node: ast.Yield | ast.YieldFrom) -> Value:
        value = self.evaluate(node.value)
        yielded = self.scope.names.get("<yielded>")
        if isinstance(yielded, Seq):
            yielded.items.append(value)
        return UNKNOWN


_DISPATCH: dict[type[ast.AST], Callable[[Expressions, Any], Value]] = {
    ast.Name: Expressions._name,
    ast.Attribute: Expressions._attribute,
    ast.Subscript: Expressions._subscript,
    ast.BoolOp: Expressions._boolean,
    ast.UnaryOp: Expressions._not,
    ast.BinOp: Expressions._binary,
    ast.Compare: Expressions._compare,
    ast.IfExp: Expressions._choice,
    ast.Constant: Expressions._constant,
    ast.JoinedStr: Expressions._format,
    ast.List: Expressions._sequence,
    ast.Tuple: Expressions._sequence,
    ast.Set: Expressions._sequence,
    ast.Dict: Expressions._dict,
    ast.Lambda: Expressions._lambda,
    ast.NamedExpr: Expressions._walrus,
    ast.Await: Expressions._await,
    ast.Yield: Expressions._yield,
    ast.YieldFrom: Expressions._yield,
    ast.ListComp: Expressions._comprehension,
    ast.SetComp: Expressions._comprehension,
    ast.GeneratorExp: Expressions._comprehension,
    ast.DictComp: Expressions._dict_comprehension,
    ast.Call: Expressions._call,
}
