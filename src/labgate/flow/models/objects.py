"""Builtins that ask of objects what they are and have, and what else makes objects and functions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from labgate.flow import config
from labgate.flow.attributes import assigned
from labgate.flow.config import ConfigFault, ListNode, Node
from labgate.flow.events import Ask, Call, ConfigRead, How
from labgate.flow.registry import METHODS, Method, models
from labgate.flow.values import (
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
    PathLike,
    Seq,
    Text,
    Unknown,
    Value,
    join,
)

if TYPE_CHECKING:
    from labgate.flow.walker import Walker


@models("builtins.isinstance")
def _isinstance(walker: Walker, call: Call) -> Value | None:
    if len(call.args) != 2:
        return UNKNOWN
    value, kinds = call.args
    listed = kinds.items if isinstance(kinds, Seq) else [kinds]
    came = [_is_a(value, kind) for kind in listed]
    if True in came:
        return Known(True)
    return UNKNOWN if None in came else Known(False)


_PYTHON = {
    "builtins.str": str,
    "builtins.int": int,
    "builtins.float": float,
    "builtins.bool": bool,
    "builtins.bytes": bytes,
}


_CONTAINERS = {
    "builtins.list": "list",
    "builtins.tuple": "tuple",
    "builtins.set": "set",
}


def _is_a(value: Value, kind: Value) -> bool | None:
    if isinstance(value, Instance) and isinstance(kind, Class):
        return _derives(value.cls, kind)
    if not isinstance(kind, External):
        return None if isinstance(value, Instance | External | Unknown | OneOf) else False
    path = kind.path
    if isinstance(value, OneOf | Unknown | External):
        return None
    tail = path.rpartition(".")[2]
    if isinstance(value, Node):
        return tail in ("DictConfig", "Mapping", "MutableMapping", "Container", "BaseContainer")
    if isinstance(value, ListNode):
        return tail in ("ListConfig", "Sequence", "MutableSequence", "Iterable", "Container", "BaseContainer")
    if isinstance(value, Known):
        if path in _PYTHON:
            return isinstance(value.value, _PYTHON[path])
        return None if tail in ("Number", "Real", "Integral", "Hashable", "Sequence", "Iterable") else False
    if isinstance(value, Text):
        return path == "builtins.str" or (None if tail in ("Sequence", "Iterable", "Hashable") else False)
    if isinstance(value, Seq):
        if path in _CONTAINERS:
            return value.kind == _CONTAINERS[path]
        return None if tail in ("Sequence", "Iterable", "Collection", "Set") else False
    if isinstance(value, Map):
        return tail in ("dict", "Mapping", "MutableMapping", "OrderedDict") or None
    if isinstance(value, PathLike):
        return "Path" in tail or tail == "PathLike"
    return None


def _derives(cls: Class, other: Class) -> bool | None:
    if cls is other or cls.node is other.node:
        return True
    return any(isinstance(base, Class) and _derives(base, other) for base in cls.bases)


@models("builtins.hasattr")
def _hasattr(walker: Walker, call: Call) -> Value | None:
    if len(call.args) != 2 or not isinstance(call.args[1], Known):
        return UNKNOWN
    value, name = call.args[0], str(call.args[1].value)
    if isinstance(value, Node):
        there = value.has(name)
        walker.emit(ConfigRead(*walker.context(call.node), value.under(name), How.HASATTR, there, UNKNOWN))
        return UNKNOWN if there is None else Known(there or (Node, name) in METHODS)
    if isinstance(value, Instance):
        if name in value.attrs or value.cls.find(name) is not None:
            return Known(True)
        return Known(False) if value.cls.closed and not assigned(value.cls, name) else UNKNOWN
    if isinstance(value, Known):
        return Known(hasattr(value.value, name))
    if isinstance(value, External):
        walker.emit(Ask(*walker.context(call.node), value, value.path, call.args[1], How.HASATTR, UNKNOWN))
    return UNKNOWN


@models("builtins.getattr")
def _getattr(walker: Walker, call: Call) -> Value | None:
    if len(call.args) < 2 or not isinstance(call.args[1], Known):
        return UNKNOWN
    value, name = call.args[0], str(call.args[1].value)
    default = call.args[2] if len(call.args) > 2 else None
    if default is None:
        return walker.attribute(value, name, call.node)
    if isinstance(value, Node):
        there = value.has(name)
        try:
            found = default if there is False else config.resolve(value.get(name, default), value)
        except ConfigFault:
            found = default
        walker.emit(ConfigRead(*walker.context(call.node), value.under(name), How.GET, there, found, default))
        return found
    if isinstance(value, Instance):
        if name in value.attrs or value.cls.find(name) is not None:
            return walker.attribute(value, name, call.node)
        if value.cls.closed and not assigned(value.cls, name):
            return default
        return join((UNKNOWN, default))
    if isinstance(value, Known):
        return Method(value, name) if hasattr(value.value, name) else default
    if isinstance(value, Module):
        found_name = value.scope.names.get(name)
        return found_name if found_name is not None else default
    if isinstance(value, External):
        return join((External(f"{value.path}.{name}", value), default))
    return join((UNKNOWN, default))


@models("builtins.setattr")
def _setattr(walker: Walker, call: Call) -> Value | None:
    if len(call.args) == 3 and isinstance(call.args[1], Known):
        walker.set_attribute(call.args[0], str(call.args[1].value), call.args[2], call.node)
    elif call.args and isinstance(call.args[0], Node):
        call.args[0].open = True
    return NONE


@models("builtins.vars")
def _vars(walker: Walker, call: Call) -> Value | None:
    value = call.args[0] if call.args else UNKNOWN
    return Map(dict(value.attrs), True) if isinstance(value, Instance) else Map(open=True)


@models("builtins.type")
def _type(walker: Walker, call: Call) -> Value | None:
    value = call.args[0] if call.args else UNKNOWN
    return value.cls if isinstance(value, Instance) else UNKNOWN


@models("builtins.super")
def _super(walker: Walker, call: Call) -> Value | None:
    from labgate.flow.registry import Super

    if len(call.args) == 2 and isinstance(call.args[0], Class):
        return Super(call.args[0], call.args[1])
    return UNKNOWN


@models("functools.partial")
def _partial(walker: Walker, call: Call) -> Value | None:
    func = call.args[0] if call.args else None
    if not isinstance(func, Function):
        return None
    names = [a.arg for a in (*func.node.args.posonlyargs, *func.node.args.args)]
    if func.bound is not None:
        names = names[1:]
    defaults = dict(func.defaults)
    defaults.update(zip(names, call.args[1:], strict=False))
    defaults.update(call.kwargs)
    return Function(func.node, func.scope, defaults, func.bound, func.owner)


@models("types.SimpleNamespace", "argparse.Namespace")
def _namespace(walker: Walker, call: Call) -> Value | None:
    made: Instance = walker.namespace()
    made.attrs.update(call.kwargs)
    return made
