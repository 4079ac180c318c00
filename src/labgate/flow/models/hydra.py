"""Hydra: what `@hydra.main` hands to the function, `compose`, and where the program runs."""

from __future__ import annotations

import posixpath
from typing import TYPE_CHECKING, Any

from labgate.compose import Request
from labgate.flow.config import Broken, ListNode, Node, from_plain
from labgate.flow.events import Call
from labgate.flow.machine import ROOT
from labgate.flow.registry import models
from labgate.flow.values import Function, Known, Seq, Text, Unknown, Value, text_of

if TYPE_CHECKING:
    from labgate.compose import Composition
    from labgate.flow.walker import Walker

UNSURE = "labgate-unknown-value"
"""Stands in an override for a value that is not known before the program runs."""


def hydra_argument(walker: Walker, func: Function, decorator: Call) -> Value:
    """The configuration that Hydra composes for `func` from the arguments of this process."""
    module = func.scope.module.name
    overrides, unsure = _overrides(walker.argv)
    compositions = walker.compositions
    if compositions is None:
        return opaque("no composition")
    request = compositions.request(module, overrides)
    if request is None:
        return _intended(walker, module, "hydra.main's arguments are not known")
    composition = compositions.composer.compose(request)
    if composition.tree is None:
        error = composition.error
        assert error is not None
        if not compositions.doubts(module):
            _refused(walker, decorator, error.kind, error.message)
            named = compositions.once_named(request)
            further = compositions.composer.compose(named).error if named is not None else None
            if further is not None and further.message != error.message:
                says = f"once Hydra is given {compositions.contract.config_file}: {further.message}"
                _refused(walker, decorator, further.kind, says)
        node = _intended(walker, module, error.first_line, overrides)
        for key in unsure:
            _blur(node, key)
        return node
    node = tree(composition, walker.config_name(module))
    for key in unsure:
        _blur(node, key)
    return node


def _refused(walker: Walker, decorator: Call, kind: str, says: str) -> None:
    """Hydra ends the program where its main function is decorated."""
    outer, walker.path = (walker.path, walker.certain), decorator.place.path
    walker.certain = walker.certain and walker.launch_known
    try:
        walker.fault(decorator.node, kind, says, "hydra.main")
    finally:
        walker.path, walker.certain = outer


def tree(composition: Composition, origin: str) -> Node:
    """The composed config as a node in struct mode, interpolations resolved by Hydra itself."""
    node = from_plain(composition.tree, origin)
    assert isinstance(node, Node)
    node.flags["struct"] = True
    for dotted, found in composition.interpolations.items():
        _resolve_at(node, dotted.split("."), found)
    return node


def _resolve_at(node: Value, parts: list[str], found: Any) -> None:
    for part in parts[:-1]:
        if isinstance(node, Node):
            node = node.items.get(part, node)
        elif isinstance(node, ListNode) and part.isdigit() and int(part) < len(node.items):
            node = node.items[int(part)]
    last = parts[-1]
    value: Value
    if found.error is None:
        value = from_plain(found.value) if not isinstance(found.value, str) else Known(found.value)
    elif "not found" in found.error and "resolver" not in found.error.lower():
        value = Broken("InterpolationKeyError", found.error)
    else:
        value = Unknown(found.expression)
    if isinstance(node, Node):
        if isinstance(value, Node | ListNode):
            value.parent, value.name = node, last
        node.items[last] = value
    elif isinstance(node, ListNode) and last.isdigit() and int(last) < len(node.items):
        node.items[int(last)] = value


def _overrides(argv: Value) -> tuple[tuple[str, ...], list[str]]:
    """The words after the program's name, and the keys of those whose values are not known."""
    words: list[str] = []
    unsure: list[str] = []
    items = argv.items[1:] if isinstance(argv, Seq) else []
    for item in items:
        text = text_of(item)
        if isinstance(text, Known):
            words.append(text.value)
            continue
        first = text.parts[0] if text.parts else None
        if isinstance(first, str) and "=" in first:
            key = first.partition("=")[0]
            words.append(f"{key}={UNSURE}")
            unsure.append(key.lstrip("+").partition("@")[0])
    return tuple(words), unsure


def _blur(node: Value, dotted: str) -> None:
    *parents, last = dotted.split(".")
    for part in parents:
        if isinstance(node, Node):
            node = node.items.get(part, node)
    if isinstance(node, Node) and last in node.items:
        node.items[last] = Unknown(dotted)


def _intended(walker: Walker, module: str, why: str, words: tuple[str, ...] | None = None) -> Value:
    """Where nothing composes: the config that was plausibly meant, so that the rest can still be followed."""
    compositions = walker.compositions
    assert compositions is not None
    run_id, mode = walker.walk.run_id, walker.walk.mode
    mended = compositions.mended(module, run_id, mode, words) if mode else None
    if mended is None:
        walker.walk.mended = walker.walk.mended or f"unknown: {why}"
        return opaque(why)
    walker.walk.mended = mended.how
    node = from_plain(mended.tree, walker.config_name(module))
    if not isinstance(node, Node):
        return opaque(why)
    node.flags["struct"] = True
    return node


def opaque(why: str) -> Node:
    """A configuration of which nothing is known."""
    node = Node(why)
    node.open = True
    return node


@models("hydra.compose", "hydra.experimental.compose")
def _compose(walker: Walker, call: Call) -> Value | None:
    name = call.argument(0, "config_name")
    given = call.argument(1, "overrides")
    directory = walker.hydra_directory
    if walker.compositions is None or directory is None or not isinstance(name, Known):
        return opaque("compose")
    argv = Seq([Known("compose"), *(given.items if isinstance(given, Seq) and not given.open else [])])
    if given is not None and (not isinstance(given, Seq) or given.open):
        return opaque("compose with overrides that are not known")
    overrides, unsure = _overrides(argv)
    request = Request(directory, name.value, overrides, None, "app", "api")
    composition = walker.compositions.composer.compose(request)
    if composition.error is not None:
        walker.fault(call.node, composition.error.kind, composition.error.message, "hydra.compose")
        return opaque("compose failed")
    node = tree(composition, f"{directory}/{name.value}.yaml")
    for key in unsure:
        _blur(node, key)
    return node


@models("hydra.initialize", "hydra.initialize_config_dir", "hydra.experimental.initialize")
def _initialize(walker: Walker, call: Call) -> Value | None:
    found = text_of(call.argument(0, "config_path", "config_dir") or Known(""))
    walker.hydra_directory = None
    if isinstance(found, Known):
        if call.path.endswith("config_dir"):
            path = posixpath.normpath(found.value)
        else:
            path = posixpath.normpath(posixpath.join(ROOT, posixpath.dirname(walker.path), found.value))
        if path == ROOT or path.startswith(ROOT + "/"):
            walker.hydra_directory = posixpath.relpath(path, ROOT)
    return None


@models("hydra.utils.get_original_cwd")
def _original(walker: Walker, call: Call) -> Value | None:
    return Known(ROOT)


@models("hydra.utils.to_absolute_path")
def _absolute(walker: Walker, call: Call) -> Value | None:
    given = text_of(call.argument(0, "path") or Known(""))
    if isinstance(given, Known):
        return Known(posixpath.join(ROOT, given.value))
    return Text((f"{ROOT}/", *given.parts))


@models("hydra.core.hydra_config.HydraConfig.get")
def _hydra_config(walker: Walker, call: Call) -> Value | None:
    """Hydra's own node: the overrides of this process and where it was started are known."""
    node = opaque("hydra's own config")
    overrides, runtime = Node(parent=node, name="overrides"), Node(parent=node, name="runtime")
    overrides.open = runtime.open = True
    task = ListNode(parent=overrides, name="task")
    task.items = list(walker.argv.items[1:])
    overrides.items["task"] = task
    runtime.items["cwd"] = Known(ROOT)
    node.items |= {"overrides": overrides, "runtime": runtime}
    return node
