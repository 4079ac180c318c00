"""OmegaConf's containers as far as the bundle's code can tell them apart from the real ones.

Held against the real library by `tests/flow/test_config_model.py`: which keys are there, what struct mode
refuses, what `merge` and flags do, and with which exception.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, MutableMapping
from typing import Any

import yaml

from labgate.flow.values import ABSENT, Known, Map, OneOf, Seq, Unknown, Value, join

Write = Callable[[MutableMapping[Any, Any], Any, Any], None]
"""`write(mapping, key, value)`: how a mapping is changed, so that the walker can take it back."""


def set_item(mapping: MutableMapping[Any, Any], key: Any, value: Any) -> None:
    """A `Write` that is final."""
    mapping[key] = value


class ConfigFault(Exception):
    """What OmegaConf would raise: the exception's class name and its words."""

    def __init__(self, kind: str, says: str) -> None:
        super().__init__(says)
        self.kind = kind
        self.says = says


class Broken(Value):
    """A leaf that cannot be read: an interpolation that fails."""

    __slots__ = ("kind", "says")

    def __init__(self, kind: str, says: str) -> None:
        self.kind = kind
        self.says = says


class Node(Value):
    """A DictConfig. `origin` says which file or expression it came from."""

    __slots__ = ("flags", "items", "name", "open", "origin", "parent")

    def __init__(self, origin: str = "", parent: Value | None = None, name: Any = None) -> None:
        self.items: dict[Any, Value] = {}
        self.flags: dict[str, bool | None] = {}
        self.parent = parent
        self.name = name
        self.origin = origin
        self.open = False

    def __repr__(self) -> str:
        return f"Node({self.key or 'root'}: {list(self.items)})"

    @property
    def key(self) -> str:
        """Dotted path from the root."""
        return _key(self)

    def flag(self, name: str) -> bool:
        """A flag, inherited from the parents when it is not set here."""
        node: Value | None = self
        while isinstance(node, Node | ListNode):
            value = node.flags.get(name)
            if value is not None:
                return value
            node = node.parent
        return False

    def under(self, name: Any) -> str:
        """The dotted path of key `name` in this node."""
        return f"{self.key}.{name}" if self.key else str(name)

    def has(self, name: Any) -> bool | None:
        """Whether `name in node`; None when it depends on the path taken. Missing values are not in."""
        if name not in self.items:
            return None if self.open else False
        value = self.items[name]
        if isinstance(value, OneOf) and ABSENT in value.options:
            return None
        if isinstance(value, Known) and value.value == "???":
            return False
        return not isinstance(value, Broken)

    def read(self, name: Any, attribute: bool) -> Value:
        """`node.name` or `node[name]`. Raises ConfigFault as OmegaConf would."""
        if name not in self.items:
            if self.open:
                return Unknown(self.under(name))
            kind = "ConfigAttributeError" if attribute else "ConfigKeyError"
            if self.flag("struct"):
                raise ConfigFault(kind, f"Key '{name}' is not in struct")
            raise ConfigFault(kind, f"Missing key {name}")
        return self._leaf(name)

    def get(self, name: Any, default: Value) -> Value:
        """`node.get(name, default)`: struct mode does not mind. Raises ConfigFault for a broken leaf."""
        if name not in self.items:
            return join((default, Unknown(self.under(name)))) if self.open else default
        value = self.items[name]
        if isinstance(value, Known) and value.value == "???":
            return default
        if isinstance(value, OneOf) and ABSENT in value.options:
            return join((*[option for option in value.options if option is not ABSENT], default))
        return self._leaf(name)

    def _leaf(self, name: Any) -> Value:
        value = self.items[name]
        if isinstance(value, Broken):
            raise ConfigFault(value.kind, value.says)
        if isinstance(value, Known) and value.value == "???":
            raise ConfigFault("MissingMandatoryValue", f"Missing mandatory value: {self.under(name)}")
        if isinstance(value, OneOf) and ABSENT in value.options:
            return join(option for option in value.options if option is not ABSENT)
        return value

    def assign(self, name: Any, value: Value, write: Write, attribute: bool) -> bool:
        """`node.name = value`; whether the key is new. Raises ConfigFault as OmegaConf would."""
        if self.flag("readonly"):
            raise ConfigFault("ReadonlyConfigError", "Cannot change read-only config container")
        new = name not in self.items and not self.open
        if new and self.flag("struct"):
            kind = "ConfigAttributeError" if attribute else "ConfigKeyError"
            raise ConfigFault(kind, f"Key '{name}' is not in struct")
        self.force(name, value, write)
        return new

    def force(self, name: Any, value: Value, write: Write) -> None:
        """Set the key whatever the flags say."""
        write(self.items, name, adopt(value, self, name))


class ListNode(Value):
    """A ListConfig."""

    __slots__ = ("flags", "items", "name", "origin", "parent")

    def __init__(self, origin: str = "", parent: Value | None = None, name: Any = None) -> None:
        self.items: list[Value] = []
        self.flags: dict[str, bool | None] = {}
        self.parent = parent
        self.name = name
        self.origin = origin

    def __repr__(self) -> str:
        return f"ListNode({self.items!r})"

    @property
    def key(self) -> str:
        return _key(self)


def _key(node: Node | ListNode) -> str:
    parts: list[str] = []
    walk: Value | None = node
    while isinstance(walk, Node | ListNode) and walk.name is not None:
        parts.append(str(walk.name))
        walk = walk.parent
    return ".".join(reversed(parts))


def adopt(value: Value, parent: Value | None, name: Any) -> Value:
    """`value` as OmegaConf stores it under `name` of `parent`: dicts, lists and nodes are copied in."""
    if isinstance(value, Node):
        copy = Node(value.origin, parent, name)
        copy.open = value.open
        copy.flags = dict(value.flags)
        copy.items = {key: adopt(item, copy, key) for key, item in value.items.items()}
        return copy
    if isinstance(value, Map):
        copy = Node("", parent, name)
        copy.open = value.open
        copy.items = {key: adopt(item, copy, key) for key, item in value.items.items()}
        return copy
    if isinstance(value, ListNode) or (isinstance(value, Seq) and value.kind != "set"):
        if isinstance(value, Seq) and value.open:
            return Unknown("a list")
        listed = ListNode(getattr(value, "origin", ""), parent, name)
        listed.items = [adopt(item, listed, index) for index, item in enumerate(value.items)]
        return listed
    if isinstance(value, OneOf):
        return OneOf(tuple(adopt(option, parent, name) for option in value.options))
    return value


def from_plain(data: Any, origin: str = "", parent: Value | None = None, name: Any = None) -> Value:
    """What OmegaConf makes of plain dicts, lists and scalars; interpolations in it are not resolved."""
    if isinstance(data, dict):
        node = Node(origin, parent, name)
        node.items = {key: from_plain(item, origin, node, key) for key, item in data.items()}
        return node
    if isinstance(data, list | tuple):
        listed = ListNode(origin, parent, name)
        listed.items = [from_plain(item, origin, listed, index) for index, item in enumerate(data)]
        return listed
    if isinstance(data, str) and "${" in data:
        return Interpolated(data)
    return Known(data)


class Interpolated(Value):
    """An interpolation that has not been resolved yet; only inside nodes, never handed to code."""

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return f"Interpolated({self.text})"


_PLAIN = re.compile(r"\$\{([A-Za-z_][\w.\-/]*)\}")


def resolve(value: Value, parent: Node | ListNode, depth: int = 0) -> Value:
    """What reading an interpolation gives. Raises ConfigFault for a key that is not there."""
    if not isinstance(value, Interpolated):
        return value
    root: Node | ListNode = parent
    while isinstance(root.parent, Node | ListNode):
        root = root.parent
    if depth > 8 or not isinstance(root, Node):
        return Unknown(value.text)
    whole = _PLAIN.fullmatch(value.text)
    if whole:
        return _select(root, whole[1], depth)
    if "${" in _PLAIN.sub("", value.text):
        return Unknown(value.text)
    found = [_select(root, match[1], depth) for match in _PLAIN.finditer(value.text)]
    if all(isinstance(item, Known) for item in found):
        words = iter(found)
        return Known(_PLAIN.sub(lambda _: str(getattr(next(words), "value", "")), value.text))
    return Unknown(value.text)


def _select(root: Node, key: str, depth: int) -> Value:
    value: Value = root
    for part in key.split("."):
        if not isinstance(value, Node):
            return Unknown(key)
        if part not in value.items:
            if value.open:
                return Unknown(key)
            raise ConfigFault("InterpolationKeyError", f"Interpolation key '{key}' not found")
        inner = value.items[part]
        value = resolve(inner, value, depth + 1)
    return value


def merge(first: Value, others: list[Value], write: Write = set_item) -> tuple[Value, list[str]]:
    """`OmegaConf.merge(first, *others)`: a copy of `first` with its flags, and the keys that struct refused.

    A refused key is set all the same, so that the rest can be followed. Raises ConfigFault where a mapping
    meets a list: for the first refused key when there was one, since the library gets no further than that.
    """
    merged = adopt(first if isinstance(first, Node | Map) else Node(), None, None)
    assert isinstance(merged, Node)
    if isinstance(first, Node):
        merged.flags = {name: first.flag(name) or None for name in ("struct", "readonly")}
    refused: list[str] = []
    for other in others:
        if isinstance(other, Node | Map):
            _merge_into(merged, other, set_item, refused)
        else:
            merged.open = True
    return merged, refused


def merge_with(node: Node, others: list[Value], write: Write) -> list[str]:
    """`node.merge_with(*others)`, in place; the keys that struct refused."""
    refused: list[str] = []
    for other in others:
        if isinstance(other, Node | Map):
            _merge_into(node, other, write, refused)
        else:
            node.open = True
    return refused


def _merge_into(node: Node, other: Node | Map, write: Write, refused: list[str]) -> None:
    """Merge in place, adding to `refused`."""
    if other.open:
        node.open = True
    for key, value in list(other.items.items()):
        mine = node.items.get(key)
        if isinstance(mine, Node) and isinstance(value, Node | Map):
            _merge_into(mine, value, write, refused)
            continue
        if isinstance(mine, Node | ListNode) and isinstance(value, Node | Map | ListNode | Seq):
            if isinstance(mine, Node) is not isinstance(value, Node | Map):
                if refused:
                    raise ConfigFault(
                        "ConfigKeyError", f"Key '{refused[0].rpartition('.')[2]}' is not in struct"
                    )
                names = [_kind(mine), _kind(value)]
                raise ConfigFault("ConfigTypeError", f"Cannot merge {names[0]} with {names[1]}")
        if key not in node.items and not node.open and node.flag("struct"):
            refused.append(node.under(key))
        if isinstance(value, Known) and value.value == "???" and key in node.items:
            continue
        node.force(key, value, write)
    if isinstance(other, Node):
        # OmegaConf lets the explicit flags of what is merged in replace those of the target.
        for name, flag in other.flags.items():
            if flag is not None:
                write(node.flags, name, flag)


def _kind(value: Value) -> str:
    return "DictConfig" if isinstance(value, Node | Map) else "ListConfig"


def select(node: Node, key: str) -> tuple[Value | None, bool | None]:
    """`OmegaConf.select(node, key)`: the value (None when absent) and whether it is there."""
    value: Value = node
    certain: bool | None = True
    for part in re.split(r"\.|\[|\]\.?", key):
        if not part:
            continue
        if isinstance(value, ListNode) and part.isdigit() and int(part) < len(value.items):
            value = value.items[int(part)]
            continue
        if not isinstance(value, Node):
            return (Unknown(key), None) if isinstance(value, Unknown | OneOf) else (None, False)
        there = value.has(part)
        if there is False:
            return None, False
        if there is None:
            certain = None
        found = value.items.get(part, Unknown(key))
        value = resolve(found, value)
        if isinstance(value, OneOf) and ABSENT in value.options:
            value = join(option for option in value.options if option is not ABSENT)
    return value, certain


def to_plain_value(value: Value) -> Value:
    """`OmegaConf.to_container(value, resolve=True)`: dicts and lists instead of nodes."""
    if isinstance(value, Node):
        items = {key: to_plain_value(resolve_quietly(item, value)) for key, item in value.items.items()}
        return Map({k: v for k, v in items.items() if v is not ABSENT}, value.open)
    if isinstance(value, ListNode):
        return Seq([to_plain_value(resolve_quietly(item, value)) for item in value.items])
    return value


def resolve_quietly(value: Value, parent: Node | ListNode) -> Value:
    """As `resolve`; what cannot be resolved is unknown."""
    try:
        return resolve(value, parent)
    except ConfigFault:
        return Unknown("interpolation")


def leaves(value: Value, prefix: str = "") -> Iterator[tuple[str, Value]]:
    """Every dotted key below `value` with its leaf."""
    if isinstance(value, Node | Map):
        for key, item in value.items.items():
            yield from leaves(item, f"{prefix}.{key}" if prefix else str(key))
    else:
        yield prefix, value


class OmegaLoader(yaml.SafeLoader):
    """YAML as OmegaConf reads it: `1e-5` is a number."""


OmegaLoader.yaml_implicit_resolvers = {
    key: [(tag, regexp) for tag, regexp in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for key, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
OmegaLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(
        r"""^(?:[-+]?[0-9]+(?:_[0-9]+)*\.[0-9_]*(?:[eE][-+]?[0-9]+)?
        |[-+]?[0-9]+(?:_[0-9]+)*[eE][-+]?[0-9]+
        |\.[0-9]+(?:_[0-9]+)*(?:[eE][-+][0-9]+)?
        |[-+]?[0-9]+(?:_[0-9]+)*(?::[0-5]?[0-9])+\.[0-9_]*
        |[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$""",
        re.X,
    ),
    list("-+0123456789."),
)


def scalar(text: str) -> Any:
    """The value of a command-line override `key=text`, for dotlists."""
    try:
        return yaml.load(text, OmegaLoader)
    except yaml.YAMLError:
        return text
