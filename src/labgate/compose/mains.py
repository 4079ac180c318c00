"""Where a bundle hands itself to Hydra: its decorated functions and its uses of the compose API, by AST."""

from __future__ import annotations

import ast
import posixpath
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from labgate.bundle import Bundle, Source
from labgate.bundle.kept import kept
from labgate.bundle.syntax import every, walked

UNSET = "unset"


@dataclass(frozen=True)
class HydraMain:
    """A function under `@hydra.main`. `config_path` and `version_base` are "unset" where they are left out.

    `line` is that of the decorator. `doubts` says what of its call reading cannot settle; `started` whether
    the module mentions the function again, as it must to run it.
    """

    path: str
    line: int
    function: str
    config_path: str | None = UNSET
    config_name: str | None = None
    version_base: str | None = UNSET
    doubts: tuple[str, ...] = ()
    started: bool = True

    @property
    def dynamic(self) -> bool:
        """Whether what Hydra gets is settled only when the code runs."""
        return bool(self.doubts)

    @property
    def config_dir(self) -> str | None:
        """The folder that Hydra searches, relative to the bundle; None when it searches none."""
        path = self.config_path
        if path == UNSET:
            path = "." if self.as_hydra_1_1 else None
        if path is None:
            return None
        return posixpath.normpath(posixpath.join(posixpath.dirname(self.path), path))

    @property
    def as_hydra_1_1(self) -> bool:
        """Whether Hydra 1.3 falls back on the habits of 1.1, of which changing the directory is one."""
        return self.version_base in (UNSET, "1.1")


@dataclass(frozen=True)
class ApiCall:
    """A call of `hydra.compose`, `initialize` or its kin."""

    path: str
    line: int
    name: str


@dataclass
class _Names:
    """What a module calls hydra and its functions, and its constants."""

    modules: set[str] = field(default_factory=set)
    functions: dict[str, str] = field(default_factory=dict)
    constants: dict[str, ast.expr] = field(default_factory=dict)


_API = {"compose", "initialize", "initialize_config_dir", "initialize_config_module"}


def entry_points(bundle: Bundle) -> Mapping[str, HydraMain]:
    """The Hydra program of each module that has one, by dotted module name."""
    found: dict[str, HydraMain] = {}
    for source in bundle.sources.values():
        mains = list(_mains(source))
        if mains:
            found[source.module] = next((main for main in mains if main.started), mains[0])
    return found


def api_calls(bundle: Bundle) -> tuple[ApiCall, ...]:
    """Every use of Hydra's compose API."""
    found = []
    for source in bundle.sources.values():
        if source.tree is None:
            continue
        names = _names(source.tree)
        for node in every(source.tree, ast.Call):
            name = _hydra_function(node.func, names)
            if name in _API:
                found.append(ApiCall(source.path, node.lineno, name))
    return tuple(found)


def _mains(source: Source) -> Iterator[HydraMain]:
    tree = source.tree
    if tree is None:
        return
    names = _names(tree)
    if not names.modules and not names.functions:
        return
    for node in every(tree, ast.FunctionDef, ast.AsyncFunctionDef, ast.Call):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            for decorator in node.decorator_list:
                if isinstance(decorator, ast.Call) and _hydra_function(decorator.func, names) == "main":
                    yield _main(source, tree, names, decorator, node.name, node)
        elif (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Call)
            and _hydra_function(node.func.func, names) == "main"
        ):
            wrapped = node.args[0].id if node.args and isinstance(node.args[0], ast.Name) else ""
            yield _main(source, tree, names, node.func, wrapped, None)


def _main(
    source: Source,
    tree: ast.Module,
    names: _Names,
    call: ast.Call,
    function: str,
    definition: ast.FunctionDef | ast.AsyncFunctionDef | None,
) -> HydraMain:
    values: dict[str, str | None] = {}
    doubts: list[str] = []
    given = dict(zip(("config_path", "config_name", "version_base"), call.args, strict=False))
    for keyword in call.keywords:
        if keyword.arg is None:
            doubts.append("the arguments of hydra.main are unpacked from a mapping")
        else:
            given[keyword.arg] = keyword.value
    for name in ("config_path", "config_name", "version_base"):
        if name in given:
            try:
                values[name] = _text(given[name], names, source.path)
            except ValueError:
                doubts.append(f"{name} is {ast.unparse(given[name])[:60]}, known only when the code runs")
    path = values.get("config_path")
    if path is not None and (path.startswith("pkg://") or posixpath.isabs(path)):
        doubts.append(f"config_path {path!r} lies outside the bundle")
    doubts.extend(_argv_doubts(tree, definition))
    started = definition is None or any(
        node.id == function and isinstance(node.ctx, ast.Load) for node in every(tree, ast.Name)
    )
    return HydraMain(source.path, call.lineno, function, doubts=tuple(doubts), started=started, **values)


@kept
def _names(tree: ast.Module) -> _Names:
    names = _Names()
    assigned: dict[str, int] = {}
    for node in every(tree, ast.Import, ast.ImportFrom, ast.Name):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.partition(".")[0] == "hydra":
                    names.modules.add(alias.asname or "hydra")
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            for alias in node.names:
                if node.module in ("hydra", "hydra.main", "hydra.compose", "hydra.initialize"):
                    names.functions[alias.asname or alias.name] = alias.name
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            assigned[node.id] = assigned.get(node.id, 0) + 1
    for statement in tree.body:
        if isinstance(statement, ast.Assign) and len(statement.targets) == 1:
            target, value = statement.targets[0], statement.value
        elif isinstance(statement, ast.AnnAssign) and statement.value is not None:
            target, value = statement.target, statement.value
        else:
            continue
        if isinstance(target, ast.Name) and assigned.get(target.id) == 1:
            names.constants[target.id] = value
    return names


def _hydra_function(func: ast.expr, names: _Names) -> str | None:
    """Which of hydra's functions `func` names."""
    if isinstance(func, ast.Name):
        return names.functions.get(func.id)
    if (
        isinstance(func, ast.Attribute)
        and isinstance(func.value, ast.Name)
        and func.value.id in names.modules
    ):
        return func.attr
    return None


def _text(node: ast.expr, names: _Names, path: str, deep: int = 0) -> str | None:
    """The string or None that `node` must be; a path under the bundle's root becomes one relative to `path`.

    Raises ValueError when reading cannot tell.
    """
    if isinstance(node, ast.Constant) and (node.value is None or isinstance(node.value, str)):
        return node.value
    if deep > 8:
        raise ValueError("nested too deeply")
    if isinstance(node, ast.Name) and node.id in names.constants:
        return _text(names.constants[node.id], names, path, deep + 1)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        left, right = (_text(side, names, path, deep + 1) for side in (node.left, node.right))
        if left is not None and right is not None:
            return left + right
    if isinstance(node, ast.JoinedStr):
        parts = [_text(value, names, path, deep + 1) for value in node.values]
        return "".join(part if part is not None else "None" for part in parts)
    if isinstance(node, ast.FormattedValue) and node.format_spec is None and node.conversion == -1:
        return _text(node.value, names, path, deep + 1)
    located = _located(node, names, path, deep)
    return posixpath.relpath(located or ".", posixpath.dirname(path) or ".")


def _located(node: ast.expr, names: _Names, path: str, deep: int) -> str:
    """The place under the bundle's root that a path made from `__file__` leads to. Raises ValueError."""
    if deep > 12:
        raise ValueError("nested too deeply")
    match node:
        case ast.Name(id="__file__"):
            return path
        case ast.Name(id=name) if name in names.constants:
            return _located(names.constants[name], names, path, deep + 1)
        case ast.Call(func=ast.Attribute(attr="resolve" | "absolute", value=inner), args=[]):
            return _located(inner, names, path, deep + 1)
        case ast.Call(
            func=ast.Name(id="str" | "Path") | ast.Attribute(attr="Path" | "abspath" | "realpath"),
            args=[inner],
        ):
            return _located(inner, names, path, deep + 1)
        case ast.Call(func=ast.Attribute(attr="dirname"), args=[inner]):
            return posixpath.dirname(_located(inner, names, path, deep + 1))
        case ast.Attribute(attr="parent", value=inner):
            return posixpath.dirname(_located(inner, names, path, deep + 1))
        case ast.Subscript(
            value=ast.Attribute(attr="parents", value=inner), slice=ast.Constant(value=int(up))
        ):
            place = _located(inner, names, path, deep + 1)
            for _ in range(up + 1):
                place = posixpath.dirname(place)
            return place
        case ast.BinOp(left=left, op=ast.Div(), right=right):
            parts: list[ast.expr] = [left, right]
        case ast.Call(func=ast.Attribute(attr="join" | "joinpath", value=owner), args=[_, *_] as given):
            parts = given if isinstance(node, ast.Call) and _is_os_path(owner) else [owner, *given]
        case _:
            raise ValueError("no path made from __file__")
    place = _located(parts[0], names, path, deep + 1)
    for part in parts[1:]:
        tail = _text(part, names, path, deep + 1)
        if tail is None:
            raise ValueError("None in a path")
        place = posixpath.normpath(posixpath.join(place, tail))
    return place


def _is_os_path(node: ast.expr) -> bool:
    return isinstance(node, ast.Attribute) and node.attr == "path"


_ARGV_CHANGES = {"append", "extend", "insert", "remove", "pop", "clear", "reverse", "sort"}


def _argv_doubts(
    tree: ast.Module, definition: ast.FunctionDef | ast.AsyncFunctionDef | None
) -> Iterator[str]:
    """Changes of `sys.argv` that may come before Hydra reads it: those outside the decorated function."""
    inside = frozenset(walked(definition) if definition is not None else ())
    for node in every(tree, ast.Attribute, ast.Subscript, ast.Call):
        if node in inside:
            continue
        if (
            isinstance(node, ast.Attribute | ast.Subscript)
            and isinstance(node.ctx, ast.Store | ast.Del)
            and _is_argv(node)
            and not _is_program_name(node)
        ) or (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and node.func.attr in _ARGV_CHANGES
            and _is_argv(node.func.value)
        ):
            yield f"line {node.lineno} changes sys.argv before Hydra reads it"


def _is_argv(node: ast.expr) -> bool:
    if isinstance(node, ast.Subscript):
        return _is_argv(node.value)
    return (
        isinstance(node, ast.Attribute)
        and node.attr == "argv"
        and isinstance(node.value, ast.Name)
        and node.value.id == "sys"
    )


def _is_program_name(node: ast.expr) -> bool:
    return isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant) and node.slice.value == 0
