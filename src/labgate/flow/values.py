"""What an expression may be worth when only the configuration is known.

Concrete where it can be, and honest where it cannot: a string may be known in part, a list may hold more than
is listed, and a name from outside is kept as the path by which it was reached.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from labgate.flow.events import Call


class Value:
    """Anything that an expression may evaluate to."""

    __slots__ = ()


class Known(Value):
    """A concrete immutable Python value: str, bytes, number, bool, None or Ellipsis."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value

    def __repr__(self) -> str:
        return f"Known({self.value!r})"

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Known) and type(self.value) is type(other.value) and self.value == other.value
        )

    def __hash__(self) -> int:
        return hash((type(self.value).__name__, self.value))


class Text(Value):
    """A string of which only some parts are known: `parts` are str, or None for a part that is not.

    `of` are the values that the unknown parts were made from; two texts are equal without regard to it.
    """

    __slots__ = ("of", "parts")

    def __init__(self, parts: Iterable[str | None], of: tuple[Value, ...] = ()) -> None:
        joined: list[str | None] = []
        for part in parts:
            if part == "":
                continue
            if joined and part is None and joined[-1] is None:
                continue
            if joined and isinstance(part, str) and isinstance(joined[-1], str):
                joined[-1] += part
            else:
                joined.append(part)
        self.parts = tuple(joined)
        self.of = of

    def __repr__(self) -> str:
        return f"Text({str(self)!r})"

    def __str__(self) -> str:
        return "".join("…" if part is None else part for part in self.parts)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Text) and self.parts == other.parts

    def __hash__(self) -> int:
        return hash(self.parts)

    def matches(self, text: str) -> bool:
        """Whether `text` could be what this string turns out to be."""
        pattern = "".join(".*" if part is None else re.escape(part) for part in self.parts)
        return re.fullmatch(pattern, text, re.DOTALL) is not None


class Unknown(Value):
    """Nothing is known but, at times, what it was made from: `of`. `why` is for reading a trace."""

    __slots__ = ("of", "why")

    def __init__(self, why: str = "", of: tuple[Value, ...] = ()) -> None:
        self.why = why
        self.of = of

    def __repr__(self) -> str:
        return f"Unknown({self.why})" if self.why else "Unknown()"


class Absent(Value):
    """Inside OneOf only: on some path the name or key is not there at all."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "ABSENT"


ABSENT = Absent()
NONE = Known(None)
TRUE = Known(True)
FALSE = Known(False)
UNKNOWN = Unknown()


class OneOf(Value):
    """One of several values, depending on a test that could not be decided."""

    __slots__ = ("options",)

    def __init__(self, options: tuple[Value, ...]) -> None:
        self.options = options

    def __repr__(self) -> str:
        return f"OneOf{self.options!r}"


class Seq(Value):
    """A list, tuple or set. When `open`, `items` are possible items and there may be others.

    `excludes` are values that a filter keeps out of an otherwise unknown sequence, `of` what it was drawn
    from.
    """

    __slots__ = ("excludes", "items", "kind", "of", "open")

    def __init__(
        self,
        items: Iterable[Value] = (),
        kind: str = "list",
        open: bool = False,
        excludes: tuple[Value, ...] = (),
        of: Value | None = None,
    ) -> None:
        self.items = list(items)
        self.kind = kind
        self.open = open
        self.excludes = excludes
        self.of = of

    def __repr__(self) -> str:
        return f"Seq({self.kind}, {self.items!r}{', …' if self.open else ''})"


class Rounds(Seq):
    """What a loop over something unknown but taken for not empty yields: `items[0]` stands for each round."""

    __slots__ = ()


class Map(Value):
    """A dict by Python values; when `open` there may be others, drawn from `of` where that is known."""

    __slots__ = ("items", "of", "open")

    def __init__(
        self, items: dict[Any, Value] | None = None, open: bool = False, of: Value | None = None
    ) -> None:
        self.items: dict[Any, Value] = items if items is not None else {}
        self.open = open
        self.of = of

    def __repr__(self) -> str:
        return f"Map({self.items!r}{', …' if self.open else ''})"


class PathLike(Value):
    """A `pathlib.Path` of which the text is a Known str or a Text."""

    __slots__ = ("text",)

    def __init__(self, text: Known | Text) -> None:
        self.text = text

    def __repr__(self) -> str:
        return f"PathLike({self.text!r})"


class Scope:
    """Names of one function call or module."""

    __slots__ = ("module", "names", "outer")

    def __init__(self, module: Module, outer: Scope | None = None) -> None:
        self.module = module
        self.names: dict[str, Value] = {}
        self.outer = outer


class Module(Value):
    """A module of the bundle, run once per process."""

    __slots__ = ("name", "open", "path", "scope")

    def __init__(self, name: str, path: str) -> None:
        self.name = name
        self.path = path
        self.scope = Scope(self)
        self.open = False

    def __repr__(self) -> str:
        return f"Module({self.name})"


class Function(Value):
    """A function or lambda of the bundle; `bound` is the instance of a bound method."""

    __slots__ = ("bound", "defaults", "hydra", "node", "owner", "scope", "wraps")

    def __init__(
        self,
        node: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda,
        scope: Scope,
        defaults: dict[str, Value],
        bound: Value | None = None,
        owner: Class | None = None,
    ) -> None:
        self.node = node
        self.scope = scope
        self.defaults = defaults
        self.bound = bound
        self.owner = owner
        self.hydra: Call | None = None
        self.wraps: frozenset[str] = frozenset()

    @property
    def name(self) -> str:
        return getattr(self.node, "name", "<lambda>")

    def __repr__(self) -> str:
        return f"Function({self.name})"


class Class(Value):
    """A class of the bundle. `bases` are Class or outside values."""

    __slots__ = ("attrs", "bases", "dataclass", "node", "scope")

    def __init__(self, node: ast.ClassDef, scope: Scope, bases: list[Value]) -> None:
        self.node = node
        self.scope = scope
        self.bases = bases
        self.attrs: dict[str, Value] = {}
        self.dataclass = False

    def find(self, name: str) -> Value | None:
        """The attribute of this class or of a base that is a class of the bundle."""
        if name in self.attrs:
            return self.attrs[name]
        for base in self.bases:
            if isinstance(base, Class) and (found := base.find(name)) is not None:
                return found
        return None

    def outside_base(self) -> External | None:
        for base in self.bases:
            if isinstance(base, External):
                return base
            if isinstance(base, Class) and (found := base.outside_base()) is not None:
                return found
        return None

    @property
    def closed(self) -> bool:
        """Whether every base is a class of the bundle or object: what is not there does not exist."""
        return all(
            (isinstance(base, Class) and base.closed)
            or (isinstance(base, External) and base.path == "builtins.object")
            for base in self.bases
        )

    def __repr__(self) -> str:
        return f"Class({self.node.name})"


class Instance(Value):
    """An object of a class of the bundle."""

    __slots__ = ("attrs", "cls")

    def __init__(self, cls: Class) -> None:
        self.cls = cls
        self.attrs: dict[str, Value] = {}

    def __repr__(self) -> str:
        return f"Instance({self.cls.node.name})"


class External(Value):
    """Something from outside the bundle, known by the path by which it was reached.

    `wandb.Api().run().history()[]` reads: an item of what the method `history` of what `run` of a
    `wandb.Api` object gave. `base` is the value before the last step, `call` the call that made it (when the
    path ends in `()`), `key` the index (when it ends in `[]`).
    """

    __slots__ = ("base", "call", "key", "path")

    def __init__(
        self,
        path: str,
        base: Value | None = None,
        call: Call | None = None,
        key: Value | None = None,
    ) -> None:
        self.path = path
        self.base = base
        self.call = call
        self.key = key

    def __repr__(self) -> str:
        return f"External({self.path})"

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, External)
            and self.path == other.path
            and self.call is other.call
            and self.key == other.key
            and self.base == other.base
        )

    def __hash__(self) -> int:
        return hash(self.path)


def options(value: Value) -> Iterator[Value]:
    """The single values that `value` may be."""
    if isinstance(value, OneOf):
        for option in value.options:
            yield from options(option)
    else:
        yield value


def join(values: Iterable[Value]) -> Value:
    """The value of a name that holds one of `values`, depending on the path taken."""
    found: list[Value] = []
    for value in values:
        for option in options(value):
            if isinstance(option, Unknown):
                place = next((i for i, other in enumerate(found) if isinstance(other, Unknown)), None)
                if place is not None:
                    found[place] = _both(found[place], option)
                    continue
            elif any(option is other or option == other for other in found):
                continue
            found.append(option)
    if not found:
        return UNKNOWN
    if len(found) == 1:
        return found[0]
    if len(found) > 12:
        return unknown_of(*found)
    return OneOf(tuple(found))


def unknown_of(*values: Value) -> Unknown:
    """Something unknown that was made from `values`."""
    of = tuple(value for value in values if not isinstance(value, Known) and value is not UNKNOWN)
    return Unknown(of=of[:24]) if of else UNKNOWN


def _both(left: Value, right: Unknown) -> Value:
    """Two unknown values in one."""
    assert isinstance(left, Unknown)
    if right is left or not right.of:
        return left
    if not left.of:
        return right
    new = tuple(value for value in right.of if not any(value is other for other in left.of))
    return Unknown(left.why or right.why, (*left.of, *new)[:24]) if new else left


def plain(value: Value) -> Any:
    """The Python value behind a wholly known `value`. Raises ValueError when some of it is not known."""
    from labgate.flow.config import ListNode, Node

    if isinstance(value, Known):
        return value.value
    if isinstance(value, PathLike) and isinstance(value.text, Known):
        return value.text.value
    if isinstance(value, Seq) and not value.open:
        items = [plain(item) for item in value.items]
        return tuple(items) if value.kind == "tuple" else items
    if isinstance(value, Map) and not value.open:
        return {key: plain(item) for key, item in value.items.items()}
    if isinstance(value, Node):
        return {key: plain(item) for key, item in value.items.items()}
    if isinstance(value, ListNode):
        return [plain(item) for item in value.items]
    raise ValueError(f"not known: {value!r}")


def lift(data: Any) -> Value:
    """The value of a plain Python object made of dicts, lists and scalars."""
    if isinstance(data, dict):
        return Map({key: lift(item) for key, item in data.items()})
    if isinstance(data, list | tuple | set):
        kind = {list: "list", tuple: "tuple", set: "set"}[type(data)]
        return Seq([lift(item) for item in data], kind)
    return Known(data)


def text_of(value: Value) -> Known | Text:
    """`str(value)` as far as it is known."""
    if isinstance(value, Known):
        return Known(str(value.value))
    if isinstance(value, Text):
        return value
    if isinstance(value, PathLike):
        return value.text
    return Text((None,), (value,))


def concat(*values: Value) -> Known | Text:
    """The strings one after the other."""
    parts: list[str | None] = []
    of: list[Value] = []
    for value in values:
        text = text_of(value)
        parts.extend((text.value,) if isinstance(text, Known) else text.parts)
        of.extend(() if isinstance(text, Known) else text.of)
    if any(part is None for part in parts):
        return Text(parts, tuple(of))
    return Known("".join(part for part in parts if part is not None))


def sources(value: Value, depth: int = 24) -> Iterator[External]:
    """Every outside value that `value` was made from: itself, what it was reached from, its arguments."""
    yield from _sources(value, depth, set())


def _sources(value: Value, depth: int, met: set[int]) -> Iterator[External]:
    if depth <= 0 or id(value) in met:
        return
    met.add(id(value))
    if isinstance(value, External):
        yield value
    for part in made_from(value):
        yield from _sources(part, depth - 1, met)


def made_from(value: Value) -> tuple[Value, ...]:
    """The values that `value` was made from, one step back."""
    if isinstance(value, OneOf):
        return value.options
    if isinstance(value, External):
        base = (value.base,) if value.base is not None else ()
        call = value.call
        given = (*call.args, *call.kwargs.values()) if call is not None else ()
        if call is not None and value.path.endswith("()"):
            given = (*given, *call.gave)
        return (*base, *given)
    if isinstance(value, Unknown | Text):
        return value.of
    if isinstance(value, Seq):
        return (*value.items[:16], value.of) if value.of is not None else tuple(value.items[:16])
    if isinstance(value, Map):
        items = tuple(value.items.values())[:32]
        return (*items, value.of) if value.of is not None else items
    return ()
