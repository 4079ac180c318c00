"""Methods of lists, sets, dicts and strings."""

from __future__ import annotations

from typing import TYPE_CHECKING

from labgate.flow.config import Node
from labgate.flow.events import Call
from labgate.flow.operators import hashable
from labgate.flow.registry import methods
from labgate.flow.values import (
    ABSENT,
    NONE,
    UNKNOWN,
    Known,
    Map,
    OneOf,
    Seq,
    Text,
    Value,
    join,
)

if TYPE_CHECKING:
    from labgate.flow.walker import Walker


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
