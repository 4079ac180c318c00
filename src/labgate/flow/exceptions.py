"""What may raise and what catches it: `raise`, `assert`, `try`, `with`."""

from __future__ import annotations

import ast
from typing import Any

from labgate.bundle.syntax import called
from labgate.flow.attributes import bind
from labgate.flow.imports import Imports
from labgate.flow.machine import ANCESTORS, CaughtError, Flowing
from labgate.flow.models.omegaconf import opened
from labgate.flow.values import (
    UNKNOWN,
    External,
    Function,
    Instance,
    Unknown,
    Value,
    text_of,
)

NEXT = Flowing.NEXT

_OF_IMPORTS = frozenset(("ImportError", "ModuleNotFoundError"))


class Exceptions(Imports):
    """Follows what is raised to where it is caught."""

    def _raise(self, node: ast.Raise) -> int:
        value = self.evaluate(node.exc)
        if self.certain and node.exc is not None:
            kind = _exception_name(value) if isinstance(value, External) else getattr(value, "kind", "")
            self.raised(node, kind.removesuffix("()"), value)
        return Flowing.RAISE

    def raised(self, node: ast.Raise, kind: str, value: Value) -> None:
        """The code is sure to raise by itself: what it starts with is not what it asks for."""
        said = (
            value.call.args[0] if isinstance(value, External) and value.call and value.call.args else UNKNOWN
        )
        words = str(getattr(text_of(said), "value", text_of(said)))
        self.fault(node, kind or "Exception", f"raised by the code itself: {words[:120]}", "raise")

    def _assert(self, node: ast.Assert) -> int:
        self.evaluate(node.test)
        return NEXT

    def _with(self, node: ast.With | ast.AsyncWith) -> int:
        leave: list[Any] = []
        guarded = 0
        for item in node.items:
            value = self.evaluate(item.context_expr)
            if isinstance(value, External) and value.call is not None:
                path = value.call.path
                if path in ("omegaconf.open_dict", "omegaconf.flag_override"):
                    leave.append(opened(self, value.call))
                elif path == "contextlib.suppress":
                    names = {_exception_name(argument) for argument in value.call.args}
                    self.guards.append(frozenset(names))
                    guarded += 1
            if item.optional_vars is not None:
                self.bind_target(item.optional_vars, self._entered(value))
        level = len(self.guards) - 1
        try:
            return self.block(node.body)
        except CaughtError as caught:
            if guarded and level - guarded < caught.level <= level:
                return NEXT
            raise
        finally:
            for undo in reversed(leave):
                undo()
            if guarded:
                del self.guards[-guarded:]

    def _entered(self, value: Value) -> Value:
        if isinstance(value, Instance):
            found = value.cls.find("__enter__")
            if isinstance(found, Function):
                return self.call(bind(found, value), [], {}, None)
        return value

    def _try(self, node: ast.Try | ast.TryStar) -> int:
        names: set[str] = set()
        for handler in node.handlers:
            names |= self._caught_names(handler)
        level = len(self.guards)
        caught = False
        before = self.certain
        self.guards.append(frozenset(names))
        try:
            end = self.block(node.body)
        except CaughtError as error:
            if error.level != level:
                raise
            caught, end = True, 0
            fault = error.fault
        finally:
            del self.guards[level:]
            self.certain = before
        if caught:
            end = self._handle(node, fault.kind)
        else:
            handlers = [] if names <= _OF_IMPORTS and self._all_ours(node.body) else node.handlers
            swallowing = [handler for handler in handlers if not _always_raises(handler.body)]
            if end & NEXT:
                end = (end & ~NEXT) | self.block(node.orelse)
            if swallowing:
                handled = self.fork([lambda: NEXT, *[lambda h=h: self._handler(h) for h in swallowing]])
                # what follows the statement happens either way; only leaving from a handler makes it doubtful
                end |= handled & ~NEXT
            for handler in handlers:
                if handler not in swallowing:
                    self.fork([lambda: NEXT, lambda h=handler: self._handler(h)])  # type: ignore[misc]
        final = self.block(node.finalbody)
        return end if final & NEXT else final

    def _all_ours(self, body: list[ast.stmt]) -> bool:
        """Whether nothing is done but to import files of the bundle; they were followed, and did not fail."""
        for node in body:
            if isinstance(node, ast.Import):
                names = [name.name for name in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [self._absolute(node) or ""]
            else:
                return False
            if not all(map(self._ours, names)):
                return False
        return True

    def _handle(self, node: ast.Try | ast.TryStar, kind: str) -> int:
        names = {kind, *ANCESTORS.get(kind, ()), "Exception", "BaseException"}
        for handler in node.handlers:
            if self._caught_names(handler) & names:
                return self._handler(handler)
        return Flowing.RAISE

    def _handler(self, handler: ast.ExceptHandler) -> int:
        if handler.name:
            self.put(self.scope.names, handler.name, Unknown("exception"))
        return self.block(handler.body)

    def _caught_names(self, handler: ast.ExceptHandler) -> set[str]:
        if handler.type is None:
            return {"BaseException"}
        parts = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
        found = set()
        for part in parts:
            if isinstance(part, ast.Attribute):
                found.add(part.attr)
            elif isinstance(part, ast.Name):
                found.add(part.id)
        return found


def _always_raises(body: list[ast.stmt]) -> bool:
    """Whether a block cannot be left but by an exception or the end of the process."""
    if not body:
        return False
    last = body[-1]
    if isinstance(last, ast.Raise):
        return True
    if isinstance(last, ast.Expr) and isinstance(last.value, ast.Call):
        return called(last.value) in ("exit", "_exit", "abort", "error")
    if isinstance(last, ast.If):
        return _always_raises(last.body) and _always_raises(last.orelse)
    return False


def _exception_name(value: Value) -> str:
    return value.path.removesuffix("()").rpartition(".")[2] if isinstance(value, External) else "Exception"
