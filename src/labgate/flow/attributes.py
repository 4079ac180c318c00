"""Names, attributes and items: what is asked of a value, and whether it has it."""

from __future__ import annotations

import ast
import builtins
from typing import Any

from labgate.bundle.syntax import walked
from labgate.flow import config
from labgate.flow.config import ConfigFault, ListNode, Node
from labgate.flow.events import Ask, Call, ConfigRead, How, Use
from labgate.flow.machine import Machine
from labgate.flow.registry import METHODS, PYTHON, Method, Super
from labgate.flow.values import (
    ABSENT,
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
    join,
    unknown_of,
)

FALSE_WHEN_RUN = ("typing.TYPE_CHECKING", "typing_extensions.TYPE_CHECKING")


class Attributes(Machine):
    """Reads names, attributes and items in `scope`."""

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
            return External(f"{outside.path}().{name}", base)
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


def _owner(node: ast.AST | None) -> str:
    """The expression of which an attribute is asked, as it is written."""
    return ast.unparse(node.value) if isinstance(node, ast.Attribute) else ""


def elsewhere(node: Node, key: str) -> tuple[str, Value]:
    """As mended: where `key` stands one level down, put below the root by mistake, and its value."""
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
