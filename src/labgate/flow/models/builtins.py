"""Builtins that make values of values: numbers, strings, sequences, and what goes over them."""

from __future__ import annotations

import builtins
from typing import TYPE_CHECKING

from labgate.flow.attributes import bind
from labgate.flow.config import ListNode, Node
from labgate.flow.events import Call
from labgate.flow.registry import models
from labgate.flow.values import (
    ABSENT,
    UNKNOWN,
    External,
    Function,
    Instance,
    Known,
    Map,
    OneOf,
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
