"""A walk: one command followed from its first line to its last, through the processes that it starts."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, Any

from labgate.bundle.kept import kept
from labgate.bundle.syntax import walked
from labgate.flow.attributes import bind
from labgate.flow.events import Call, Fault, Started, Walk
from labgate.flow.functions import Functions, Leaving
from labgate.flow.machine import DEPTH, ROOT, CaughtError, Flowing
from labgate.flow.models.hydra import hydra_argument
from labgate.flow.values import (
    Class,
    External,
    Function,
    Instance,
    Known,
    Module,
    Scope,
    Seq,
    Value,
    options,
    text_of,
)

if TYPE_CHECKING:
    from labgate.bundle import Bundle
    from labgate.compose import Compositions


NEXT = Flowing.NEXT

STANDARD_LEAKS = {"sys.exit", "os._exit", "builtins.exit", "builtins.quit", "os.abort"}


class Walker(Functions):
    """Follows one command."""

    def __init__(self, bundle: Bundle, walk: Walk, compositions: Compositions | None) -> None:
        super().__init__(bundle, walk)
        self.compositions = compositions
        if compositions is not None:
            self.most_rounds = max(self.most_rounds, 2 * len(compositions.run_paths))
        self.hydra_directory: str | None = None
        self.parsers: dict[int, Any] = {}
        self.parsed: list[tuple[Call, tuple[Call, ...]]] = []
        self.loaded: dict[str, Module] = {}
        self.argv = Seq()
        self.launch_known = True

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

    def composed(self, func: Function, decorator: Call) -> Value:
        return hydra_argument(self, func, decorator)

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
