"""Modules of unpacked wheels, one file at a time: griffe for what they define, a second look for tricks.

griffe sees what is written out: functions, classes, attributes, imports, under `if` and `try` too. It does
not see what a module does to its own namespace while it runs (`globals()[…] = …`, a `__getattr__`, a lazy
table); `Habits` does, and it is asked only before something is called missing.
"""

from __future__ import annotations

import ast
import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from labgate.packages.lazily import griffe
from labgate.packages.wheels import Wheel

logging.getLogger("griffe").setLevel(logging.CRITICAL)

LAZY = re.compile(r"(?:\w+\.)*_?LazyModule|\w*lazy\w*\.attach(?:_stub)?", re.IGNORECASE)
"""Calls that make a module out of a table of names."""


@dataclass(frozen=True)
class Module:
    """A module by its dotted name. `files` are its stub and its source, the stub first; none when it is
    compiled or a namespace package."""

    dotted: str
    wheel: Wheel
    files: tuple[Path, ...] = ()
    folder: Path | None = None
    compiled: bool = False

    @cached_property
    def sources(self) -> tuple[griffe.Module, ...]:
        """What griffe makes of each file; a file that does not parse is left out."""
        return tuple(filter(None, (_visited(self, path) for path in self.files)))

    @cached_property
    def trees(self) -> tuple[ast.Module, ...]:
        return tuple(filter(None, (_parsed(path) for path in self.files)))

    @cached_property
    def unread(self) -> bool:
        """Whether a file of it could not be parsed."""
        return len(self.sources) < len(self.files)

    @cached_property
    def habits(self) -> Habits:
        return Habits.of(self.trees)

    def names(self) -> Iterator[str]:
        """What it defines by name, for naming near misses."""
        for source in self.sources:
            yield from (name for name in source.members if not name.endswith("*"))
        if self.folder is not None and self.folder.is_dir():
            yield from (
                p.stem for p in self.folder.iterdir() if p.suffix == ".py" or (p / "__init__.py").is_file()
            )


def locate(wheel: Wheel, dotted: str) -> Module | None:
    """The module of that name in `wheel`; None when it holds none."""
    stem = wheel.folder.joinpath(*dotted.split("."))
    if stem.is_dir():
        files = tuple(p for p in (stem / "__init__.pyi", stem / "__init__.py") if p.is_file())
        compiled = f"{dotted}.__init__" in wheel.compiled
        return Module(dotted, wheel, files, stem, compiled)
    files = tuple(
        p for p in (stem.with_name(stem.name + ".pyi"), stem.with_name(stem.name + ".py")) if p.is_file()
    )
    if files or dotted in wheel.compiled:
        return Module(dotted, wheel, files, None, dotted in wheel.compiled)
    return None


def _visited(module: Module, path: Path) -> griffe.Module | None:
    try:
        code = path.read_text(encoding="utf-8-sig", errors="replace")
        return griffe.visit(module.dotted.rpartition(".")[2], path, code, parent=_shell(module.dotted))
    except (SyntaxError, ValueError, RecursionError, OSError):
        return None
    except Exception:  # griffe meets odd code with many kinds; an unread module only makes us say less
        return None


def _shell(dotted: str) -> griffe.Module | None:
    """Empty parents, so that relative imports come out absolute."""
    parent: griffe.Module | None = None
    for name in dotted.split(".")[:-1]:
        filepath = Path(*([] if parent is None else parent.path.split(".")), name, "__init__.py")
        parent = griffe.Module(name, filepath=filepath, parent=parent)
    return parent


def _parsed(path: Path) -> ast.Module | None:
    try:
        return ast.parse(path.read_text(encoding="utf-8-sig", errors="replace"))
    except (SyntaxError, ValueError, RecursionError, OSError):
        return None


@dataclass
class Habits:
    """What a module does to its namespace besides defining names."""

    bound: set[str] = field(default_factory=set)
    """Names bound outside functions, or declared `global` in one."""
    stored: set[str] = field(default_factory=set)
    """Names assigned as an attribute of anything."""
    words: set[str] = field(default_factory=set)
    """Every string constant."""
    getter: ast.FunctionDef | None = None
    """The module's own `__getattr__`."""
    lazy: bool = False
    dynamic: str = ""
    """The trick that makes its namespace unreadable, as written."""

    @classmethod
    def of(cls, trees: tuple[ast.Module, ...]) -> Habits:
        habits = cls()
        for tree in trees:
            habits._read(tree)
        return habits

    def _read(self, tree: ast.Module) -> None:
        todo: list[tuple[ast.AST, bool]] = [(tree, False)]
        while todo:
            node, inside = todo.pop()
            self._note(node, inside)
            deeper = inside or isinstance(
                node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)
            )
            todo.extend((child, deeper) for child in ast.iter_child_nodes(node))

    def _note(self, node: ast.AST, inside: bool) -> None:
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            self.words.add(node.value)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            self.stored.add(node.attr)
        elif isinstance(node, ast.Global):
            self.bound.update(node.names)
        elif isinstance(node, ast.Name):
            if isinstance(node.ctx, ast.Store) and not inside:
                self.bound.add(node.id)
            self.lazy |= node.id == "_import_structure"
        elif isinstance(node, ast.FunctionDef) and node.name == "__getattr__" and not inside:
            self.getter = node
        elif isinstance(node, ast.Call):
            self._note_call(node)
        elif isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Store):
            written = ast.unparse(node.value)
            if written in ("globals()", "vars()", "locals()") or (
                written == "sys.modules" and _own_name(node.slice)
            ):
                self.dynamic = f"{ast.unparse(node)} = …"

    def _note_call(self, call: ast.Call) -> None:
        last = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
        if (
            last not in ("update", "exec", "setattr", "attach", "attach_stub")
            and "lazymodule" not in last.lower()
        ):
            return  # spelling out every call would cost more than all the rest
        written = ast.unparse(call.func)
        self.lazy |= LAZY.fullmatch(written) is not None
        if written in ("globals().update", "vars().update", "locals().update", "exec"):
            self.dynamic = f"{written}(…)"
        elif written == "setattr" and len(call.args) > 1:
            target = ast.unparse(call.args[0])
            if isinstance(call.args[1], ast.Constant):
                self.stored.add(str(call.args[1].value))
            elif "sys.modules" in target and "__name__" in target:
                self.dynamic = f"setattr({target}, …)"


def _own_name(node: ast.AST) -> bool:
    return any(isinstance(part, ast.Name) and part.id == "__name__" for part in ast.walk(node))


RESTORERS = ("__setstate__", "__getstate__", "__copy__", "__deepcopy__", "__reduce__", "__reduce_ex__")
"""Methods that move a whole object about, and add no name to it."""


def grows_all(tree: ast.Module) -> bool:
    """Whether `__all__` is changed by a method, such as `__all__.extend(…)`, or written more than once."""
    written = 0
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Attribute)
            and isinstance(node.value, ast.Name)
            and node.value.id == "__all__"
        ):
            return True
        written += isinstance(node, ast.Name) and node.id == "__all__" and isinstance(node.ctx, ast.Store)
    return written > 1


def sets_names_of(tree: ast.Module, name: str) -> str:
    """The statement by which the class `name` gets attributes under computed names, as written; or ""."""
    todo: list[tuple[ast.AST, tuple[str, ...]]] = [(tree, (name,))]
    while todo:
        node, owners = todo.pop()
        if isinstance(node, ast.FunctionDef) and node.name in RESTORERS:
            continue
        if isinstance(node, ast.ClassDef) and node.name == name:
            owners = ("self", "cls", name, "type(self)", "self.__class__")
        if trick := _computed(node, owners):
            return trick
        todo.extend((child, owners) for child in ast.iter_child_nodes(node))
    return ""


def _computed(node: ast.AST, owners: tuple[str, ...]) -> str:
    match node:
        case ast.Call(func=ast.Name(id="setattr"), args=[owner, attribute, *_]):
            constant = isinstance(attribute, ast.Constant)
            return (
                f"setattr({ast.unparse(owner)}, …)" if not constant and ast.unparse(owner) in owners else ""
            )
        case ast.Call(func=ast.Attribute(value=ast.Attribute(value=owner, attr="__dict__"), attr="update")):
            return f"{ast.unparse(node.func)}(…)" if ast.unparse(owner) in owners else ""
        case ast.Subscript(value=ast.Attribute(value=owner, attr="__dict__"), ctx=ast.Store()):
            return f"{ast.unparse(node)} = …" if ast.unparse(owner) in owners else ""
        case ast.Attribute(value=owner, attr="__dict__", ctx=ast.Store()):
            return f"{ast.unparse(node)} = …" if ast.unparse(owner) in owners else ""
        case ast.Call(func=ast.Name(id="vars"), args=[owner]) if ast.unparse(owner) in owners:
            return f"vars({ast.unparse(owner)})"
    return ""
