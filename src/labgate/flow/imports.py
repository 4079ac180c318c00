"""Modules of the bundle and how they are imported, and what is imported from outside."""

from __future__ import annotations

import ast

from labgate.flow.events import Use
from labgate.flow.loops import Loops
from labgate.flow.machine import Flowing
from labgate.flow.values import (
    ABSENT,
    UNKNOWN,
    External,
    Known,
    Module,
    OneOf,
    Value,
    join,
)

NEXT = Flowing.NEXT


class Imports(Loops):
    """Runs modules, once in a process."""

    def run_module(self, name: str, as_name: str) -> Module:
        source = self.bundle.module(name)
        assert source is not None
        module = Module(name, source.path)
        self.modules[name] = module
        module.scope.names["__name__"] = Known(as_name)
        outer = (self.path, getattr(self, "scope", module.scope), self.looping)
        self.path, self.scope = source.path, module.scope
        self.looping = 0
        try:
            if source.tree is not None:
                self.block(source.tree.body)
            else:
                module.open = True
        finally:
            self.path, self.scope, self.looping = outer
        return module

    def load(self, dotted: str, node: ast.AST | None) -> Value:
        if dotted in self.modules:
            return self.modules[dotted]
        source = self.bundle.module(dotted)
        if source is None:
            return UNKNOWN
        return self.run_module(dotted, dotted)

    def _import(self, node: ast.Import) -> int:
        for name in node.names:
            top = name.name.partition(".")[0]
            if self._ours(name.name):
                value = self.load(name.name, node)
                if name.asname is None:
                    value = self._package(name.name) if "." in name.name else value
            elif self._dangling(name.name):
                self.fault(node, "ModuleNotFoundError", f"No module named '{name.name}'", name.name)
                value = UNKNOWN
            else:
                self.emit(Use(*self.context(node), name.name, True))
                value = External(name.name if name.asname else top)
            self.put(self.scope.names, name.asname or top, value)
        return NEXT

    def _package(self, dotted: str) -> Value:
        """`import src.model` binds `src`."""
        top = dotted.partition(".")[0]
        package = self.modules.get(top)
        if package is None:
            package = self.modules[top] = Module(top, top)
            package.open = True
        return package

    def _ours(self, dotted: str) -> bool:
        return self.bundle.module(dotted) is not None

    def _dangling(self, dotted: str) -> bool:
        """Whether a module is asked of the bundle's own `src` that is not there."""
        top = dotted.partition(".")[0]
        if top == "src":
            folder = dotted.replace(".", "/") + "/"
            return not any(path.startswith(folder) for path in self.bundle.sources)
        return False

    def _import_from(self, node: ast.ImportFrom) -> int:
        dotted = self._absolute(node)
        if dotted is None:
            for name in node.names:
                self.put(self.scope.names, name.asname or name.name, UNKNOWN)
            return NEXT
        if dotted == "__future__":
            return NEXT
        if self._ours(dotted):
            self._from_module(self.load(dotted, node), node)
            return NEXT
        if self._dangling(dotted):
            self.fault(node, "ModuleNotFoundError", f"No module named '{dotted}'", dotted)
        folder = dotted.replace(".", "/") + "/"
        package = any(path.startswith(folder) for path in self.bundle.sources)
        for name in node.names:
            if name.name == "*":
                self.scope.module.open = True
                self.emit(Use(*self.context(node), dotted, True))
                continue
            whole = f"{dotted}.{name.name}"
            value: Value
            if self._ours(whole):
                value = self.load(whole, node)
            elif package or self._dangling(dotted):
                if package:
                    says = f"cannot import name '{name.name}' from '{dotted}'"
                    self.fault(node, "ImportError", says, whole)
                value = UNKNOWN
            elif self._sibling(dotted):
                value = UNKNOWN
                self.fault(node, "ModuleNotFoundError", f"No module named '{dotted}'", dotted)
            else:
                self.emit(Use(*self.context(name if hasattr(name, "lineno") else node), whole, True))
                value = self.argv if whole == "sys.argv" else External(whole)
            self.put(self.scope.names, name.asname or name.name, value)
        return NEXT

    def _sibling(self, dotted: str) -> bool:
        """`from preprocess import x` for `src/preprocess.py`: not on the path under `python -m src.main`."""
        if "." in dotted or self.path.count("/") != 1:
            return False
        folder = self.path.rpartition("/")[0]
        if f"{folder}/{dotted}.py" not in self.bundle.sources:
            return False
        if dotted in ("evaluate",):
            return False  # also a package of that name; which one is meant cannot be told from here
        return not any("sys.path" in source.text for source in self.bundle.sources.values())

    def _absolute(self, node: ast.ImportFrom) -> str | None:
        if not node.level:
            return node.module
        parts = self.scope.module.name.split(".")
        base = parts[: len(parts) - node.level]
        if not base:
            return None
        return ".".join([*base, node.module] if node.module else base)

    def _from_module(self, module: Value, node: ast.ImportFrom) -> None:
        if not isinstance(module, Module):
            return
        for name in node.names:
            if name.name == "*":
                for key, value in list(module.scope.names.items()):
                    if not key.startswith("_"):
                        self.put(self.scope.names, key, value)
                continue
            found = module.scope.names.get(name.name)
            if found is None:
                dotted = f"{module.name}.{name.name}"
                loading = module.scope is self.scope or self._still_loading(module)
                if self._ours(dotted):
                    found = self.load(dotted, node)
                elif module.open or loading:
                    found = UNKNOWN
                else:
                    says = f"cannot import name '{name.name}' from '{module.name}' ({module.path})"
                    self.fault(node, "ImportError", says, dotted)
                    found = UNKNOWN
            if isinstance(found, OneOf) and ABSENT in found.options:
                found = join(option for option in found.options if option is not ABSENT)
            self.put(self.scope.names, name.asname or name.name, found)

    def _still_loading(self, module: Module) -> bool:
        source = self.bundle.module(module.name)
        if source is None or source.tree is None or not source.tree.body:
            return True
        defined = {
            part.name
            for part in source.tree.body
            if isinstance(part, ast.FunctionDef | ast.ClassDef | ast.AsyncFunctionDef)
        }
        return not defined <= module.scope.names.keys()
