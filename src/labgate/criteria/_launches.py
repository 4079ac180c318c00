"""What a decorated function starts and opens by names that depend on the working directory."""

from __future__ import annotations

import ast
import itertools
import posixpath
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from labgate.bundle import BrokenFileError, Bundle, Source
from labgate.bundle.syntax import called, walked

_STARTERS = {"run", "Popen", "call", "check_call", "check_output"}
_MODULE = re.compile(r"-m\s+(src(?:\.\w+)+)")


@dataclass(frozen=True)
class Launch:
    """A child `python -m module` without a directory of its own. `certain`: no branch leads around it."""

    line: int
    module: str
    certain: bool


@dataclass(frozen=True)
class Script:
    """A child that is started by the path of a source, so that Python looks for imports beside it alone."""

    line: int
    path: str
    certain: bool


@dataclass(frozen=True)
class Opening:
    """A file of the bundle opened by a relative path."""

    line: int
    path: str
    certain: bool


@dataclass(frozen=True)
class _Step:
    """A node that runs when a function does, and whether it must."""

    node: ast.AST
    certain: bool
    function: ast.FunctionDef | ast.AsyncFunctionDef


def launches(source: Source, function: str) -> Iterator[Launch]:
    """The children by `-m` that `function`, or what it calls in its module, starts where it happens to be."""
    for call, step in _starts(source, function):
        module = _module_started(call.args[0], step.function)
        if module and not any(keyword.arg in ("cwd", None) for keyword in call.keywords):
            yield Launch(call.lineno, module, step.certain)


def scripts(source: Source, function: str, bundle: Bundle) -> Iterator[Script]:
    """The children that `function`, or what it calls in its module, starts by the path of a source."""
    for call, step in _starts(source, function):
        path = _script_started(call.args[0], step.function, source.path, bundle)
        if path:
            yield Script(call.lineno, path, step.certain)


def lost_import(source: Source) -> int:
    """The line on which a source, started by its path, imports from beside its folder; 0 for none."""
    package = source.path.partition("/")[0]
    for statement in source.tree.body if source.tree else ():
        if any(isinstance(node, ast.Attribute) and node.attr == "path" for node in walked(statement)):
            return 0  # sys.path is changed, or may be
        if isinstance(statement, ast.ImportFrom) and (
            statement.level or (statement.module or "").partition(".")[0] == package
        ):
            return statement.lineno
        if isinstance(statement, ast.Import) and any(
            alias.name.partition(".")[0] == package for alias in statement.names
        ):
            return statement.lineno
    return 0


def _starts(source: Source, function: str) -> Iterator[tuple[ast.Call, _Step]]:
    """The calls of subprocess that may run with `function`, unless the module cares for PYTHONPATH."""
    if source.tree is None or "PYTHONPATH" in (source.text or ""):
        return
    subprocess = _imported(source.tree, "subprocess")
    for step in _steps(source.tree, function):
        call = step.node
        if isinstance(call, ast.Call) and call.args and _is_starter(call.func, subprocess):
            yield call, step


def openings(source: Source, function: str, bundle: Bundle) -> Iterator[Opening]:
    """The files of the bundle that `function`, or what it calls in its module, opens by a relative path."""
    if source.tree is None:
        return
    folders = {path.partition("/")[0] for path in bundle.files if "/" in path} - {"outputs", "results"}
    for step in _steps(source.tree, function):
        call = step.node
        if not isinstance(call, ast.Call) or not call.args or not _opens(call):
            continue
        head = _head(call.args[0], step.function)
        if head and head.removeprefix("./").partition("/")[0] in folders and "/" in head:
            yield Opening(call.lineno, head, step.certain)


def importable_once_installed(bundle: Bundle) -> bool | None:
    """Whether installing the project puts `src` on the path of every program; None when one cannot tell."""
    try:
        project = bundle.toml("pyproject.toml")
    except BrokenFileError:
        return None
    tool = project.get("tool", {})
    if "build-system" not in project or tool.get("uv", {}).get("package") is False:
        return False
    backend = str(project["build-system"].get("build-backend", "setuptools"))
    if _names_src(tool):
        return True
    return False if backend.startswith(("setuptools", "hatchling", "poetry")) else None


def _names_src(value: object, key: str = "") -> bool:
    """Whether a build backend's table lists the package `src`; `package-dir` and `where` name a place."""
    if isinstance(value, dict):
        return any(_names_src(inner, name) for name, inner in value.items())
    if isinstance(value, list):
        return any(_names_src(inner, key) for inner in value)
    return (
        isinstance(value, str)
        and key in ("packages", "include", "only-include", "py-modules", "name")
        and value.strip("/").split("/")[0].rstrip("*.") in ("src", "")
    )


def _steps(tree: ast.Module, function: str, certain: bool = True, depth: int = 3) -> Iterator[_Step]:
    """All calls that may run with `function`, in order; those after a change of directory are left out."""
    functions = {
        node.name: node for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    definition = functions.get(function)
    if definition is None or depth == 0:
        return
    for node, must in _walk(definition.body, certain):
        if not isinstance(node, ast.Call):
            continue
        name = called(node)
        if name == "chdir":
            return
        yield _Step(node, must, definition)
        if isinstance(node.func, ast.Name) and name in functions and name != function:
            if any(_changes_directory(inner) for inner in walked(functions[name])):
                return
            yield from _steps(tree, name, must, depth - 1)


def _changes_directory(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "chdir"


def _walk(body: Sequence[ast.stmt], certain: bool) -> Iterator[tuple[ast.AST, bool]]:
    """The expressions of statements, inner functions left out; those in a branch are not certain.

    A branch that raises or exits when something is wrong leads nowhere, so what follows it stays certain.
    """
    for statement in body:
        if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            continue
        blocks: list[tuple[list[ast.stmt], bool]] = []
        for name in ("body", "orelse", "finalbody"):
            inner = getattr(statement, name, [])
            straight = isinstance(statement, ast.With | ast.AsyncWith) or (
                isinstance(statement, ast.Try) and name != "orelse"
            )
            blocks.append((inner, certain and straight))
        nested = {id(node) for block, _ in blocks for child in block for node in walked(child)}
        handlers = getattr(statement, "handlers", [])
        nested |= {id(node) for handler in handlers for node in walked(handler)}
        for node in walked(statement):
            if id(node) not in nested:
                yield node, certain
        for block, must in blocks:
            yield from _walk(block, must)
        for handler in handlers:
            yield from _walk(handler.body, False)
        if any(isinstance(node, ast.Return) for node in walked(statement)):
            certain = False


def _imported(tree: ast.Module, module: str) -> set[str]:
    """The names by which a tree knows a module and what it takes from it."""
    names = set()
    for node in walked(tree):
        if isinstance(node, ast.Import):
            names |= {alias.asname or alias.name for alias in node.names if alias.name == module}
        elif isinstance(node, ast.ImportFrom) and node.module == module:
            names |= {alias.asname or alias.name for alias in node.names}
    return names


def _is_starter(func: ast.expr, subprocess: set[str]) -> bool:
    if isinstance(func, ast.Attribute) and isinstance(func.value, ast.Name):
        return func.value.id in subprocess and func.attr in _STARTERS
    return isinstance(func, ast.Name) and func.id in subprocess


def _module_started(node: ast.expr, function: ast.AST) -> str | None:
    """The module of the bundle after a literal `-m`."""
    if isinstance(node, ast.Name):
        values = _assigned(node.id, function)
        return next(filter(None, (_module_started(value, function) for value in values)), None)
    words: list[str] = []
    for inner in walked(node):
        if isinstance(inner, ast.List | ast.Tuple):
            words = [str(e.value) if isinstance(e, ast.Constant) else "" for e in inner.elts]
            for flag, module in itertools.pairwise(words):
                if flag == "-m" and module.startswith("src."):
                    return module
        elif isinstance(inner, ast.Constant) and isinstance(inner.value, str):
            found = _MODULE.search(inner.value)
            if found:
                return found[1]
    return None


def _script_started(node: ast.expr, function: ast.AST, started_by: str, bundle: Bundle) -> str | None:
    """The source of the bundle whose path stands in an argument list, by its literal ending."""
    if isinstance(node, ast.Name):
        values = _assigned(node.id, function)
        found = (_script_started(value, function, started_by, bundle) for value in values)
        return next(filter(None, found), None)
    words = [inner for inner in walked(node) if isinstance(inner, ast.List | ast.Tuple)]
    for word in words[0].elts if words else ():
        text = _tail(word, function)
        if text == "-m":
            return None
        if text.endswith(".py"):
            places = (text, posixpath.join(posixpath.dirname(started_by), posixpath.basename(text)))
            return next((place for place in places if place in bundle.sources), None)
    return None


def _tail(node: ast.expr, function: ast.AST, depth: int = 4) -> str:
    """The literal ending of a path or word; "" where it ends in something else."""
    if depth == 0:
        return ""
    match node:
        case ast.Constant(value=str(text)):
            return text
        case ast.BinOp(left=left, op=ast.Div(), right=right):
            head, tail = _tail(left, function, depth - 1), _tail(right, function, depth - 1)
            return f"{head}/{tail}" if head and tail else tail
        case ast.Call(func=ast.Name(id="Path" | "str"), args=[inner]):
            return _tail(inner, function, depth - 1)
        case ast.Call(func=ast.Attribute(attr="join"), args=[*_, last]):
            return _tail(last, function, depth - 1)
        case ast.Name(id=name):
            values = _assigned(name, function)
            return _tail(values[0], function, depth - 1) if len(values) == 1 else ""
    return ""


def _assigned(name: str, function: ast.AST) -> list[ast.expr]:
    return [
        node.value
        for node in walked(function)
        if isinstance(node, ast.Assign)
        and any(isinstance(target, ast.Name) and target.id == name for target in node.targets)
    ]


def _opens(call: ast.Call) -> bool:
    """Whether the call must read the file that its first argument names."""
    if isinstance(call.func, ast.Name):
        mode = call.args[1] if len(call.args) > 1 else None
        writes = isinstance(mode, ast.Constant) and str(mode.value)[:1] in ("w", "a", "x")
        return call.func.id == "open" and not writes
    return (
        isinstance(call.func, ast.Attribute)
        and call.func.attr == "load"
        and isinstance(call.func.value, ast.Name)
        and call.func.value.id == "OmegaConf"
    )


def _head(node: ast.expr, function: ast.AST, depth: int = 4) -> str:
    """The literal beginning of a relative path; "" when it begins with something else."""
    if depth == 0:
        return ""
    match node:
        case ast.Constant(value=str(text)):
            return "" if text.startswith("/") else text
        case ast.JoinedStr(values=[ast.Constant(value=str(text)), *rest]):
            return "" if text.startswith("/") else f"{text}{'…' if rest else ''}"
        case ast.BinOp(left=left, op=ast.Div() | ast.Add(), right=right):
            head = _head(left, function, depth - 1)
            tail = _head(right, function, depth - 1) or "…"
            return (
                f"{head.rstrip('/')}/{tail}"
                if head and isinstance(node.op, ast.Div)
                else head and head + tail
            )
        case ast.Call(func=ast.Name(id="Path" | "str"), args=[inner]):
            return _head(inner, function, depth - 1)
        case ast.Name(id=name):
            values = _assigned(name, function)
            return _head(values[0], function, depth - 1) if len(values) == 1 else ""
    return ""
