"""Blocks of statements, and those that bind: assignments to names, attributes and items, and `del`."""

from __future__ import annotations

import ast
from typing import Any

from labgate.flow.config import ConfigFault, ListNode, Node
from labgate.flow.events import ConfigWrite, Put
from labgate.flow.expressions import Expressions
from labgate.flow.machine import Flowing
from labgate.flow.operators import hashable
from labgate.flow.values import (
    ABSENT,
    UNKNOWN,
    Class,
    External,
    Instance,
    Known,
    Map,
    Module,
    OneOf,
    Seq,
    Text,
    Unknown,
    Value,
    options,
    unknown_of,
)

NEXT = Flowing.NEXT


class Statements(Expressions):
    """Follows blocks, and binds."""

    def block(self, body: list[ast.stmt]) -> int:
        """Follow statements in order; how the block may be left."""
        left = 0
        certain = self.certain
        try:
            for statement in body:
                end = self.statement(statement)
                left |= end & ~NEXT
                if not end & NEXT:
                    return left
                if end & (Flowing.RETURN | Flowing.BREAK | Flowing.CONTINUE):
                    self.certain = False
        finally:
            self.certain = certain
        return left | NEXT

    def statement(self, node: ast.stmt) -> int:
        """Follow one statement; how it may be left. All kinds are known to `walker.Walker`."""
        raise NotImplementedError

    def _assign(self, node: ast.Assign) -> int:
        value = self.evaluate(node.value)
        for target in node.targets:
            self.bind_target(target, value)
        return NEXT

    def _annotated(self, node: ast.AnnAssign) -> int:
        if node.value is not None:
            self.bind_target(node.target, self.evaluate(node.value))
        return NEXT

    def _augmented(self, node: ast.AugAssign) -> int:
        loaded = _as_load(node.target)
        left, right = self.evaluate(loaded), self.evaluate(node.value)
        if isinstance(left, Seq) and isinstance(node.op, ast.Add):
            self.alter(left)
            items = self.iterate(right)
            if items is None or self.looping:
                left.open = True
            if items is None:
                drawn = self.element(right)
                items = [] if drawn is UNKNOWN or any(drawn == item for item in left.items) else [drawn]
            left.items.extend(items)
            return NEXT
        value = self.binary(left, node.op, right, node)
        if self.looping and isinstance(value, Known):
            value = Unknown("changes in a loop")
        if isinstance(value, Unknown) and self.doubts:
            value = unknown_of(value, *self.doubts)
        self.bind_target(node.target, value)
        return NEXT

    def bind_target(self, target: ast.expr, value: Value) -> None:
        if isinstance(target, ast.Attribute):
            self.set_attribute(self.evaluate(target.value), target.attr, value, target)
        elif isinstance(target, ast.Subscript):
            holder = self.evaluate(target.value)
            key = UNKNOWN if isinstance(target.slice, ast.Slice) else self.evaluate(target.slice)
            self.set_item(holder, key, value, target)
        else:
            super().bind_target(target, value)

    def set_attribute(self, holder: Value, name: str, value: Value, node: ast.AST | None) -> None:
        """`holder.name = value`."""
        if isinstance(holder, Node):
            self.write_config(holder, name, value, node, attribute=True)
        elif isinstance(holder, Instance | Class):
            self.put(holder.attrs, name, value)
        elif isinstance(holder, Module):
            self.put(holder.scope.names, name, value)
        elif isinstance(holder, External):
            if holder.path == "sys" and name == "argv" and isinstance(value, Seq):
                self.argv = value
            path = f"{holder.path}.{name}"
            self.emit(Put(*self.context(node), holder, path, Known(name), value, True))
        elif isinstance(holder, OneOf):
            with self.perhaps():
                for option in holder.options:
                    if isinstance(option, Node | Instance | External):
                        self.set_attribute(option, name, value, node)
        elif isinstance(holder, Known) and holder.value is None:
            says = f"'NoneType' object has no attribute '{name}'"
            self.fault(node, "AttributeError", says, name)

    def set_item(self, holder: Value, key: Value, value: Value, node: ast.AST | None) -> None:
        """`holder[key] = value`."""
        if isinstance(holder, Node):
            for option in options(key):
                if isinstance(option, Known):
                    self.write_config(holder, option.value, value, node, attribute=False)
                else:
                    self.emit(ConfigWrite(*self.context(node), holder.under("*"), value, False, False))
        elif isinstance(holder, Map):
            if isinstance(key, Known) and hashable(key.value):
                self.put(holder.items, key.value, value)
            elif isinstance(key, Text):
                self.put(holder.items, key, value)
            else:
                self.alter(holder)
                holder.open = True
        elif isinstance(holder, Seq):
            self.alter(holder)
            index = key.value if isinstance(key, Known) else None
            if isinstance(index, int) and -len(holder.items) <= index < len(holder.items):
                holder.items[index] = value
            else:
                holder.open = True
        elif isinstance(holder, ListNode):
            if isinstance(key, Known) and isinstance(key.value, int) and key.value < len(holder.items):
                self.alter(holder)
                holder.items[key.value] = value
        elif isinstance(holder, External):
            self.emit(Put(*self.context(node), holder, holder.path, key, value))
        elif isinstance(holder, OneOf):
            with self.perhaps():
                for option in holder.options:
                    if option is not ABSENT:
                        self.set_item(option, key, value, node)

    def write_config(
        self, holder: Node, name: Any, value: Value, node: ast.AST | None, attribute: bool
    ) -> None:
        """`holder.name = value` in a configuration, as struct mode has it."""
        key = holder.under(name)
        struct = holder.flag("struct")
        try:
            new = holder.assign(name, value, self.put, attribute)
            self.emit(ConfigWrite(*self.context(node), key, value, new, struct))
        except ConfigFault as fault:
            self.emit(ConfigWrite(*self.context(node), key, value, True, struct))
            self.fault(node, fault.kind, fault.says, key)
            holder.force(name, value, self.put)
            made = holder.items[name]
            if isinstance(made, Node):
                self.put(made.flags, "struct", False)

    def _delete(self, node: ast.Delete) -> int:
        for target in node.targets:
            if isinstance(target, ast.Name):
                self.drop(self.scope.names, target.id)
            elif isinstance(target, ast.Subscript):
                holder, key = self.evaluate(target.value), self.evaluate(target.slice)
                if isinstance(holder, Map) and isinstance(key, Known):
                    self.drop(holder.items, key.value)
                elif isinstance(holder, Node) and isinstance(key, Known):
                    if holder.flag("struct"):
                        says = "DictConfig in struct mode does not support deletion"
                        self.fault(target, "ConfigTypeError", says, holder.under(key.value))
                    self.drop(holder.items, key.value)
            elif isinstance(target, ast.Attribute):
                outer = self.evaluate(target.value)
                if isinstance(outer, Node):  # which struct mode does not mind
                    self.drop(outer.items, target.attr)
        return NEXT


def _as_load(target: ast.expr) -> ast.expr:
    if isinstance(target, ast.Name):
        return ast.copy_location(ast.Name(target.id, ast.Load()), target)
    return target
