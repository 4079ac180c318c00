"""Files and paths: `pathlib`, `os.path`, `open`, and the loaders of JSON and YAML."""

from __future__ import annotations

import posixpath
from typing import TYPE_CHECKING

from labgate.bundle import BrokenFileError
from labgate.flow.events import Call
from labgate.flow.machine import ROOT
from labgate.flow.registry import methods, models
from labgate.flow.values import (
    NONE,
    UNKNOWN,
    External,
    Known,
    Map,
    OneOf,
    PathLike,
    Seq,
    Text,
    Value,
    concat,
    join,
    lift,
    text_of,
)

if TYPE_CHECKING:
    from labgate.flow.walker import Walker


def known_path(value: Value) -> str | None:
    """The whole text of a path, None when some of it is not known."""
    text = text_of(value) if isinstance(value, PathLike | Known | Text) else None
    return text.value if isinstance(text, Known) and isinstance(text.value, str) else None


def inside(path: str) -> str:
    """The path relative to the bundle; empty when it lies elsewhere. Relative paths start at its root."""
    whole = posixpath.normpath(posixpath.join(ROOT, path))
    return whole[len(ROOT) + 1 :] if whole.startswith(ROOT + "/") else ""


def exists(walker: Walker, value: Value) -> Value:
    """Whether a path is there before anything ran: known for what the bundle brings, and for its config."""
    path = known_path(value)
    if path is None:
        return UNKNOWN
    relative = inside(path)
    if not relative:
        return Known(True) if posixpath.normpath(path) == ROOT else UNKNOWN
    if relative in walker.bundle.files:
        return Known(True)
    if any(other.startswith(relative + "/") for other in walker.bundle.files):
        return Known(True)
    if relative.startswith("config/") and relative.endswith((".yaml", ".yml")):
        return Known(False)
    return UNKNOWN


def join_path(left: Value, right: Value) -> Value:
    """`left / right`."""
    if isinstance(right, OneOf):
        return join(join_path(left, option) for option in right.options)
    a, b = text_of(left), text_of(right)
    if isinstance(b, Known) and isinstance(b.value, str) and b.value.startswith("/"):
        return PathLike(b)
    if isinstance(a, Known) and isinstance(b, Known):
        return PathLike(Known(posixpath.join(str(a.value), str(b.value))))
    return PathLike(concat(a, Known("/"), b))


@models("pathlib.Path", "pathlib.PurePath", "pathlib.PosixPath", "pathlib.PurePosixPath")
def _path(walker: Walker, call: Call) -> Value | None:
    if not call.args:
        return PathLike(Known("."))
    made: Value = PathLike(_tidy(text_of(call.args[0])))
    for part in call.args[1:]:
        made = join_path(made, part)
    return made


def _tidy(text: Known | Text) -> Known | Text:
    if isinstance(text, Known) and isinstance(text.value, str):
        return Known(posixpath.normpath(text.value) if text.value.endswith("/") else text.value)
    return text


@models("pathlib.Path.cwd", "os.getcwd")
def _cwd(walker: Walker, call: Call) -> Value | None:
    return PathLike(Known(ROOT)) if call.path.startswith("pathlib") else Known(ROOT)


def path_attribute(path: PathLike, name: str) -> Value | None:
    """`parent`, `name`, `stem`, … of a path; None when it is a method."""
    whole = known_path(path)
    if name in ("name", "stem", "suffix"):
        if whole is None:
            if name == "name" and isinstance(path.text, Text):
                last = path.text.parts[-1]
                if isinstance(last, str) and "/" in last:
                    return Known(last.rpartition("/")[2])
            return Text((None,))
        base = posixpath.basename(whole)
        stem, suffix = posixpath.splitext(base)
        return Known({"name": base, "stem": stem, "suffix": suffix}[name])
    if name == "parent":
        if whole is None:
            return PathLike(Text((None,)))
        return PathLike(Known(posixpath.dirname(whole) or "."))
    if name == "parents":
        if whole is None:
            return Seq([], "tuple", True)
        found: list[Value] = []
        while whole not in ("/", "", "."):
            whole = posixpath.dirname(whole) or "."
            found.append(PathLike(Known(whole)))
        return Seq(found, "tuple")
    return None


@methods(PathLike, "resolve", "absolute", "expanduser")
def _resolve(walker: Walker, path: PathLike, call: Call) -> Value:
    whole = known_path(path)
    if whole is None:
        return path
    return PathLike(Known(posixpath.normpath(posixpath.join(ROOT, whole))))


@methods(PathLike, "exists", "is_file", "is_dir")
def _exists(walker: Walker, path: PathLike, call: Call) -> Value:
    return exists(walker, path)


@methods(PathLike, "joinpath")
def _joinpath(walker: Walker, path: PathLike, call: Call) -> Value:
    made: Value = path
    for part in call.args:
        made = join_path(made, part)
    return made


@methods(PathLike, "with_suffix", "with_name")
def _with(walker: Walker, path: PathLike, call: Call) -> Value:
    whole, given = known_path(path), call.args[0] if call.args else UNKNOWN
    if whole is None or not isinstance(given, Known):
        return PathLike(Text((None,)))
    if call.path == "with_name":
        return PathLike(Known(posixpath.join(posixpath.dirname(whole), str(given.value))))
    return PathLike(Known(posixpath.splitext(whole)[0] + str(given.value)))


@methods(PathLike, "as_posix", "__str__", "__fspath__")
def _text(walker: Walker, path: PathLike, call: Call) -> Value:
    return path.text


@methods(PathLike, "mkdir", "touch", "unlink", "rmdir", "chmod", "rename")
def _effect(walker: Walker, path: PathLike, call: Call) -> Value:
    walker.emit(_as_call(call, f"pathlib.Path().{call.path}", path))
    return NONE


@methods(PathLike, "open")
def _open_method(walker: Walker, path: PathLike, call: Call) -> Value:
    made = _as_call(call, "builtins.open", path)
    walker.emit(made)
    return External("builtins.open()", None, made)


@methods(PathLike, "write_text", "write_bytes")
def _write(walker: Walker, path: PathLike, call: Call) -> Value:
    walker.emit(_as_call(call, f"pathlib.Path().{call.path}", path))
    return UNKNOWN


@methods(PathLike, "read_text", "read_bytes")
def _read(walker: Walker, path: PathLike, call: Call) -> Value:
    made = _as_call(call, f"pathlib.Path().{call.path}", path)
    walker.emit(made)
    return content(walker, path, call)


def content(walker: Walker, path: Value, call: Call) -> Value:
    """The text of a file of the bundle."""
    whole = known_path(path)
    if whole is None:
        return Text((None,))
    relative = inside(whole)
    text = walker.bundle.text(relative) if relative else None
    if text is not None and len(text) < 200_000:
        return Known(text)
    if relative and walker.missing(relative):
        walker.fault(call.node, "FileNotFoundError", f"No such file: '{relative}'", relative)
    return Text((None,))


def _as_call(call: Call, path: str, of: Value) -> Call:
    return Call(
        call.place, call.certain, call.guarded, call.stack, path, (of, *call.args), call.kwargs, call.node
    )


@methods(PathLike, "glob", "rglob", "iterdir")
def _glob(walker: Walker, path: PathLike, call: Call) -> Value:
    return Seq([], "list", True, of=PathLike(Text((None,))))


@methods(PathLike, "relative_to")
def _relative(walker: Walker, path: PathLike, call: Call) -> Value:
    return PathLike(Text((None,)))


@models("os.path.join")
def _os_join(walker: Walker, call: Call) -> Value | None:
    if not call.args or call.spread:
        return Text((None,))
    made: Value = call.args[0]
    for part in call.args[1:]:
        made = join_path(made, part)
    if isinstance(made, OneOf):
        return join(text_of(option) for option in made.options)
    return text_of(made)


@models("os.path.exists", "os.path.isfile", "os.path.isdir")
def _os_exists(walker: Walker, call: Call) -> Value | None:
    return exists(walker, call.args[0]) if call.args else UNKNOWN


@models("os.path.abspath", "os.path.realpath", "os.path.normpath", "os.path.expanduser")
def _os_abspath(walker: Walker, call: Call) -> Value | None:
    whole = known_path(call.args[0]) if call.args else None
    if whole is None:
        return text_of(call.args[0]) if call.args else UNKNOWN
    if call.path.endswith("normpath"):
        return Known(posixpath.normpath(whole))
    return Known(posixpath.normpath(posixpath.join(ROOT, whole)))


@models("os.path.dirname", "os.path.basename")
def _os_parts(walker: Walker, call: Call) -> Value | None:
    whole = known_path(call.args[0]) if call.args else None
    if whole is None:
        return Text((None,))
    return Known(posixpath.dirname(whole) if call.path.endswith("dirname") else posixpath.basename(whole))


@models("builtins.open")
def _open(walker: Walker, call: Call) -> Value | None:
    given = call.argument(0, "file")
    mode = call.argument(1, "mode")
    path = known_path(given) if given is not None else None
    reads = mode is None or (
        isinstance(mode, Known) and "r" in str(mode.value) and "+" not in str(mode.value)
    )
    if path is not None and reads and (relative := inside(path)) and walker.missing(relative):
        walker.fault(call.node, "FileNotFoundError", f"No such file: '{relative}'", relative)
    return None


def _opened_path(value: Value | None) -> Value | None:
    """The path behind a file object."""
    if isinstance(value, External) and value.path.startswith("builtins.open()") and value.call is not None:
        if value.path == "builtins.open()":
            return value.call.argument(0, "file")
    return None


@models("yaml.safe_load", "yaml.load", "yaml.full_load", "yaml.unsafe_load")
def _yaml(walker: Walker, call: Call) -> Value | None:
    given = call.argument(0, "stream")
    path = _opened_path(given)
    if path is not None:
        whole = known_path(path)
        relative = inside(whole) if whole else ""
        if relative in walker.bundle.files:
            try:
                return lift(walker.bundle.yaml(relative))
            except BrokenFileError as error:
                if "twice" in error.says:  # PyYAML lets the last one win, where OmegaConf refuses
                    return Map(open=True)
                walker.fault(call.node, "YAMLError", f"{relative}: {error.says}", relative)
    if isinstance(given, Known) and isinstance(given.value, str) and len(given.value) < 100_000:
        import yaml

        try:
            return lift(yaml.safe_load(given.value))
        except (yaml.YAMLError, ValueError, RecursionError):
            return UNKNOWN
    return Map(open=True)


@models("json.load")
def _json_load(walker: Walker, call: Call) -> Value | None:
    return None


@models("json.loads", "ast.literal_eval")
def _json_loads(walker: Walker, call: Call) -> Value | None:
    import ast
    import json

    given = call.argument(0, "s", "node_or_string")
    if isinstance(given, Known):
        try:
            if call.path == "json.loads":
                return lift(json.loads(given.value))
            return lift(ast.literal_eval(given.value))
        except json.JSONDecodeError as error:
            walker.fault(call.node, "JSONDecodeError", str(error), str(given.value)[:80])
        except (ValueError, SyntaxError, RecursionError) as error:
            says = "malformed node or string" if call.path != "json.loads" else str(error)
            walker.fault(call.node, type(error).__name__, says, str(given.value)[:80])
        except TypeError:
            says = f"the JSON object must be str, bytes or bytearray, not {type(given.value).__name__}"
            walker.fault(call.node, "TypeError", says)
    elif isinstance(given, Seq | Map) and call.path == "json.loads":
        kind = given.kind if isinstance(given, Seq) else "dict"
        says = f"the JSON object must be str, bytes or bytearray, not {kind}"
        walker.fault(call.node, "TypeError", says)
        return given
    else:
        from labgate.flow.config import ListNode, Node

        if isinstance(given, Node | ListNode) and call.path == "json.loads":
            kind = "DictConfig" if isinstance(given, Node) else "ListConfig"
            says = f"the JSON object must be str, bytes or bytearray, not {kind}"
            walker.fault(call.node, "TypeError", says)
            return given
    return UNKNOWN


@models("os.makedirs", "os.mkdir", "os.chdir", "os.remove")
def _quiet(walker: Walker, call: Call) -> Value | None:
    return NONE


@models("os.listdir", "glob.glob")
def _listing(walker: Walker, call: Call) -> Value | None:
    return Seq([], "list", True)
