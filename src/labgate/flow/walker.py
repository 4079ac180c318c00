"""Statements, functions, modules and processes: following one command from its first line to its last."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from labgate.bundle.kept import kept
from labgate.bundle.syntax import below, every, walked
from labgate.flow.attributes import bind
from labgate.flow.config import ConfigFault, ListNode, Node
from labgate.flow.events import Call, ConfigWrite, Fault, Put, Started, Test, Use, Walk
from labgate.flow.expressions import Expressions
from labgate.flow.machine import DEPTH, ROOT, CaughtError, Flowing
from labgate.flow.operators import hashable
from labgate.flow.registry import LONGEST
from labgate.flow.values import (
    ABSENT,
    NONE,
    UNKNOWN,
    Class,
    External,
    Function,
    Instance,
    Known,
    Map,
    Module,
    OneOf,
    Scope,
    Seq,
    Text,
    Unknown,
    Value,
    join,
    options,
    text_of,
    unknown_of,
)

if TYPE_CHECKING:
    from labgate.bundle import Bundle
    from labgate.compose import Compositions

NEXT = Flowing.NEXT

STANDARD_LEAKS = {"sys.exit", "os._exit", "builtins.exit", "builtins.quit", "os.abort"}


_OF_ITS_OWN = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef)
"""What opens a scope: its statements are not those of the block around it."""

REPEATS = 3
"""Times that a function is followed with arguments of the same look, before its result is taken as known."""
ROUNDS = 60
"""Times that one function is followed on a walk at all."""


_OF_IMPORTS = frozenset(("ImportError", "ModuleNotFoundError"))


class Walker(Expressions):
    """Follows one command."""

    def __init__(self, bundle: Bundle, walk: Walk, compositions: Compositions | None) -> None:
        super().__init__(bundle, walk)
        self.compositions = compositions
        self.hydra_directory: str | None = None
        self.parsers: dict[int, Any] = {}
        self.parsed: list[tuple[Call, tuple[Call, ...]]] = []
        self.loaded: dict[str, Module] = {}
        self.argv = Seq()
        self.launch_known = True
        self.returns: list[Value] = []
        self.results: dict[Any, tuple[int, Value, dict[str, Value]]] = {}
        self.rounds: dict[int, int] = {}

    def start(self, module: str, words: list[Value]) -> None:
        """`python -m module words…` in a process of its own."""
        source = self.bundle.module(module)
        outer = (self.modules, self.path, self.guards, self.active, self.argv, self.parsers)
        argv = tuple(str(getattr(text_of(word), "value", text_of(word))) for word in words)
        self.emit(Started(*self.context(None), module, argv))
        self.modules, self.guards, self.active, self.parsers = {}, [], {}, {}
        program = f"{ROOT}/{module.replace('.', '/')}.py"
        self.argv = Seq([Known(program), *words])
        try:
            if source is not None and source.tree is not None:
                self.run_module(module, "__main__")
        finally:
            self.loaded.update(self.modules)
            self.modules, self.path, self.guards, self.active, self.argv, self.parsers = outer

    def spawn(self, module: str, words: list[Value], call: Call, sure: bool = True) -> None:
        """A child process that the code starts.

        Not `sure` when its arguments are not all known: the command's own are taken in their place, and
        whether they compose is then not sure either.
        """
        if len(self.stack) >= DEPTH or self.active.get(hash(module), 0):
            return
        outer = (self.scope, self.looping, self.launch_known)
        self.launch_known = sure
        self.stack.append(call.place)
        try:
            self.start(module, words if sure else [Known(word) for word in self.walk.argv])
        finally:
            self.stack.pop()
            self.scope, self.looping, self.launch_known = outer

    def missing(self, relative: str) -> bool:
        """Whether a file that the code opens is sure not to be there: configuration comes with the bundle."""
        return (
            relative.startswith("config/")
            and relative.endswith((".yaml", ".yml"))
            and relative not in self.bundle.files
        )

    def config_name(self, module: str) -> str:
        """The path of the primary config of `module`'s Hydra program, for evidence."""
        main = self.compositions.mains.get(module) if self.compositions is not None else None
        if main is None or main.config_dir is None or not main.config_name:
            return ""
        return f"{main.config_dir}/{main.config_name}.yaml"

    def namespace(self) -> Instance:
        """An object whose attributes are all known to be there or not."""
        node = ast.ClassDef("Namespace", [], [], [], [])
        return Instance(Class(node, self.scope, []))

    def converted(self, kind: Value, value: Value, call: Call) -> Value:
        """A command-line word through an argument's `type`."""
        if isinstance(value, Seq):
            return Seq([self.converted(kind, item, call) for item in value.items], value.kind)
        before = len(self.walk.events)
        made = self.call(kind, [value], {}, call.node)
        for event in self.walk.events[before:]:
            if isinstance(event, Fault) and event.kind in ("ValueError", "TypeError", "JSONDecodeError"):
                event.says = f"argument type conversion failed: {event.says}"
        return made

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

    # -- blocks

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
        self.step()
        method = _DISPATCH.get(type(node))
        return method(self, node) if method else NEXT

    def _expression(self, node: ast.Expr) -> int:
        value = self.evaluate(node.value)
        if isinstance(value, External) and value.call is not None and value.call.path in STANDARD_LEAKS:
            return Flowing.RAISE
        if isinstance(node.value, ast.Call) and isinstance(value, Leaving):
            return Flowing.RAISE
        return NEXT

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

    # -- imports

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

    # -- definitions

    def _function(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
        func = Function(node, self.scope, self.defaults(node.args))
        value: Value = func
        wraps: set[str] = set()
        for decorator in reversed(node.decorator_list):
            made = self.evaluate(decorator)
            called = made.call if isinstance(made, External) else None
            path = made.path.removesuffix("()") if isinstance(made, External) else ""
            if path == "hydra.main" and called is not None:
                func.hydra = called
            elif path:
                wraps.add(path.rpartition(".")[2])
            elif isinstance(made, Function):
                with self.perhaps():
                    result = self.call(made, [value], {}, None)
                value = result if isinstance(result, Function) and not _is_wrapper(made, result) else value
        func.wraps = frozenset(wraps)
        self.put(self.scope.names, node.name, value)
        return NEXT

    def _class(self, node: ast.ClassDef) -> int:
        bases: list[Value] = [self.evaluate(base) for base in node.bases]
        cls = Class(node, self.scope, [base if base is not UNKNOWN else External("") for base in bases])
        outer, self.scope = self.scope, Scope(self.scope.module, self.scope)
        try:
            self.block(node.body)
            for name, value in self.scope.names.items():
                if isinstance(value, Function):
                    value.owner = cls
                    value.scope = outer
                cls.attrs[name] = value
        finally:
            self.scope = outer
        for decorator in node.decorator_list:
            made = self.evaluate(decorator)
            if isinstance(made, External) and made.path.removesuffix("()").endswith("dataclass"):
                cls.dataclass = True
        self.put(self.scope.names, node.name, cls)
        return NEXT

    def enter(
        self,
        func: Function,
        args: list[Value],
        kwargs: dict[str, Value],
        node: ast.Call | None,
        spread: bool = False,
    ) -> Value:
        if func.hydra is not None and not args and not kwargs:
            from labgate.flow.models.hydra import hydra_argument

            args = [hydra_argument(self, func, func.hydra)]
        bound = self.arguments(func, args, kwargs, node, spread)
        key = id(func.node)
        if len(self.stack) >= DEPTH or self.active.get(key, 0) >= 2:
            return UNKNOWN
        again = (key, _fingerprint(bound))
        met = self.results.get(again)
        if met is not None and met[0] >= REPEATS:
            return met[1]
        self.rounds[key] = self.rounds.get(key, 0) + 1
        if self.rounds[key] > ROUNDS:
            return UNKNOWN
        self.record_entry(func, bound, node)
        self.entered.add(key)
        inner = Scope(func.scope.module, func.scope)
        inner.names.update(bound)
        if func.owner is not None and func.bound is not None:
            inner.names["<class>"] = func.owner
            inner.names["<self>"] = func.bound
        outer = (self.scope, self.path, self.certain, self.looping)
        doubts, self.doubts = self.doubts, []
        self.stack.append(self.place(node))
        self.active[key] = self.active.get(key, 0) + 1
        self.scope = inner
        self.path = func.scope.module.path
        self.looping = 0
        returns, self.returns = self.returns, []
        try:
            made = self._body(func.node, inner)
            self.results[again] = (met[0] + 1 if met else 1, made, bound)
            return made
        finally:
            self.returns = returns
            self.active[key] -= 1
            self.stack.pop()
            self.scope, self.path, self.certain, self.looping = outer
            self.doubts = doubts

    def _body(self, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda, inner: Scope) -> Value:
        if isinstance(node, ast.Lambda):
            return self.evaluate(node.body)
        if node in self._generators(inner.module):
            inner.names["<yielded>"] = Seq([], "list", True)
        end = self.block(node.body)
        if "<yielded>" in inner.names:
            return inner.names["<yielded>"]
        found = list(self.returns)
        if end & NEXT:
            found.append(NONE)
        return join(found) if found else Leaving()

    def _generators(self, module: Module) -> frozenset[ast.AST]:
        """The functions of a module that yield."""
        source = self.bundle.module(module.name)
        return _yielding(source.tree) if source is not None and source.tree is not None else frozenset()

    def _return(self, node: ast.Return) -> int:
        value = self.evaluate(node.value)
        self.returns.append(value)
        return Flowing.RETURN

    def _global(self, node: ast.Global | ast.Nonlocal) -> int:
        for name in node.names:
            scope = self.scope.outer
            while scope is not None:
                if name in scope.names:
                    self.scope.names[name] = scope.names[name]
                    break
                scope = scope.outer
            else:
                self.scope.names[name] = UNKNOWN
        return NEXT

    # -- control flow

    def _if(self, node: ast.If) -> int:
        test = self.evaluate(node.test)
        truth = self.truth(test)
        self.emit(Test(*self.context(node.test), node.test, truth, test))
        if truth is True:
            return self.block(node.body)
        if truth is False:
            return self.block(node.orelse)
        self.doubts.append(test)
        try:
            return self.fork(
                [
                    lambda: self._narrowed(node.test, True, node.body),
                    lambda: self._narrowed(node.test, False, node.orelse),
                ]
            )
        finally:
            self.doubts.pop()

    def _narrowed(self, test: ast.expr, came: bool, body: list[ast.stmt]) -> int:
        """Follow `body` where `test` came out as `came`: a name tested for None is known better."""
        if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
            return self._narrowed(test.operand, not came, body)
        if isinstance(test, ast.BoolOp) and isinstance(test.op, ast.And) and came:
            for part in test.values:
                self._narrow(part, True)
        else:
            self._narrow(test, came)
        return self.block(body)

    def _narrow(self, test: ast.expr, came: bool) -> None:
        name: str | None = None
        keep_none: bool | None = None
        if isinstance(test, ast.Name):
            name, keep_none = test.id, (None if not came else False)
        elif (
            isinstance(test, ast.Compare)
            and isinstance(test.left, ast.Name)
            and len(test.ops) == 1
            and isinstance(test.comparators[0], ast.Constant)
        ):
            constant = test.comparators[0].value
            if isinstance(test.ops[0], ast.Is | ast.IsNot) and constant is None:
                name, keep_none = test.left.id, isinstance(test.ops[0], ast.Is) is came
            elif isinstance(test.ops[0], ast.Eq | ast.NotEq):
                value = self.scope.names.get(test.left.id)
                if isinstance(test.ops[0], ast.Eq) is came and isinstance(value, OneOf | Unknown):
                    self.put(self.scope.names, test.left.id, Known(constant))
                return
        if name is None or keep_none is None:
            return
        value = self.scope.names.get(name)
        if isinstance(value, OneOf):
            kept = [
                option
                for option in value.options
                if (isinstance(option, Known) and option.value is None) is keep_none
                or isinstance(option, Unknown | External)
            ]
            if kept:
                self.put(self.scope.names, name, join(kept))

    def _match(self, node: ast.Match) -> int:
        subject = self.evaluate(node.subject)
        branches: list[list[ast.stmt]] = []
        for case in node.cases:
            came = self._fits(case.pattern, subject)
            if case.guard is not None and came is not False:
                guard = self.truth(self.evaluate(case.guard))
                came = guard if came else (False if guard is False else None)
            if came is False:
                continue
            if came is True and not branches:
                self._capture(case.pattern, subject)
                return self.block(case.body)
            branches.append(case.body)
            if came is True:
                break
        else:
            branches.append([])
        if not branches:
            return NEXT
        return self.fork([lambda body=body: self.block(body) for body in branches])  # type: ignore[misc]

    def _fits(self, pattern: ast.pattern, subject: Value) -> bool | None:
        if isinstance(pattern, ast.MatchValue):
            return self.compare(subject, ast.Eq(), self.evaluate(pattern.value), pattern)
        if isinstance(pattern, ast.MatchSingleton):
            return self.compare(subject, ast.Is(), Known(pattern.value), pattern)
        if isinstance(pattern, ast.MatchOr):
            came = [self._fits(part, subject) for part in pattern.patterns]
            return True if True in came else (None if None in came else False)
        if isinstance(pattern, ast.MatchAs):
            return True if pattern.pattern is None else self._fits(pattern.pattern, subject)
        return None

    def _capture(self, pattern: ast.pattern, subject: Value) -> None:
        if isinstance(pattern, ast.MatchAs) and pattern.name:
            self.put(self.scope.names, pattern.name, subject)

    def _for(self, node: ast.For | ast.AsyncFor) -> int:
        from labgate.flow.models.python import Rounds

        holder = self.evaluate(node.iter)
        items = self.iterate(holder)
        if items is not None and not items:
            return self.block(node.orelse)
        if items is not None and len(items) <= LONGEST:
            return self._known_loop(node, items)
        element = self.element(holder) if items is None else join(items)
        maybe_empty = isinstance(holder, Seq | Map) and holder.open and not isinstance(holder, Rounds)
        return self._open_loop(node.body, node.orelse, node, element, maybe_empty)

    def _known_loop(self, node: ast.For | ast.AsyncFor, items: list[Value]) -> int:
        left = 0
        certain = self.certain
        try:
            for item in items:
                self.bind_target(node.target, item)
                end = self.block(node.body)
                left |= end & (Flowing.RETURN | Flowing.RAISE)
                if not end & (NEXT | Flowing.CONTINUE):
                    if end & Flowing.BREAK:
                        break
                    return left
                if end & Flowing.BREAK or end & Flowing.RETURN:
                    self.certain = False
            else:
                self.block(node.orelse)
        finally:
            self.certain = certain
        return left | NEXT

    def _open_loop(
        self,
        body: list[ast.stmt],
        orelse: list[ast.stmt],
        node: ast.For | ast.AsyncFor | ast.While,
        element: Value | None,
        maybe_empty: bool = False,
    ) -> int:
        """The body once, standing for any number of rounds."""
        self.forget(_rebound(node), self.scope.names)
        certain = self.certain
        self.looping += 1
        if maybe_empty:
            self.certain = False
        try:
            if element is not None and not isinstance(node, ast.While):
                self.bind_target(node.target, element)
            end = self.block(body)
        finally:
            self.looping -= 1
            self.certain = certain
        self.block(orelse)
        left = end & (Flowing.RETURN | Flowing.RAISE)
        if end & (NEXT | Flowing.CONTINUE | Flowing.BREAK) or maybe_empty:
            left |= NEXT
        return left

    def _while(self, node: ast.While) -> int:
        self.forget(_rebound(node), self.scope.names)
        truth = self.truth(self.evaluate(node.test))
        if truth is False:
            return self.block(node.orelse)
        return self._open_loop(node.body, node.orelse, node, None, truth is None)

    def _break(self, node: ast.stmt) -> int:
        return Flowing.BREAK

    def _continue(self, node: ast.stmt) -> int:
        return Flowing.CONTINUE

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
        from labgate.flow.models.omegaconf import opened

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
        from labgate.flow.machine import ANCESTORS

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

    def _assigned_somewhere(self, name: str) -> bool:
        bound = _bound_names(self.scope.module, self.bundle)
        if name in bound:
            return True
        scope: Scope | None = self.scope
        while scope is not None:
            if "<class>" in scope.names:
                break
            scope = scope.outer
        return False

    def unreached(self) -> None:
        """Functions that no walk came by, with arguments of which nothing is known."""
        for module in list(self.loaded.values()):
            for value in list(module.scope.names.values()):
                for option in options(value):
                    if isinstance(option, Function) and option.scope.module is module:
                        self._visit(option)
                    elif isinstance(option, Class) and option.scope.module is module:
                        instance = Instance(option)
                        for attr in option.attrs.values():
                            if isinstance(attr, Function):
                                self._visit(bind(attr, instance))

    def _visit(self, func: Function) -> None:
        if id(func.node) in self.entered or func.hydra is not None:
            return
        self.entered.add(id(func.node))
        outer = (self.path, self.scope)
        self.path, self.scope = func.scope.module.path, func.scope
        try:
            with self.perhaps():
                self.try_out(func)
        except CaughtError:
            pass
        finally:
            self.path, self.scope = outer


def _fingerprint(bound: dict[str, Value]) -> tuple[Any, ...]:
    """What the arguments look like: equal for calls that would be followed in the same way."""
    found: list[Any] = []
    for name, value in bound.items():
        if isinstance(value, Known | Text):
            found.append((name, value))
        elif isinstance(value, External):
            found.append((name, value.path))
        elif isinstance(value, Unknown):
            found.append(name)
        else:
            found.append((name, id(value)))
    return tuple(found)


class Leaving(Value):
    """What a call gives that never comes back: its function always raises."""

    __slots__ = ()


def _bound_names(module: Module, bundle: Any) -> frozenset[str]:
    """Every name that the module binds anywhere."""
    source = bundle.module(module.name)
    tree = source.tree if source is not None else None
    return _bound_in(tree) if tree is not None else frozenset()


@kept
def _bound_in(tree: ast.Module) -> frozenset[str]:
    names: set[str] = set()
    for node in walked(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store | ast.Del):
            names.add(node.id)
        elif isinstance(node, ast.FunctionDef | ast.ClassDef | ast.AsyncFunctionDef):
            names.add(node.name)
        elif isinstance(node, ast.alias):
            names.add((node.asname or node.name).partition(".")[0])
        elif isinstance(node, ast.arg):
            names.add(node.arg)
        elif (isinstance(node, ast.ExceptHandler) and node.name) or (
            isinstance(node, ast.MatchAs | ast.MatchStar) and node.name
        ):
            names.add(node.name)
        elif isinstance(node, ast.Global):
            names.update(node.names)
    return frozenset(names)


@kept
def _yielding(tree: ast.Module) -> frozenset[ast.AST]:
    if not every(tree, ast.Yield, ast.YieldFrom):
        return frozenset()
    yields = ast.Yield | ast.YieldFrom
    functions = every(tree, ast.FunctionDef, ast.AsyncFunctionDef)
    return frozenset(f for f in functions if any(isinstance(part, yields) for part in _own(f.body)))


def _is_wrapper(decorator: Function, made: Function) -> bool:
    """Whether a decorator of the bundle gave back a function of its own around the decorated one."""
    return made.scope is not decorator.scope and made.node is not decorator.node


@kept
def _rebound(loop: ast.For | ast.AsyncFor | ast.While) -> set[str]:
    """Names that the body of a loop assigns."""
    return {
        node.id for node in _own(loop.body) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
    }


def _own(body: Iterable[ast.AST]) -> Iterator[ast.AST]:
    """What stands in a block, less what stands in the functions and classes inside it."""
    level = list(body)
    while level:
        yield from level
        level = below(node for node in level if not isinstance(node, _OF_ITS_OWN))


def _always_raises(body: list[ast.stmt]) -> bool:
    """Whether a block cannot be left but by an exception or the end of the process."""
    if not body:
        return False
    last = body[-1]
    if isinstance(last, ast.Raise):
        return True
    if isinstance(last, ast.Expr) and isinstance(last.value, ast.Call):
        func = last.value.func
        name = func.attr if isinstance(func, ast.Attribute) else getattr(func, "id", "")
        return name in ("exit", "_exit", "abort", "error")
    if isinstance(last, ast.If):
        return _always_raises(last.body) and _always_raises(last.orelse)
    return False


def _exception_name(value: Value) -> str:
    return value.path.removesuffix("()").rpartition(".")[2] if isinstance(value, External) else "Exception"


def _as_load(target: ast.expr) -> ast.expr:
    if isinstance(target, ast.Name):
        return ast.copy_location(ast.Name(target.id, ast.Load()), target)
    return target


_DISPATCH: dict[type[ast.stmt], Any] = {
    ast.Expr: Walker._expression,
    ast.Assign: Walker._assign,
    ast.AnnAssign: Walker._annotated,
    ast.AugAssign: Walker._augmented,
    ast.Delete: Walker._delete,
    ast.Import: Walker._import,
    ast.ImportFrom: Walker._import_from,
    ast.FunctionDef: Walker._function,
    ast.AsyncFunctionDef: Walker._function,
    ast.ClassDef: Walker._class,
    ast.Return: Walker._return,
    ast.Global: Walker._global,
    ast.Nonlocal: Walker._global,
    ast.If: Walker._if,
    ast.Match: Walker._match,
    ast.For: Walker._for,
    ast.AsyncFor: Walker._for,
    ast.While: Walker._while,
    ast.Break: Walker._break,
    ast.Continue: Walker._continue,
    ast.Raise: Walker._raise,
    ast.Assert: Walker._assert,
    ast.With: Walker._with,
    ast.AsyncWith: Walker._with,
    ast.Try: Walker._try,
    ast.TryStar: Walker._try,
}
