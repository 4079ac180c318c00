"""Expressions: what each is worth, and what evaluating it does."""

from __future__ import annotations

import ast
import builtins
import operator
import re
import string
from collections.abc import Callable
from typing import Any

from labgate.bundle.syntax import walked
from labgate.flow import config
from labgate.flow.config import ConfigFault, ListNode, Node
from labgate.flow.events import Ask, Call, ConfigRead, Entered, How, Use
from labgate.flow.machine import DEPTH, CaughtError, Flowing, Machine
from labgate.flow.values import (
    ABSENT,
    FALSE,
    NONE,
    TRUE,
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

LONGEST = 64
"""Items of a known sequence that a loop takes one by one."""

Model = Callable[[Any, Call], Value | None]
"""What a call from outside does to the walk; None stands for the ordinary outside value."""

CALLS: dict[str, Model] = {}
METHODS: dict[tuple[type, str], Callable[[Expressions, Value, Call], Value]] = {}

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
FALSE_WHEN_RUN = ("typing.TYPE_CHECKING", "typing_extensions.TYPE_CHECKING")


def models(*paths: str) -> Callable[[Model], Model]:
    """Register what calling one of these outside paths does."""

    def register(model: Model) -> Model:
        for path in paths:
            CALLS[path] = model
        return model

    return register


def methods(kind: type, *names: str) -> Callable[[Any], Any]:
    """Register what calling a method of a value of this kind does."""

    def register(model: Any) -> Any:
        for name in names:
            METHODS[kind, name] = model
        return model

    return register


class Method(Value):
    """A method of a value that labgate knows from inside, not yet called."""

    __slots__ = ("name", "of")

    def __init__(self, of: Value, name: str) -> None:
        self.of = of
        self.name = name


class Super(Value):
    """`super()` inside a method."""

    __slots__ = ("cls", "instance")

    def __init__(self, cls: Class, instance: Value) -> None:
        self.cls = cls
        self.instance = instance


PYTHON = {Seq: {"list": list, "tuple": tuple, "set": set}, Map: dict}


class Expressions(Machine):
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

    # -- names and attributes

    def _name(self, node: ast.Name) -> Value:
        scope: Scope | None = self.scope
        while scope is not None:
            value = scope.names.get(node.id)
            if value is not None:
                if isinstance(value, OneOf) and ABSENT in value.options:
                    return join(option for option in value.options if option is not ABSENT)
                return value
            scope = scope.outer
        if hasattr(builtins, node.id):
            return External(f"builtins.{node.id}")
        if node.id == "__file__":
            from labgate.flow.machine import ROOT

            return Known(f"{ROOT}/{self.path}")
        if node.id in ("__doc__", "__spec__", "__package__", "__builtins__", "__class__"):
            return UNKNOWN
        if not self.scope.module.open and not self._assigned_somewhere(node.id):
            self.fault(node, "NameError", f"name '{node.id}' is not defined", node.id)
        return UNKNOWN

    def _assigned_somewhere(self, name: str) -> bool:
        """Whether the module binds `name` in any way that this walk may not have come by."""
        return False

    def _attribute(self, node: ast.Attribute) -> Value:
        base = self.evaluate(node.value)
        return self.attribute(base, node.attr, node)

    def attribute(self, base: Value, name: str, node: ast.AST | None) -> Value:
        """`base.name`."""
        if isinstance(base, External):
            if base.path == "sys" and name == "argv":
                return self.argv
            if base.path.endswith("[]") or not base.path:
                return External(f"{base.path}.{name}", base)
            found = self._best(base, name)
            if found is not None:
                return found
            started = self._started() if base.path == "wandb" and name == "run" else None
            value = External(f"{base.path}.{name}", base, started)
            self.emit(Use(*self.context(node), value.path))
            return value
        if isinstance(base, Node):
            return self._node_attribute(base, name, node)
        if isinstance(base, OneOf):
            found_all = []
            with self.perhaps():
                for option in base.options:
                    if option is ABSENT or (isinstance(option, Known) and option.value is None):
                        continue
                    found_all.append(self.attribute(option, name, node))
            return join(found_all)
        if isinstance(base, Instance):
            return self._instance_attribute(base, name, node)
        if isinstance(base, Module):
            return self.member(base, name, node)
        if isinstance(base, Class):
            value_ = base.find(name)
            if value_ is not None:
                return value_
            outside = base.outside_base()
            return External(f"{outside.path}.{name}") if outside else UNKNOWN
        if isinstance(base, Known):
            if hasattr(type(base.value), name):
                return Method(base, name)
            kind = type(base.value).__name__
            self.fault(
                node, "AttributeError", f"'{kind}' object has no attribute '{name}'", _owner(node) or name
            )
            # as mended: what is asked a run for its id is the id
            return base if name == "run_id" and isinstance(base.value, str) else UNKNOWN
        if isinstance(base, Text):
            if hasattr(str, name):
                return Method(base, name)
            self.fault(node, "AttributeError", f"'str' object has no attribute '{name}'", name)
            return UNKNOWN
        if isinstance(base, Seq | Map):
            python = PYTHON[Seq][base.kind] if isinstance(base, Seq) else dict  # type: ignore[index]
            if hasattr(python, name):
                return Method(base, name)
            says = f"'{python.__name__}' object has no attribute '{name}'"
            self.fault(node, "AttributeError", says, name)
            return UNKNOWN
        if isinstance(base, ListNode | PathLike | Method):
            return self._own_attribute(base, name)
        if isinstance(base, Super):
            return self._super_attribute(base, name, node)
        if isinstance(base, Function) and name == "__name__":
            return Known(base.name)
        return Unknown(f".{name}", (base,))

    def _started(self) -> Call | None:
        """The call that is sure to have started the W&B run that is live, for `wandb.run`."""
        for event in reversed(self.walk.events):
            if isinstance(event, Call) and event.path in ("wandb.init", "wandb.finish"):
                return event if event.certain and event.path == "wandb.init" else None
        return None

    def _best(self, base: External, name: str) -> Value | None:
        """`study.best_params` when every suggested name of this walk is known."""
        if name == "params" and base.path.endswith("create_study().best_trial"):
            return self.suggested()
        if name == "best_params" and base.path.endswith("create_study()"):
            return self.suggested()
        return None

    def suggested(self) -> Value | None:
        names: dict[Any, Value] = {}
        for call in self.walk.of(Call):
            if ".suggest_" in call.path and ".optimize().trial" in call.path:
                name = call.argument(0, "name")
                if not isinstance(name, Known):
                    return None
                names[name.value] = External(f"{call.path}()", None, call)
        return Map(names) if names else None

    def _own_attribute(self, base: Value, name: str) -> Value:
        if isinstance(base, PathLike):
            from labgate.flow.models.files import path_attribute

            found = path_attribute(base, name)
            if found is not None:
                return found
        return Method(base, name)

    def _node_attribute(self, node: Node, name: str, at: ast.AST | None) -> Value:
        if name not in node.items and (Node, name) in METHODS:
            return Method(node, name)
        if name.startswith("__") or (name.startswith("_") and name not in node.items):
            return UNKNOWN
        return self.read(node, name, How.ATTRIBUTE, at)

    def read(self, node: Node, name: Any, how: How, at: ast.AST | None) -> Value:
        """`node.name` or `node[name]`, with the event and, where OmegaConf would raise, the fault."""
        there = node.has(name)
        key = node.under(name)
        try:
            value = config.resolve(node.read(name, how is How.ATTRIBUTE), node)
        except ConfigFault as fault:
            self.emit(ConfigRead(*self.context(at), key, how, False, UNKNOWN))
            stands_at, found = elsewhere(node, key)
            self.fault(at, fault.kind, fault.says, key, stands_at=stands_at)
            return found
        if there is None and not node.open:
            self.emit(ConfigRead(*self.context(at), key, how, None, value))
        else:
            self.emit(ConfigRead(*self.context(at), key, how, there is not False or None, value))
        return value

    def _instance_attribute(self, base: Instance, name: str, node: ast.AST | None) -> Value:
        if name in base.attrs:
            value = base.attrs[name]
            if isinstance(value, OneOf) and ABSENT in value.options:
                return join(option for option in value.options if option is not ABSENT)
            return value
        if name == "__class__":
            return base.cls
        found = base.cls.find(name)
        if found is not None:
            if isinstance(found, Function):
                bound = bind(found, base)
                if "property" in found.wraps or "cached_property" in found.wraps:
                    return self.call(bound, [], {}, None)
                return bound
            return found
        outside = base.cls.outside_base()
        if outside is not None:
            value = External(f"{outside.path}().{name}", base)
            return value
        if base.cls.closed and not assigned(base.cls, name) and not name.startswith("__"):
            says = f"'{base.cls.node.name}' object has no attribute '{name}'"
            self.fault(node, "AttributeError", says, name)
        return Unknown(f".{name}", (base,))

    def _super_attribute(self, base: Super, name: str, node: ast.AST | None) -> Value:
        for parent in base.cls.bases:
            if isinstance(parent, Class) and (found := parent.find(name)) is not None:
                return bind(found, base.instance) if isinstance(found, Function) else found
            if isinstance(parent, External):
                return External(f"{parent.path}().{name}", base.instance)
        return External(f"builtins.object().{name}")

    def member(self, module: Module, name: str, node: ast.AST | None) -> Value:
        """A name of a module of the bundle."""
        value = module.scope.names.get(name)
        if value is not None:
            return value
        dotted = f"{module.name}.{name}"
        if self.bundle.module(dotted) is not None:
            return self.load(dotted, node)
        if not module.open:
            says = f"module '{module.name}' has no attribute '{name}'"
            self.fault(node, "AttributeError", says, name)
        return UNKNOWN

    def load(self, dotted: str, node: ast.AST | None) -> Value:
        """Import a module of the bundle. Statements are needed for it."""
        raise NotImplementedError

    # -- subscripts

    def _subscript(self, node: ast.Subscript) -> Value:
        base = self.evaluate(node.value)
        if isinstance(node.slice, ast.Slice):
            for part in (node.slice.lower, node.slice.upper, node.slice.step):
                self.evaluate(part)
            return self._slice(base, node.slice)
        key = self.evaluate(node.slice)
        return self.item(base, key, node)

    def _slice(self, base: Value, cut: ast.Slice) -> Value:
        try:
            bounds = [
                None if part is None else ast.literal_eval(part) for part in (cut.lower, cut.upper, cut.step)
            ]
            if isinstance(base, Known):
                return Known(base.value[slice(*bounds)])
            if isinstance(base, Seq) and not base.open:
                return Seq(base.items[slice(*bounds)], base.kind)
        except (ValueError, TypeError, SyntaxError):
            pass
        if isinstance(base, External):
            return base if base.path.endswith("[]") else External(f"{base.path}[:]", base)
        if isinstance(base, Seq):
            return Seq(base.items, base.kind, True, base.excludes, base.of)
        if isinstance(base, Text | Known):
            return Text((None,), (base,))
        return unknown_of(base)

    def item(self, base: Value, key: Value, node: ast.AST | None) -> Value:
        """`base[key]`."""
        if isinstance(base, External):
            value = External(f"{base.path}[]", base, key=key)
            self.emit(Ask(*self.context(node), base, base.path, key, How.ITEM, value))
            return value
        if isinstance(base, OneOf):
            with self.perhaps():
                return join(self.item(option, key, node) for option in base.options if option is not ABSENT)
        if isinstance(base, Node):
            if isinstance(key, Known):
                return self.read(base, key.value, How.ITEM, node)
            if isinstance(key, OneOf) and all(isinstance(k, Known) for k in key.options):
                with self.perhaps():
                    return join(self.item(base, k, node) for k in key.options)
            self.emit(ConfigRead(*self.context(node), base.under("*"), How.ITEM, None, UNKNOWN))
            return Unknown(base.under("*"))
        if isinstance(base, Map):
            return self._map_item(base, key, node)
        if isinstance(base, Seq | ListNode) and isinstance(key, Known) and isinstance(key.value, int):
            if isinstance(base, Seq) and base.open:
                return join((*base.items, UNKNOWN)) if base.items else self._of(base)
            if -len(base.items) <= key.value < len(base.items):
                return base.items[key.value]
            kind = base.kind if isinstance(base, Seq) else "list"
            self.fault(node, "IndexError", f"{kind} index out of range", str(key.value))
            return UNKNOWN
        if isinstance(base, Known):
            return self._known_item(base, key, node)
        if isinstance(base, Instance):
            found = base.cls.find("__getitem__")
            if isinstance(found, Function):
                return self.call(bind(found, base), [key], {}, None)
        if isinstance(base, Seq | ListNode) and base.items:
            return join((*base.items, UNKNOWN))
        return unknown_of(base, key)

    def _of(self, base: Seq) -> Value:
        if isinstance(base.of, External):
            return External(f"{base.of.path}[]", base.of)
        return unknown_of(base)

    def _known_item(self, base: Known, key: Value, node: ast.AST | None) -> Value:
        if base.value is None or isinstance(base.value, int | float):
            kind = type(base.value).__name__
            self.fault(
                node, "TypeError", f"'{kind}' object is not subscriptable", str(getattr(key, "value", ""))
            )
            return UNKNOWN
        if isinstance(base.value, str) and isinstance(key, Known) and isinstance(key.value, str):
            self.fault(node, "TypeError", "string indices must be integers, not 'str'", key.value)
            return UNKNOWN
        try:
            return Known(base.value[key.value]) if isinstance(key, Known) else UNKNOWN
        except (TypeError, IndexError, KeyError) as error:
            self.fault(node, type(error).__name__, str(error))
            return UNKNOWN

    def _map_item(self, base: Map, key: Value, node: ast.AST | None) -> Value:
        if isinstance(key, Known):
            value = base.items.get(key.value)
            if value is None:
                if not base.open and not self.looping:
                    self.fault(node, "KeyError", repr(key.value), str(key.value))
                if isinstance(base.of, External):
                    return External(f"{base.of.path}[]", base.of, key=key)
                return unknown_of(base)
            if isinstance(value, OneOf) and ABSENT in value.options:
                return join(option for option in value.options if option is not ABSENT)
            return value
        if isinstance(key, OneOf):
            with self.perhaps():
                return join(self._map_item(base, k, node) for k in key.options if k is not ABSENT)
        return join((*base.items.values(), UNKNOWN)) if base.items else unknown_of(base)

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

    # -- comprehensions

    def _comprehension(self, node: ast.ListComp | ast.SetComp | ast.GeneratorExp) -> Value:
        kind = "set" if isinstance(node, ast.SetComp) else "list"
        made = Seq([], kind)
        outer, self.scope = self.scope, Scope(self.scope.module, self.scope)
        try:
            self._generate(node.generators, 0, lambda: made.items.append(self.evaluate(node.elt)), made)
        finally:
            self.scope = outer
        return made

    def _dict_comprehension(self, node: ast.DictComp) -> Value:
        made = Map()

        def add() -> None:
            key, value = self.evaluate(node.key), self.evaluate(node.value)
            if isinstance(key, Known) and hashable(key.value):
                made.items[key.value] = value
            elif isinstance(key, Text):
                made.items[key] = value
            else:
                made.open = True

        outer, self.scope = self.scope, Scope(self.scope.module, self.scope)
        try:
            self._generate(node.generators, 0, add, made)
        finally:
            self.scope = outer
        if made.open and not made.items:
            made.of = made.of or self._items_of(node)
        return made

    def _items_of(self, node: ast.DictComp) -> Value | None:
        """What `{k: f(v) for k, v in holder.items()}` draws its items from, when the keys stay as they are."""
        first = node.generators[0]
        names = first.target.elts if isinstance(first.target, ast.Tuple) else []
        call = first.iter
        if not (
            len(node.generators) == 1
            and isinstance(call, ast.Call)
            and isinstance(call.func, ast.Attribute)
            and call.func.attr == "items"
            and isinstance(node.key, ast.Name)
            and names
            and isinstance(names[0], ast.Name)
            and names[0].id == node.key.id
        ):
            return None
        with self._quietly():
            holder = self.evaluate(call.func.value)
        return holder.of if isinstance(holder, Map) and holder.of is not None else holder

    def _generate(
        self, parts: list[ast.comprehension], index: int, add: Callable[[], None], made: Seq | Map
    ) -> None:
        if index == len(parts):
            add()
            return
        part = parts[index]
        holder = self.evaluate(part.iter)
        items = self.iterate(holder)
        if items is None:
            made.open = True
            if isinstance(made, Seq) and index == 0:
                made.of = holder
                made.excludes = self._kept_out(part)
            items = [self.element(holder)]
        for item in items[:LONGEST]:
            self.bind_target(part.target, item)
            came: bool | None = True
            certain = self.certain
            try:
                for test in part.ifs:
                    truth = self.truth(self.evaluate(test))
                    if truth is False:
                        came = False
                        break
                    if truth is None:
                        came = None
                        self.certain = False
                if came is None:
                    made.open = True
                if came is not False:
                    self._generate(parts, index + 1, add, made)
            finally:
                self.certain = certain

    def _kept_out(self, part: ast.comprehension) -> tuple[Value, ...]:
        """Values that `for x in … if x not in (…)` or `if x != …` leaves out for sure."""
        found: list[Value] = []
        if not isinstance(part.target, ast.Name):
            return ()
        for test in part.ifs:
            if not (
                isinstance(test, ast.Compare)
                and len(test.ops) == 1
                and isinstance(test.left, ast.Name)
                and test.left.id == part.target.id
            ):
                continue
            with self._quietly():
                other = self.evaluate(test.comparators[0])
            if isinstance(test.ops[0], ast.NotEq):
                found.append(other)
            elif isinstance(test.ops[0], ast.NotIn) and isinstance(other, Seq | ListNode):
                found.extend(other.items)
        return tuple(found)

    def _quietly(self) -> Any:
        from contextlib import contextmanager

        @contextmanager
        def quiet() -> Any:
            self.quiet += 1
            try:
                yield
            finally:
                self.quiet -= 1

        return quiet()

    # -- iteration

    def iterate(self, value: Value) -> list[Value] | None:
        """The items of a loop over `value`, None when they are not all known."""
        value = shown(value)
        if isinstance(value, Seq):
            return None if value.open else list(value.items)
        if isinstance(value, ListNode):
            return [config.resolve_quietly(item, value) for item in value.items]
        if isinstance(value, Node):
            return None if value.open else [Known(key) for key in value.items]
        if isinstance(value, Map):
            if value.open or any(
                isinstance(item, OneOf) and ABSENT in item.options for item in value.items.values()
            ):
                return None
            return [key if isinstance(key, Value) else Known(key) for key in value.items]
        if isinstance(value, Known) and isinstance(value.value, str) and len(value.value) <= LONGEST:
            return [Known(letter) for letter in value.value]
        return None

    def element(self, value: Value) -> Value:
        """Some item of a loop over `value`."""
        value = shown(value)
        if isinstance(value, External):
            return External(f"{value.path}[]", value)
        if isinstance(value, Seq):
            if value.of is not None and not value.items:
                return self.element(value.of)
            return join((*value.items, UNKNOWN)) if value.items else UNKNOWN
        if isinstance(value, Map):
            keys = [key if isinstance(key, Value) else Known(key) for key in value.items]
            return join((*keys, UNKNOWN)) if keys else UNKNOWN
        if isinstance(value, OneOf):
            return join(self.element(option) for option in value.options if option is not ABSENT)
        if isinstance(value, Unknown):
            return unknown_of(value)
        if isinstance(value, Instance):
            for name in ("__iter__", "__getitem__"):
                found = value.cls.find(name)
                if isinstance(found, Function):
                    given: list[Value] = [UNKNOWN] if name == "__getitem__" else []
                    made = self.call(bind(found, value), given, {}, None)
                    return self.element(made) if name == "__iter__" else made
        return UNKNOWN

    def bind_target(self, target: ast.expr, value: Value) -> None:
        """Assign `value` to a target. Statements extend it."""
        if isinstance(target, ast.Name):
            self.put(self.scope.names, target.id, value)
        elif isinstance(target, ast.Tuple | ast.List):
            self._unpack(target.elts, value)
        elif isinstance(target, ast.Starred):
            self.bind_target(target.value, value)

    def _unpack(self, targets: list[ast.expr], value: Value) -> None:
        starred = next((i for i, part in enumerate(targets) if isinstance(part, ast.Starred)), None)
        items = self.iterate(value) if isinstance(value, Seq | ListNode) else None
        if isinstance(value, OneOf):
            lists = [self.iterate(o) for o in value.options if isinstance(o, Seq)]
            good = [found for found in lists if found is not None and len(found) == len(targets)]
            if good and starred is None:
                for position, target in enumerate(targets):
                    self.bind_target(target, join(found[position] for found in good))
                return
        if items is not None and starred is None and len(items) == len(targets):
            for target, item in zip(targets, items, strict=True):
                self.bind_target(target, item)
            return
        if items is not None and starred is not None and len(items) >= len(targets) - 1:
            tail = len(targets) - starred - 1
            for target, item in zip(targets[:starred], items, strict=False):
                self.bind_target(target, item)
            self.bind_target(targets[starred], Seq(items[starred : len(items) - tail]))
            for target, item in zip(targets[starred + 1 :], items[len(items) - tail :], strict=False):
                self.bind_target(target, item)
            return
        if items is not None and starred is None and isinstance(value, Seq):
            few = "too many" if len(items) > len(targets) else "not enough"
            says = f"{few} values to unpack (expected {len(targets)}, got {len(items)})"
            self.fault(targets[0], "ValueError", says)
        for target in targets:
            inner: Value = UNKNOWN
            if isinstance(value, External):
                inner = External(f"{value.path}[]", value)
            elif isinstance(value, Unknown):
                inner = unknown_of(value)
            elif isinstance(value, OneOf):
                inner = join(self.element(o) for o in value.options if isinstance(o, External | Unknown))
            self.bind_target(target, inner)

    # -- calls

    def _call(self, node: ast.Call) -> Value:
        if isinstance(node.func, ast.Name) and node.func.id == "super" and not node.args:
            return self._super()
        func = self.evaluate(node.func)
        args: list[Value] = []
        kwargs: dict[str, Value] = {}
        spread = False
        for part in node.args:
            if isinstance(part, ast.Starred):
                items = self.iterate(self.evaluate(part.value))
                if items is None:
                    spread = True
                else:
                    args.extend(items)
            else:
                args.append(self.evaluate(part))
        for keyword in node.keywords:
            value = self.evaluate(keyword.value)
            if keyword.arg is not None:
                kwargs[keyword.arg] = value
            else:
                made = Map()
                self.spread(made, value)
                kwargs.update({k: v for k, v in made.items.items() if isinstance(k, str)})
                spread = spread or made.open
        return self.call(func, args, kwargs, node, spread)

    def _super(self) -> Value:
        scope: Scope | None = self.scope
        while scope is not None:
            owner = scope.names.get("<class>")
            instance = scope.names.get("<self>")
            if isinstance(owner, Class) and instance is not None:
                return Super(owner, instance)
            scope = scope.outer
        return UNKNOWN

    def call(
        self,
        func: Value,
        args: list[Value],
        kwargs: dict[str, Value],
        node: ast.Call | None,
        spread: bool = False,
    ) -> Value:
        """Call `func`, wherever it is from."""
        if isinstance(func, Function):
            return self.enter(func, args, kwargs, node, spread)
        if isinstance(func, External):
            return self.outside(func, args, kwargs, node, spread)
        if isinstance(func, Class):
            return self.construct(func, args, kwargs, node, spread)
        if isinstance(func, Method):
            call = Call(*self.context(node), func.name, tuple(args), kwargs, node, spread)
            return self.method(func, call)
        if isinstance(func, Instance):
            found = func.cls.find("__call__") or func.cls.find("forward")
            if isinstance(found, Function):
                return self.enter(bind(found, func), args, kwargs, node, spread)
            outside = func.cls.outside_base()
            if outside is not None:
                return self.outside(External(f"{outside.path}()", func), args, kwargs, node, spread)
            return UNKNOWN
        if isinstance(func, OneOf):
            found_all = []
            with self.perhaps():
                for option in func.options:
                    if option is not ABSENT and not (isinstance(option, Known) and option.value is None):
                        found_all.append(self.call(option, list(args), dict(kwargs), node, spread))
            return join(found_all)
        if isinstance(func, Known):
            kind = type(func.value).__name__
            self.fault(node, "TypeError", f"'{kind}' object is not callable")
            return UNKNOWN
        self.callbacks(args, kwargs)
        return unknown_of(func, *args, *kwargs.values())

    def method(self, func: Method, call: Call) -> Value:
        kind: type = type(func.of)
        model = METHODS.get((kind, func.name)) or METHODS.get((Value, func.name))
        value: Value = UNKNOWN
        if model is not None:
            value = model(self, func.of, call)
        elif isinstance(func.of, Known):
            value = known_method(self, func.of.value, func.name, call)
        return _derived(value, call, func.of)

    def outside(
        self,
        func: External,
        args: list[Value],
        kwargs: dict[str, Value],
        node: ast.Call | None,
        spread: bool = False,
    ) -> Value:
        """Call something from outside the bundle."""
        call = Call(*self.context(node), func.path, tuple(args), kwargs, node, spread, of=func.base)
        self.emit(call)
        if func.path.endswith("().__init__") and isinstance(func.base, Instance):
            func.base.attrs["<base>"] = External(func.path.removesuffix(".__init__"), None, call)
        model = CALLS.get(func.path) or CALLS.get(f"{func.path.rpartition('.')[0]}.*")
        if model is not None:
            value = model(self, call)
            if value is not None:
                return _derived(value, call)
        else:
            tail = func.path.rpartition(".")[2]
            shared = CALLS.get(f"*.{tail}")
            if shared is not None and func.base is not None:
                value = shared(self, _with_base(call, func.base))
                if value is not None:
                    return _derived(value, call, func.base)
            self.callbacks(args, kwargs)
        return External(f"{func.path}()", func.base, call)

    def callbacks(self, args: list[Value], kwargs: dict[str, Value]) -> None:
        """Functions that are handed out may be called."""
        for value in (*args, *kwargs.values()):
            if isinstance(value, Function) and len(self.stack) < DEPTH:
                with self.perhaps():
                    self.try_out(value)

    def try_out(self, func: Function, *given: Value) -> Value:
        """Call `func` with arguments of which nothing is known beyond `given`."""
        names = [a.arg for a in (*func.node.args.posonlyargs, *func.node.args.args)]
        if func.bound is not None and names:
            names = names[1:]
        needed = len(names) - len(func.defaults)
        count = max(len(given), needed)
        args: list[Value] = [given[i] if i < len(given) else Unknown(n) for i, n in enumerate(names[:count])]
        return self.enter(func, args, {}, None, spread=True)

    def construct(
        self,
        cls: Class,
        args: list[Value],
        kwargs: dict[str, Value],
        node: ast.Call | None,
        spread: bool = False,
    ) -> Value:
        """Make an object of a class of the bundle."""
        made = Instance(cls)
        init = cls.find("__init__")
        if isinstance(init, Function):
            self.enter(bind(init, made), args, kwargs, node, spread)
        elif cls.dataclass:
            fields = [
                part.target.id
                for part in cls.node.body
                if isinstance(part, ast.AnnAssign) and isinstance(part.target, ast.Name)
            ]
            given = {**dict(zip(fields, args, strict=False)), **kwargs}
            for name in fields:
                made.attrs[name] = given.get(name, cls.attrs.get(name, UNKNOWN))
        elif (outside := cls.outside_base()) is not None:
            call = Call(*self.context(node), outside.path, tuple(args), kwargs, node, True)
            self.emit(call)
            made.attrs["<base>"] = External(f"{outside.path}()", None, call)
        return made

    def enter(
        self,
        func: Function,
        args: list[Value],
        kwargs: dict[str, Value],
        node: ast.Call | None,
        spread: bool = False,
    ) -> Value:
        """Call a function of the bundle. Statements are needed for it."""
        raise NotImplementedError

    def arguments(
        self,
        func: Function,
        args: list[Value],
        kwargs: dict[str, Value],
        node: ast.Call | None,
        spread: bool,
    ) -> dict[str, Value]:
        """What each parameter is bound to; a call that does not fit is a fault."""
        spec = func.node.args
        given = [func.bound, *args] if func.bound is not None else list(args)
        names = [a.arg for a in (*spec.posonlyargs, *spec.args)]
        keyword_only = [a.arg for a in spec.kwonlyargs]
        bound: dict[str, Value] = dict(zip(names, given, strict=False))
        rest = given[len(names) :]
        if spec.vararg is not None:
            bound[spec.vararg.arg] = Seq(rest, "tuple", spread)
        elif rest and not spread:
            takes = len(names) - (func.bound is not None)
            says = f"{func.name}() takes {takes} positional arguments but {len(args)} were given"
            self.fault(node, "TypeError", says, func.name)
        extra: dict[Any, Value] = {}
        for name, value in kwargs.items():
            if name in names[len(spec.posonlyargs) :] or name in keyword_only or name in names:
                bound[name] = value
            else:
                extra[name] = value
        if spec.kwarg is not None:
            bound[spec.kwarg.arg] = Map(extra, spread)
        elif extra and not spread:
            name = next(iter(extra))
            says = f"{func.name}() got an unexpected keyword argument '{name}'"
            self.fault(node, "TypeError", says, name)
        missing = []
        for name in (*names, *keyword_only):
            if name not in bound:
                if name in func.defaults:
                    bound[name] = func.defaults[name]
                else:
                    missing.append(name)
                    bound[name] = Unknown(name)
        if missing and not spread and node is not None:
            says = f"{func.name}() missing {len(missing)} required argument(s): {', '.join(missing)}"
            self.fault(node, "TypeError", says, missing[0])
        return bound

    def record_entry(self, func: Function, bound: dict[str, Value], node: ast.AST | None) -> None:
        self.emit(Entered(*self.context(node), func.name, func.scope.module.name, bound))


_TELLING = ("builtins.len", "builtins.isinstance", "builtins.hasattr", "builtins.type")
"""Calls that tell about their argument and hold nothing of it."""


def _derived(value: Value, call: Call, *more: Value) -> Value:
    """What a call gave; when that is not known, at least what it was made from."""
    if value is UNKNOWN and call.path not in _TELLING:
        return unknown_of(*more, *call.args, *call.kwargs.values())
    if isinstance(value, Text) and not value.of and None in value.parts:
        return Text(value.parts, (*more, *call.args))
    return value


PROGRESS = frozenset(
    f"{name}()" for name in ("tqdm.tqdm", "tqdm.auto.tqdm", "tqdm.notebook.tqdm", "rich.progress.track")
)


def shown(value: Value) -> Value:
    """What a progress bar goes over; any other value is itself."""
    while isinstance(value, External) and value.path in PROGRESS and value.call is not None:
        inner = value.call.argument(0, "iterable", "sequence")
        if inner is None:
            break
        value = inner
    return value


def _owner(node: ast.AST | None) -> str:
    """The expression of which an attribute is asked, as it is written."""
    return ast.unparse(node.value) if isinstance(node, ast.Attribute) else ""


def elsewhere(node: Node, key: str) -> tuple[str, Value]:
    """As mended: where `key` stands one level down, a section put below the root by mistake, and its value."""
    root: Value = node
    while isinstance(root, Node) and isinstance(root.parent, Node):
        root = root.parent
    found = []
    for name, section in list(root.items.items()) if isinstance(root, Node) else []:
        if isinstance(section, Node) and section is not node:
            value, there = config.select(section, key)
            if there and value is not None:
                found.append((f"{name}.{key}", value))
    return found[0] if len(found) == 1 else ("", Unknown(key))


def _with_base(call: Call, base: Value) -> Call:
    """The call with the object that the method belongs to in front of its arguments."""
    return Call(
        call.place,
        call.certain,
        call.guarded,
        call.stack,
        call.path,
        (base, *call.args),
        call.kwargs,
        call.node,
        call.spread,
        call.gave,
    )


def bind(func: Function, instance: Value) -> Function:
    """`func` as a method of `instance`; static methods stay as they are."""
    if "staticmethod" in func.wraps:
        return func
    bound = Function(func.node, func.scope, func.defaults, instance, func.owner)
    bound.hydra = func.hydra
    bound.wraps = func.wraps
    return bound


def assigned(cls: Class, name: str) -> bool:
    """Whether any method of the class (or of its bases in the bundle) sets `self.name`, or it is dynamic."""
    for node in walked(cls.node):
        if isinstance(node, ast.Attribute) and node.attr == name and isinstance(node.ctx, ast.Store):
            return True
        if isinstance(node, ast.FunctionDef) and node.name in ("__getattr__", "__getattribute__"):
            return True
        if isinstance(node, ast.Name) and node.id in ("setattr", "vars"):
            return True
        if isinstance(node, ast.Attribute) and node.attr == "__dict__":
            return True
    return any(isinstance(base, Class) and assigned(base, name) for base in cls.bases)


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


_WIDE = re.compile(r"\d{4}")
"""Widths and precisions of a thousand and more: nothing that a name or a number is written with."""


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


def known_method(walker: Expressions, value: Any, name: str, call: Call) -> Value:
    """A method of a plain immutable value, run for real when its arguments are plain too."""
    from labgate.flow.values import lift, plain

    if name not in SAFE:
        return UNKNOWN
    if name == "join" and len(call.args) == 1:
        holder = call.args[0]
        if isinstance(holder, Seq) and not holder.open:
            parts: list[Value] = []
            for index, item in enumerate(holder.items):
                if index:
                    parts.append(Known(value))
                parts.append(item)
            return concat(*parts)
        return Text((None,), call.args)
    if name == "format" and isinstance(value, str) and not call.spread:
        return format_text(walker, value, call)
    try:
        args = [plain(argument) for argument in call.args]
        kwargs = {key: plain(argument) for key, argument in call.kwargs.items()}
        if any(isinstance(argument, int) and abs(argument) > 10_000 for argument in args):
            return UNKNOWN
        made = getattr(value, name)(*args, **kwargs)
    except ValueError:
        return Text((None,)) if isinstance(value, str) and name not in ("split", "startswith") else UNKNOWN
    except Exception:
        return UNKNOWN
    if isinstance(made, str) and len(made) > 100_000:
        return Text((None,))
    return lift(made)


def format_text(walker: Expressions, template: str, call: Call) -> Value:
    """`template.format(...)` with some arguments unknown; a field that nothing was given for is a fault."""
    parts: list[Value] = []
    position = 0
    try:
        fields = list(string.Formatter().parse(template))
    except ValueError as error:
        walker.fault(call.node, "ValueError", str(error))
        return Text((None,))
    for literal, field, spec, _ in fields:
        parts.append(Known(literal))
        if field is None:
            continue
        name = re.split(r"[.\[]", field, maxsplit=1)[0]
        value: Value | None
        if name == "":
            value = call.args[position] if position < len(call.args) else None
            position += 1
        elif name.isdigit():
            value = call.args[int(name)] if int(name) < len(call.args) else None
        else:
            value = call.kwargs.get(name)
        if value is None and not call.spread:
            kind = "IndexError" if name == "" or name.isdigit() else "KeyError"
            words = f"{name!r} is a field of the template, and format() is given no such argument"
            walker.fault(call.node, kind, words, name)
        plain_spec = Known(spec) if spec else None
        parts.append(Text((None,)) if value is None or name != field else formatted(value, plain_spec, -1))
    return concat(*parts)


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

__all__ = ["CALLS", "METHODS", "CaughtError", "Expressions", "Flowing", "Method", "methods", "models"]
