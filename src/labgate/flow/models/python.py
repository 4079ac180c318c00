"""Builtins and small parts of the standard library."""

from __future__ import annotations

import builtins
from typing import TYPE_CHECKING

from labgate.flow import config
from labgate.flow.attributes import assigned, bind
from labgate.flow.config import ConfigFault, ListNode, Node
from labgate.flow.events import Ask, Call, ConfigRead, How
from labgate.flow.operators import hashable
from labgate.flow.registry import METHODS, Method, methods, models
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
    PathLike,
    Rounds,
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


@models("builtins.len")
def _len(walker: Walker, call: Call) -> Value | None:
    value = call.args[0] if call.args else UNKNOWN
    if isinstance(value, Seq | ListNode | Map | Node) and not getattr(value, "open", False):
        if isinstance(value, Map | Node) and any(
            isinstance(v, OneOf) and ABSENT in v.options for v in value.items.values()
        ):
            return UNKNOWN
        return Known(len(value.items))
    if isinstance(value, Known) and isinstance(value.value, str | bytes):
        return Known(len(value.value))
    if isinstance(value, Instance) and isinstance(found := value.cls.find("__len__"), Function):
        return walker.call(bind(found, value), [], {}, None)
    return UNKNOWN


@models("builtins.str")
def _str(walker: Walker, call: Call) -> Value | None:
    if not call.args:
        return Known("")
    value = call.args[0]
    if isinstance(value, OneOf):
        return join(text_of(option) for option in value.options if option is not ABSENT)
    return text_of(value) if len(call.args) == 1 else Text((None,))


@models("builtins.repr")
def _repr(walker: Walker, call: Call) -> Value | None:
    return Known(repr(call.args[0].value)) if call.args and isinstance(call.args[0], Known) else Text((None,))


@models("builtins.int", "builtins.float", "builtins.bool", "builtins.round", "builtins.abs")
def _number(walker: Walker, call: Call) -> Value | None:
    name = call.path.rpartition(".")[2]
    value = call.args[0] if call.args else Known(0)
    if name == "bool":
        truth = walker.truth(value)
        return UNKNOWN if truth is None else Known(truth)
    if isinstance(value, Known) and len(call.args) == 1:
        try:
            return Known(getattr(builtins, name)(value.value))
        except (ValueError, OverflowError) as error:
            walker.fault(call.node, type(error).__name__, str(error))
        except TypeError as error:
            walker.fault(call.node, "TypeError", str(error))
    elif isinstance(value, Node | ListNode | Map | Seq) and name in ("int", "float"):
        kind = {Node: "DictConfig", ListNode: "ListConfig", Map: "dict"}.get(type(value), "list")
        says = f"{name}() argument must be a string or a real number, not '{kind}'"
        walker.fault(call.node, "TypeError", says)
    return UNKNOWN


@models(
    "builtins.list",
    "builtins.tuple",
    "builtins.set",
    "builtins.frozenset",
    "builtins.sorted",
    "builtins.reversed",
)
def _sequence(walker: Walker, call: Call) -> Value | None:
    name = call.path.rpartition(".")[2]
    kind = {"tuple": "tuple", "set": "set", "frozenset": "set"}.get(name, "list")
    if not call.args:
        return Seq([], kind)
    value = call.args[0]
    walker.callbacks([], call.kwargs)
    if isinstance(value, External):
        return External(f"{call.path}()", value, call)
    items = walker.iterate(value)
    if items is None:
        if isinstance(value, Seq):
            return Seq(value.items, kind, True, value.excludes, value.of)
        return Seq([], kind, True, of=value)
    if name in ("sorted", "reversed"):
        if name == "sorted" and not call.kwargs:
            try:
                return lift(sorted(plain(item) for item in items))
            except (ValueError, TypeError):
                pass
        return Seq(items)
    if kind == "set":
        items = list({repr(item): item for item in items}.values())
    return Seq(items, kind)


@models("builtins.dict", "collections.OrderedDict")
def _dict(walker: Walker, call: Call) -> Value | None:
    made = Map()
    if call.args:
        value = call.args[0]
        if isinstance(value, External):
            return None
        if isinstance(value, Seq) and not value.open:
            for pair in value.items:
                if isinstance(pair, Seq) and len(pair.items) == 2 and isinstance(pair.items[0], Known):
                    made.items[pair.items[0].value] = pair.items[1]
                else:
                    made.open = True
        else:
            walker.spread(made, value)
    for key, value in call.kwargs.items():
        made.items[key] = value
    made.open = made.open or call.spread
    return made


@models("collections.defaultdict", "collections.Counter")
def _defaultdict(walker: Walker, call: Call) -> Value | None:
    return Map(open=True)


@models("builtins.range")
def _range(walker: Walker, call: Call) -> Value | None:
    for argument in call.args:
        if isinstance(argument, Known) and not isinstance(argument.value, int):
            kind = type(argument.value).__name__
            walker.fault(call.node, "TypeError", f"'{kind}' object cannot be interpreted as an integer")
            return External("builtins.range()", None, call)
    try:
        numbers = [int(plain(argument)) for argument in call.args]
        found = range(*numbers)
    except (ValueError, TypeError):
        return External("builtins.range()", None, call)
    if len(found) <= 2:
        return Seq([Known(number) for number in found])
    return External("builtins.range()", None, call)


@models("builtins.enumerate")
def _enumerate(walker: Walker, call: Call) -> Value | None:
    value = call.args[0] if call.args else UNKNOWN
    items = walker.iterate(value)
    start = call.argument(1, "start")
    first = start.value if isinstance(start, Known) else (0 if start is None else None)
    if items is None:
        element = walker.element(value)
        opened = Seq([Seq([Unknown("index"), element], "tuple")], "list", True)
        return Rounds(opened.items, "list", True) if isinstance(value, External | Instance) else opened
    return Seq(
        [
            Seq([Known(first + index) if isinstance(first, int) else UNKNOWN, item], "tuple")
            for index, item in enumerate(items)
        ]
    )


@models("builtins.zip")
def _zip(walker: Walker, call: Call) -> Value | None:
    lists = [walker.iterate(value) for value in call.args]
    if call.args and all(found is not None for found in lists):
        known = [found for found in lists if found is not None]
        return Seq([Seq(row, "tuple") for row in zip(*known, strict=False)])
    return Seq([Seq([walker.element(value) for value in call.args], "tuple")], "list", True)


@models("builtins.map", "builtins.filter")
def _map(walker: Walker, call: Call) -> Value | None:
    if len(call.args) < 2:
        return None
    func, holder = call.args[0], call.args[1]
    items = walker.iterate(holder)
    if items is not None and len(items) <= 64 and call.path.endswith("map"):
        return Seq([walker.call(func, [item], {}, None) for item in items])
    if isinstance(func, Function):
        with walker.perhaps():
            walker.try_out(func, walker.element(holder))
    return Seq([], "list", True)


@models("builtins.sum", "builtins.min", "builtins.max", "builtins.any", "builtins.all")
def _fold(walker: Walker, call: Call) -> Value | None:
    walker.callbacks([], call.kwargs)
    name = call.path.rpartition(".")[2]
    try:
        given = [plain(argument) for argument in call.args]
        made = getattr(builtins, name)(*given) if not call.kwargs else None
    except Exception:
        return _any_all(walker, name, call) if name in ("any", "all") else UNKNOWN
    return Known(made) if isinstance(made, int | float | str | bool) else UNKNOWN


def _any_all(walker: Walker, name: str, call: Call) -> Value:
    value = call.args[0] if call.args else UNKNOWN
    if isinstance(value, Seq):
        truths = [walker.truth(item) for item in value.items]
        stops = name == "any"
        if stops in truths and not value.open:
            return Known(stops)
        if not value.open and None not in truths:
            return Known(not stops)
    return UNKNOWN


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


@models("builtins.next", "builtins.iter")
def _next(walker: Walker, call: Call) -> Value | None:
    if not call.args:
        return UNKNOWN
    value = call.args[0]
    if call.path.endswith("iter"):
        return value
    if isinstance(value, External):
        return External(f"{value.path}[]", value)
    default = call.args[1] if len(call.args) > 1 else None
    items = walker.iterate(value)
    if items:
        return items[0]
    found = walker.element(value)
    return join((found, default)) if default is not None else found


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


@models("os.environ.get", "os.getenv", "os.environ.setdefault")
def _environ(walker: Walker, call: Call) -> Value | None:
    return join((Text((None,)), call.argument(1, "default") or NONE))


@methods(Seq, "append", "add", "insert", "appendleft")
def _append(walker: Walker, seq: Seq, call: Call) -> Value:
    walker.alter(seq)
    if call.args:
        value = call.args[-1]
        if not any(item is value or item == value for item in seq.items) or not walker.looping:
            seq.items.append(value)
    if walker.looping or not walker.certain:
        seq.open = True
    return NONE


@methods(Seq, "extend", "update")
def _extend(walker: Walker, seq: Seq, call: Call) -> Value:
    walker.alter(seq)
    items = walker.iterate(call.args[0]) if call.args else []
    if items is None or walker.looping:
        seq.open = True
    if items is None and not isinstance(made := walker.element(call.args[0]), Known):
        items = [made] if made is not UNKNOWN and not any(made == item for item in seq.items) else []
    seq.items.extend(items or [])
    return NONE


@methods(Seq, "copy")
def _copy(walker: Walker, seq: Seq, call: Call) -> Value:
    return Seq(seq.items, seq.kind, seq.open, seq.excludes, seq.of)


@methods(Seq, "pop", "popleft")
def _pop(walker: Walker, seq: Seq, call: Call) -> Value:
    walker.alter(seq)
    if seq.open or not seq.items or walker.looping:
        seq.open = True
        return join((*seq.items, UNKNOWN))
    index = call.args[0].value if call.args and isinstance(call.args[0], Known) else -1
    try:
        return seq.items.pop(index)
    except (IndexError, TypeError):
        return UNKNOWN


@methods(Seq, "remove", "discard", "clear", "sort", "reverse")
def _change(walker: Walker, seq: Seq, call: Call) -> Value:
    walker.alter(seq)
    if call.path == "clear":
        seq.items, seq.open = [], bool(walker.looping)
    elif call.path in ("remove", "discard"):
        seq.open = True
    return NONE


@methods(Seq, "union", "intersection", "difference")
def _union(walker: Walker, seq: Seq, call: Call) -> Value:
    more = [item for arg in call.args for item in (walker.iterate(arg) or [])]
    if call.path == "union":
        return Seq([*seq.items, *more], "set", True)
    return Seq(seq.items, "set", True)


@methods(Map, "get")
def _map_get(walker: Walker, made: Map, call: Call) -> Value:
    default = call.argument(1, "default") or NONE
    key = call.args[0] if call.args else UNKNOWN
    if isinstance(key, Known) and hashable(key.value):
        value = made.items.get(key.value)
        if value is None:
            return join((UNKNOWN, default)) if made.open or walker.looping else default
        if isinstance(value, OneOf) and ABSENT in value.options:
            return join((*[o for o in value.options if o is not ABSENT], default))
        return value
    return join((*made.items.values(), default, UNKNOWN))


@methods(Map, "keys")
def _map_keys(walker: Walker, made: Map, call: Call) -> Value:
    keys = [key if isinstance(key, Value) else Known(key) for key in made.items]
    return Seq(keys, "list", _vague(made))


@methods(Map, "values")
def _map_values(walker: Walker, made: Map, call: Call) -> Value:
    return Seq([_there(value) for value in made.items.values()], "list", _vague(made))


@methods(Map, "items")
def _map_items(walker: Walker, made: Map, call: Call) -> Value:
    pairs = [
        Seq([key if isinstance(key, Value) else Known(key), _there(value)], "tuple")
        for key, value in made.items.items()
    ]
    return Seq(pairs, "list", _vague(made))


def _vague(made: Map) -> bool:
    return made.open or any(isinstance(v, OneOf) and ABSENT in v.options for v in made.items.values())


def _there(value: Value) -> Value:
    if isinstance(value, OneOf) and ABSENT in value.options:
        return join(option for option in value.options if option is not ABSENT)
    return value


@methods(Map, "update")
def _map_update(walker: Walker, made: Map, call: Call) -> Value:
    if call.args:
        given = call.args[0]
        if isinstance(given, Map | Node):
            for key, value in given.items.items():
                walker.put(made.items, key, value)
            if given.open:
                walker.alter(made)
                made.open = True
        else:
            walker.alter(made)
            made.open = True
    for key, value in call.kwargs.items():
        walker.put(made.items, key, value)
    return NONE


@methods(Map, "setdefault")
def _map_setdefault(walker: Walker, made: Map, call: Call) -> Value:
    key, default = call.args[0] if call.args else UNKNOWN, call.argument(1) or NONE
    if isinstance(key, Known) and hashable(key.value):
        value = made.items.get(key.value)
        if value is None:
            walker.put(made.items, key.value, default)
            return join((default, UNKNOWN)) if made.open and not isinstance(default, Map | Seq) else default
        return _there(value)
    walker.alter(made)
    made.open = True
    return default


@methods(Map, "pop")
def _map_pop(walker: Walker, made: Map, call: Call) -> Value:
    key = call.args[0] if call.args else UNKNOWN
    default = call.args[1] if len(call.args) > 1 else UNKNOWN
    if isinstance(key, Known) and hashable(key.value):
        value = made.items.get(key.value)
        walker.drop(made.items, key.value)
        return _there(value) if value is not None else default
    walker.alter(made)
    made.open = True
    return UNKNOWN


@methods(Map, "copy")
def _map_copy(walker: Walker, made: Map, call: Call) -> Value:
    return Map(dict(made.items), made.open, made.of)


@methods(Text, "format", "lower", "upper", "strip", "replace", "lstrip", "rstrip", "join", "title")
def _text_method(walker: Walker, text: Text, call: Call) -> Value:
    if call.path == "replace" and len(call.args) == 2 and all(isinstance(a, Known) for a in call.args):
        old, new = (str(a.value) for a in call.args if isinstance(a, Known))
        return Text([part if part is None else part.replace(old, new) for part in text.parts])
    if call.path in ("lower", "upper", "title"):
        return Text([part if part is None else getattr(part, call.path)() for part in text.parts])
    return Text((None,))


@methods(Text, "startswith")
def _text_startswith(walker: Walker, text: Text, call: Call) -> Value:
    first = text.parts[0] if text.parts else None
    given = call.args[0] if call.args else None
    if isinstance(first, str) and isinstance(given, Known) and isinstance(given.value, str):
        if first.startswith(given.value):
            return Known(True)
        if not given.value.startswith(first):
            return Known(False)
    return UNKNOWN


@methods(Text, "split", "rsplit", "partition", "rpartition")
def _text_split(walker: Walker, text: Text, call: Call) -> Value:
    first = text.parts[0] if text.parts else None
    given = call.args[0] if call.args else None
    if (
        call.path in ("split", "partition")
        and isinstance(first, str)
        and isinstance(given, Known)
        and isinstance(given.value, str)
        and given.value in first
        and (call.path == "partition" or len(call.args) > 1)
    ):
        head, _, tail = first.partition(given.value)
        rest = Text((tail, *text.parts[1:]))
        items: list[Value] = [Known(head), rest]
        if call.path == "partition":
            items.insert(1, given)
        return Seq(items, "tuple" if call.path == "partition" else "list")
    return Seq([], "list", True, of=Text((None,)))
