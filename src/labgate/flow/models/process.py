"""Processes, what they are given (words, argparse, the environment), and children that the bundle starts."""

from __future__ import annotations

import argparse
import shlex
from typing import TYPE_CHECKING, Any

from labgate.flow.events import Call
from labgate.flow.registry import models
from labgate.flow.values import (
    NONE,
    UNKNOWN,
    External,
    Known,
    OneOf,
    Seq,
    Text,
    Unknown,
    Value,
    join,
    lift,
    plain,
    text_of,
)

if TYPE_CHECKING:
    from labgate.flow.walker import Walker


@models(
    "subprocess.run",
    "subprocess.check_call",
    "subprocess.check_output",
    "subprocess.call",
    "subprocess.Popen",
    "os.system",
    "os.execvp",
    "os.execv",
    "os.execve",
    "os.execvpe",
    "os.spawnvp",
)
def _child(walker: Walker, call: Call) -> Value | None:
    words = _words(call)
    if words is None:
        return None
    given = call.argument(0, "args")
    sure = not (isinstance(given, Seq) and given.open) and not any(
        isinstance(w, Unknown | OneOf) for w in words
    )
    names = [text_of(word) for word in words]
    for index, name in enumerate(names[:-1]):
        if isinstance(name, Known) and name.value == "-m":
            module = names[index + 1]
            if isinstance(module, Known) and walker.bundle.module(str(module.value)) is not None:
                walker.spawn(str(module.value), list(words[index + 2 :]), call, sure)
                return None
    for index, name in enumerate(names):
        if isinstance(name, Known) and str(name.value).endswith(".py"):
            module_name = _module_of(walker, str(name.value))
            if module_name:
                walker.spawn(module_name, list(words[index + 1 :]), call, sure)
            return None
    return None


def _module_of(walker: Walker, path: str) -> str:
    from labgate.flow.models.files import inside

    relative = inside(path)
    return relative.removesuffix(".py").replace("/", ".") if relative in walker.bundle.sources else ""


def _words(call: Call) -> list[Value] | None:
    """The command's words, None when it is too dynamic."""
    given = call.argument(1 if call.path.startswith(("os.exec", "os.spawn")) else 0, "args", "command")
    if call.path == "os.spawnvp":
        given = call.argument(2)
    if isinstance(given, Seq):
        return list(given.items)
    if isinstance(given, Known) and isinstance(given.value, str):
        try:
            return [Known(word) for word in shlex.split(given.value)]
        except ValueError:
            return None
    if isinstance(given, Text):
        hole = "\0"
        try:
            whole = "".join(hole if part is None else part for part in given.parts)
            return [
                Text([part for piece in _split_holes(word) for part in piece])
                if hole in word
                else Known(word)
                for word in shlex.split(whole)
            ]
        except ValueError:
            return None
    return None


def _split_holes(word: str) -> list[list[str | None]]:
    found: list[list[str | None]] = []
    for index, part in enumerate(word.split("\0")):
        if index:
            found.append([None])
        found.append([part])
    return found


@models("runpy.run_module")
def _run_module(walker: Walker, call: Call) -> Value | None:
    name = call.argument(0, "mod_name")
    if isinstance(name, Known) and walker.bundle.module(str(name.value)) is not None:
        walker.spawn(str(name.value), list(walker.argv.items[1:]), call)
    return None


@models("importlib.import_module", "builtins.__import__")
def _import_module(walker: Walker, call: Call) -> Value | None:
    name = call.argument(0, "name")
    if isinstance(name, Known) and walker.bundle.module(str(name.value)) is not None:
        value: Value = walker.load(str(name.value), call.node)
        return value
    return External(str(name.value)) if isinstance(name, Known) else UNKNOWN


class Parser:
    """The real argparse parser that the code builds, as far as its arguments are plain."""

    def __init__(self) -> None:
        self.added: list[Call] = []
        self.defaults: dict[str, Value] = {}
        self.unclear = ""


def _parser_of(walker: Walker, value: Value | None) -> Parser | None:
    base: Value | None = value
    while isinstance(base, External):
        if base.path == "argparse.ArgumentParser()" and base.call is not None:
            parsers: dict[int, Parser] = walker.parsers
            return parsers.setdefault(id(base.call), Parser())
        base = base.base
    return None


@models("*.add_argument")
def _add_argument(walker: Walker, call: Call) -> Value | None:
    parser = _parser_of(walker, call.args[0])
    if parser is not None:
        parser.added.append(call)
        if call.spread:
            parser.unclear = "arguments are added dynamically"
        return NONE
    return None


@models("*.add_subparsers")
def _subparsers(walker: Walker, call: Call) -> Value | None:
    parser = _parser_of(walker, call.args[0])
    if parser is not None:
        parser.unclear = "it has subcommands"
    return None


@models("*.set_defaults")
def _set_defaults(walker: Walker, call: Call) -> Value | None:
    parser = _parser_of(walker, call.args[0])
    if parser is not None:
        parser.defaults.update(call.kwargs)
    return None


@models("*.parse_args", "*.parse_known_args", "*.parse_intermixed_args")
def _parse_args(walker: Walker, call: Call) -> Value | None:
    parser = _parser_of(walker, call.args[0])
    if parser is None:
        return None
    known_only = call.path.endswith("parse_known_args")
    given = call.argument(1, "args")
    if given is None or (isinstance(given, Known) and given.value is None):
        given = Seq(walker.argv.items[1:])
    spread = walker.namespace()
    words = given.items if isinstance(given, Seq) and not given.open else None
    known = words is not None and walker.launch_known and all(isinstance(word, Known) for word in words)
    if words is None or parser.unclear or not known:
        spread.cls.bases.append(External("argparse.Namespace"))
        return Seq([spread, UNKNOWN], "tuple") if known_only else spread
    real = _Raising(prog=walker.walk.module, add_help=False)
    types: dict[str, Value] = {}
    defaults: dict[str, Value] = {}
    for added in parser.added:
        if not _add_real(real, added, types, defaults):
            spread.cls.bases.append(External("argparse.Namespace"))
            return Seq([spread, UNKNOWN], "tuple") if known_only else spread
    texts = [str(word.value) for word in words if isinstance(word, Known)]
    try:
        made, rest = real.parse_known_args(texts)
        if rest and not known_only:
            real.error(f"unrecognized arguments: {' '.join(rest)}")
    except _Refused as refused:
        about = tuple((added.place, "declared here") for added in parser.added[:6])
        walker.fault(call.node, "SystemExit", str(refused), "argparse", about)
        for text in texts:  # as mended: what was given reaches the code under its name
            name, equals, rest_of_it = text.partition("=")
            if equals:
                spread.attrs[name] = Known(rest_of_it)
        spread.cls.bases.append(External("argparse.Namespace"))
        return Seq([spread, UNKNOWN], "tuple") if known_only else spread
    for name, text in vars(made).items():
        value: Value
        if text is _DEFAULT:
            value = parser.defaults.get(name, defaults.get(name, NONE))
            if isinstance(value, Known) and isinstance(value.value, str) and name in types:
                value = walker.converted(types[name], value, call)
        else:
            value = lift(text)
            if name in types:
                value = walker.converted(types[name], value, call)
        spread.attrs[name] = value
    spread.cls.attrs.update(parser.defaults)
    walker.parsed.append((call, tuple(parser.added)))
    return Seq([spread, Seq([Known(word) for word in rest])], "tuple") if known_only else spread


_DEFAULT: Any = object()


class _Refused(Exception):
    pass


class _Raising(argparse.ArgumentParser):
    def error(self, message: str) -> Any:
        raise _Refused(message)

    def exit(self, status: int = 0, message: str | None = None) -> Any:
        raise _Refused(message or "")


_PASSED = ("action", "nargs", "choices", "required", "dest", "const")


def _add_real(
    real: argparse.ArgumentParser, call: Call, types: dict[str, Value], defaults: dict[str, Value]
) -> bool:
    """Add one argument to the real parser; conversions are left to the walker. False when it is unclear."""
    try:
        names = [plain(name) for name in call.args[1:]]
        options = {key: plain(call.kwargs[key]) for key in _PASSED if key in call.kwargs}
        if "type" in call.kwargs:
            options.pop("choices", None)
        action = options.get("action")
        if action in ("version", "help"):
            return True
        if action not in ("store_true", "store_false", "count", "store_const"):
            options["default"] = _DEFAULT
        added = real.add_argument(*names, **options)
    except (ValueError, TypeError, argparse.ArgumentError):
        return False
    if "type" in call.kwargs:
        types[added.dest] = call.kwargs["type"]
    if "default" in call.kwargs:
        defaults[added.dest] = call.kwargs["default"]
    return True


@models("os.environ.get", "os.getenv", "os.environ.setdefault")
def _environ(walker: Walker, call: Call) -> Value | None:
    return join((Text((None,)), call.argument(1, "default") or NONE))


@models("sys.exit", "builtins.exit", "builtins.quit", "os._exit")
def _exit(walker: Walker, call: Call) -> Value | None:
    return None
