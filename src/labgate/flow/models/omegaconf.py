"""OmegaConf: its functions, and the methods of its containers."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from labgate.bundle import BrokenFileError
from labgate.flow import config
from labgate.flow.config import ConfigFault, ListNode, Node, adopt, from_plain
from labgate.flow.events import Call, ConfigRead, ConfigWrite, How
from labgate.flow.models.files import inside, known_path
from labgate.flow.registry import METHODS, methods, models
from labgate.flow.values import (
    ABSENT,
    NONE,
    UNKNOWN,
    External,
    Known,
    Map,
    OneOf,
    Seq,
    Text,
    Unknown,
    Value,
    join,
    options,
)

if TYPE_CHECKING:
    from labgate.flow.machine import Machine
    from labgate.flow.walker import Walker

OMEGA = "omegaconf.OmegaConf"


def _node(value: Value | None) -> Node | None:
    return value if isinstance(value, Node) else None


def opened(machine: Machine, call: Call) -> Callable[[], None]:
    """Enter `open_dict(cfg)`; what is returned leaves it again."""
    node = _node(call.argument(0, "config"))
    if node is None:
        return lambda: None
    before = node.flags.get("struct")
    machine.put(node.flags, "struct", False)
    return lambda: machine.put(node.flags, "struct", before)


@models(f"{OMEGA}.set_struct")
def _set_struct(walker: Walker, call: Call) -> Value | None:
    node, value = _node(call.argument(0, "conf")), call.argument(1, "value")
    if node is not None:
        truth = walker.truth(value) if value is not None else None
        # when it cannot be known, the lenient reading raises no false alarm
        walker.put(node.flags, "struct", bool(truth) if truth is not None else False)
    return NONE


@models(f"{OMEGA}.set_readonly")
def _set_readonly(walker: Walker, call: Call) -> Value | None:
    node, value = _node(call.argument(0, "conf")), call.argument(1, "value")
    if node is not None:
        walker.put(node.flags, "readonly", walker.truth(value or UNKNOWN) is True)
    return NONE


@models(f"{OMEGA}.create")
def _create(walker: Walker, call: Call) -> Value | None:
    given = call.argument(0, "obj")
    if given is None:
        return Node("OmegaConf.create()")
    if isinstance(given, Node | Map | ListNode | Seq):
        made = adopt(given, None, None)
        if isinstance(made, Node) and isinstance(given, Node):
            made.flags = {"struct": given.flag("struct") or None}
        return made
    if isinstance(given, OneOf):
        return join(adopt(option, None, None) for option in given.options)
    if isinstance(given, Known) and isinstance(given.value, str):
        return _parsed(given.value, "OmegaConf.create")
    return _open_node()


def _open_node() -> Node:
    node = Node()
    node.open = True
    return node


def _parsed(text: str, origin: str) -> Value:
    import yaml

    try:
        return from_plain(yaml.load(text, config.OmegaLoader), origin)
    except (yaml.YAMLError, RecursionError, ValueError):
        return _open_node()


@models(f"{OMEGA}.load")
def _load(walker: Walker, call: Call) -> Value | None:
    given = call.argument(0, "file_")
    path = known_path(given) if given is not None else None
    if path is None and isinstance(given, External) and given.call is not None:
        path = known_path(given.call.argument(0, "file") or UNKNOWN)
    if path is None:
        return _open_node()
    if not inside(path):
        return _open_node()
    relative = inside(path)
    if relative not in walker.bundle.files:
        if walker.missing(relative):
            walker.fault(call.node, "FileNotFoundError", f"No such file: '{relative}'", relative)
        return _open_node()
    try:
        data = walker.bundle.yaml(relative)
    except BrokenFileError as error:
        walker.fault(call.node, "YAMLError", f"{relative}: {error.says}", relative)
        return _open_node()
    return from_plain({} if data is None else data, relative)


@models(f"{OMEGA}.merge", f"{OMEGA}.unsafe_merge")
def _merge(walker: Walker, call: Call) -> Value | None:
    if not call.args or call.spread:
        return _open_node()
    first, *others = [_one(argument) for argument in call.args]
    if not isinstance(first, Node | Map):
        return _open_node()
    try:
        merged, refused = config.merge(first, others)
        assert isinstance(merged, Node)
    except ConfigFault as fault:
        walker.fault(call.node, fault.kind, fault.says)
        return _open_node()
    _report_refused(walker, call, refused, others)
    if refused:  # as mended: struct mode is lifted before the merge, and stays so
        merged.flags["struct"] = False
    return merged


def _one(value: Value) -> Value:
    """Of several possible nodes the first; what is not known stays so."""
    if isinstance(value, OneOf):
        nodes = [option for option in value.options if isinstance(option, Node | Map)]
        if len(nodes) == 1 and all(
            isinstance(o, Known) and o.value is None
            for o in value.options
            if o is not nodes[0] and o is not ABSENT
        ):
            return nodes[0]
        return UNKNOWN
    return value


def _report_refused(walker: Walker, call: Call, refused: list[str], others: list[Value]) -> None:
    for key in refused:
        walker.emit(ConfigWrite(*walker.context(call.node), key, UNKNOWN, True, True))
    if refused:
        last = refused[0].rpartition(".")[2]
        walker.fault(call.node, "ConfigKeyError", f"Key '{last}' is not in struct", refused[0])


@methods(Node, "merge_with")
def _merge_with(walker: Walker, node: Node, call: Call) -> Value:
    try:
        refused = config.merge_with(node, [_one(argument) for argument in call.args], walker.put)
    except ConfigFault as fault:
        walker.fault(call.node, fault.kind, fault.says)
        return NONE
    _report_refused(walker, call, refused, list(call.args))
    if refused:
        walker.put(node.flags, "struct", False)
    return NONE


@models(f"{OMEGA}.to_container", f"{OMEGA}.to_object")
def _to_container(walker: Walker, call: Call) -> Value | None:
    given = call.argument(0, "cfg")
    for option in options(given or UNKNOWN):
        if isinstance(option, Node | ListNode):
            _read_whole(walker, option, call)
    if isinstance(given, Node | ListNode):
        return config.to_plain_value(given)
    if isinstance(given, Known | Text | Map | Seq):
        kind = _python_name(given)
        says = f"Input cfg is not an OmegaConf config object ({kind})"
        walker.fault(call.node, "ValueError", says, "OmegaConf.to_container")
        return given
    if isinstance(given, OneOf):
        return join(
            config.to_plain_value(option) if isinstance(option, Node | ListNode) else option
            for option in given.options
            if option is not ABSENT
        )
    return Map(open=True)


def _python_name(value: Value) -> str:
    if isinstance(value, Known):
        return type(value.value).__name__
    return {Text: "str", Map: "dict"}.get(type(value), "list")


def _read_whole(walker: Walker, value: Node | ListNode, call: Call) -> None:
    walker.emit(ConfigRead(*walker.context(call.node), value.key or "*", How.WHOLE, True, value))


@models(f"{OMEGA}.to_yaml", f"{OMEGA}.save")
def _to_yaml(walker: Walker, call: Call) -> Value | None:
    given = call.argument(0, "cfg", "config")
    if isinstance(given, Node | ListNode):
        _read_whole(walker, given, call)
    return Text((None,)) if call.path.endswith("to_yaml") else NONE


@models(f"{OMEGA}.select")
def _select(walker: Walker, call: Call) -> Value | None:
    node, key = _node(call.argument(0, "cfg")), call.argument(1, "key")
    default = call.kwargs.get("default", NONE)
    if node is None or not isinstance(key, Known):
        return UNKNOWN
    try:
        value, there = config.select(node, str(key.value))
    except ConfigFault:
        value, there = UNKNOWN, None
    found = default if value is None else (join((value, default)) if there is None else value)
    walker.emit(
        ConfigRead(*walker.context(call.node), node.under(key.value), How.SELECT, there, found, default)
    )
    return found


@models(f"{OMEGA}.update")
def _update(walker: Walker, call: Call) -> Value | None:
    node, key = _node(call.argument(0, "cfg")), call.argument(1, "key")
    value = call.argument(2, "value") or NONE
    force = walker.truth(call.kwargs.get("force_add", Known(False)))
    if node is None or not isinstance(key, Known):
        return NONE
    *parents, last = str(key.value).split(".")
    for part in parents:
        inner = node.items.get(part)
        if not isinstance(inner, Node):
            if not force and node.flag("struct") and part not in node.items and not node.open:
                name = node.under(part)
                walker.fault(call.node, "ConfigKeyError", f"Key '{part}' is not in struct", name)
            inner = Node(parent=node, name=part)
            walker.put(node.items, part, inner)
        node = inner
    if force:
        walker.emit(ConfigWrite(*walker.context(call.node), node.under(last), value, False, False))
        node.force(last, value, walker.put)
    else:
        walker.write_config(node, last, value, call.node, False)
    return NONE


@models(f"{OMEGA}.is_config", f"{OMEGA}.is_dict")
def _is_config(walker: Walker, call: Call) -> Value | None:
    given = call.argument(0, "obj")
    if isinstance(given, Node):
        return Known(True)
    if isinstance(given, ListNode):
        return Known(call.path.endswith("is_config"))
    return Known(False) if isinstance(given, Known | Map | Seq | Text) else UNKNOWN


@models(f"{OMEGA}.is_list")
def _is_list(walker: Walker, call: Call) -> Value | None:
    given = call.argument(0, "obj")
    return (
        Known(isinstance(given, ListNode)) if not isinstance(given, Unknown | OneOf | External) else UNKNOWN
    )


@models(f"{OMEGA}.is_missing")
def _is_missing(walker: Walker, call: Call) -> Value | None:
    node, key = _node(call.argument(0, "cfg")), call.argument(1, "key")
    if node is None or not isinstance(key, Known):
        return UNKNOWN
    value = node.items.get(key.value)
    return Known(isinstance(value, Known) and value.value == "???") if value is not None else Known(False)


@models(f"{OMEGA}.is_struct")
def _is_struct(walker: Walker, call: Call) -> Value | None:
    node = _node(call.argument(0, "conf"))
    return Known(node.flag("struct")) if node is not None else UNKNOWN


@models(f"{OMEGA}.resolve")
def _resolve(walker: Walker, call: Call) -> Value | None:
    return NONE


@models(f"{OMEGA}.masked_copy")
def _masked(walker: Walker, call: Call) -> Value | None:
    node, keys = _node(call.argument(0, "conf")), call.argument(1, "keys")
    made = Node()
    if node is None or not isinstance(keys, Seq):
        return _open_node()
    for key in keys.items:
        if isinstance(key, Known) and key.value in node.items:
            made.force(key.value, node.items[key.value], walker.put)
    return made


@models(f"{OMEGA}.from_cli", f"{OMEGA}.from_dotlist")
def _from_words(walker: Walker, call: Call) -> Value | None:
    given = call.argument(0, "args_list", "dotlist")
    if given is None:
        given = Seq(walker.argv.items[1:])
    made = Node("command line")
    if not isinstance(given, Seq) or given.open:
        return _open_node()
    for word in given.items:
        if not isinstance(word, Known) or not isinstance(word.value, str):
            made.open = True
            continue
        key, _, text = word.value.partition("=")
        node = made
        *parents, last = key.split(".")
        for part in parents:
            inner = node.items.get(part)
            if not isinstance(inner, Node):
                inner = Node(parent=node, name=part)
                node.items[part] = inner
            node = inner
        node.force(last, from_plain(config.scalar(text)) if text else NONE, config.set_item)
    return made


_NOT_MODELLED = frozenset(
    [
        "clear_cache",
        "clear_resolver",
        "clear_resolvers",
        "copy_cache",
        "get_cache",
        "get_type",
        "has_resolver",
        "is_interpolation",
        "is_readonly",
        "legacy_register_resolver",
        "missing_keys",
        "register_new_resolver",
        "register_resolver",
        "set_cache",
        "structured",
    ]
)
"""What it does have besides, as of omegaconf 2.3 and 2.4; what they give is not followed."""


@models(f"{OMEGA}.*")
def _no_such_function(walker: Walker, call: Call) -> Value | None:
    """A function that OmegaConf does not have, given a config: as mended, it hands on a copy."""
    if call.path.rpartition(".")[2] in _NOT_MODELLED:
        return None
    given = call.argument(0)
    return _copied(given) if isinstance(given, Node) else None


@models("copy.deepcopy", "copy.copy")
def _deepcopy(walker: Walker, call: Call) -> Value | None:
    given = call.argument(0, "x")
    if isinstance(given, Node):
        return _copied(given)
    if isinstance(given, Seq):
        return Seq(given.items, given.kind, given.open)
    if isinstance(given, Map):
        return Map(dict(given.items), given.open)
    return given


def _copied(node: Node) -> Node:
    made = adopt(node, None, None)
    assert isinstance(made, Node)
    made.flags = {name: node.flag(name) or None for name in ("struct", "readonly")}
    return made


@methods(Node, "copy")
def _copy(walker: Walker, node: Node, call: Call) -> Value:
    return _copied(node)


@methods(Node, "get")
def _get(walker: Walker, node: Node, call: Call) -> Value:
    key, default = call.argument(0, "key"), call.argument(1, "default_value", "default") or NONE
    if not isinstance(key, Known):
        return UNKNOWN
    there = node.has(key.value)
    try:
        value = config.resolve(node.get(key.value, default), node)
    except ConfigFault as fault:
        walker.fault(call.node, fault.kind, fault.says, node.under(key.value))
        value = UNKNOWN
    walker.emit(ConfigRead(*walker.context(call.node), node.under(key.value), How.GET, there, value, default))
    return value


@methods(Node, "keys")
def _keys(walker: Walker, node: Node, call: Call) -> Value:
    return Seq([Known(key) for key in node.items], "list", node.open)


@methods(Node, "values")
def _values(walker: Walker, node: Node, call: Call) -> Value:
    return Seq([_each(walker, node, key, call) for key in node.items], "list", node.open)


@methods(Node, "items", "items_ex")
def _items(walker: Walker, node: Node, call: Call) -> Value:
    pairs = [Seq([Known(key), _each(walker, node, key, call)], "tuple") for key in node.items]
    return Seq(pairs, "list", node.open)


def _each(walker: Walker, node: Node, key: Any, call: Call) -> Value:
    value = config.resolve_quietly(node.items[key], node)
    walker.emit(ConfigRead(*walker.context(call.node), node.under(key), How.LOOP, True, value))
    if isinstance(value, OneOf) and ABSENT in value.options:
        return join(option for option in value.options if option is not ABSENT)
    return value


@methods(Node, "update")
def _update_node(walker: Walker, node: Node, call: Call) -> Value:
    pairs: list[tuple[Any, Value]] = list(call.kwargs.items())
    given = call.argument(0)
    if isinstance(given, Map | Node):
        pairs = [*given.items.items(), *pairs]
    elif given is not None:
        node.open = True
    for key, value in pairs:
        walker.write_config(node, key, value, call.node, False)
    return NONE


@methods(Node, "setdefault")
def _setdefault(walker: Walker, node: Node, call: Call) -> Value:
    key, default = call.argument(0), call.argument(1) or NONE
    if not isinstance(key, Known):
        return UNKNOWN
    there = node.has(key.value)
    if there is False:
        walker.write_config(node, key.value, default, call.node, False)
    value: Value = walker.read(node, key.value, How.GET, call.node) if there is not False else default
    return value


@methods(Node, "pop")
def _pop(walker: Walker, node: Node, call: Call) -> Value:
    key = call.argument(0, "key")
    if node.flag("struct"):
        says = "DictConfig in struct mode does not support pop"
        walker.fault(call.node, "ConfigTypeError", says, node.under(getattr(key, "value", "*")))
    if isinstance(key, Known) and key.value in node.items:
        value = node.items[key.value]
        walker.emit(ConfigRead(*walker.context(call.node), node.under(key.value), How.GET, True, value))
        walker.drop(node.items, key.value)
        return value
    return call.argument(1, "default") or UNKNOWN


@methods(ListNode, "append", "extend", "insert")
def _grow(walker: Walker, node: ListNode, call: Call) -> Value:
    walker.alter(node)
    node.items.extend(call.args[-1:])
    return NONE


METHODS[Node, "_get_full_key"] = lambda walker, node, call: Text((None,))
