"""What a callable of an unpacked package takes: parameters by name and kind, or None where untold."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from labgate.packages import uv
from labgate.packages.apis import Library
from labgate.packages.lazily import griffe
from labgate.packages.things import Outside, Thing


@dataclass(frozen=True)
class Parameter:
    """`kind` is "positional-only", "positional or keyword", "variadic positional", "keyword-only" or
    "variadic keyword"."""

    name: str
    kind: str
    required: bool


@dataclass(frozen=True)
class Signature:
    """What `path` takes, without `self` or `cls`. `path` is where it is defined."""

    path: str
    parameters: tuple[Parameter, ...]

    @property
    def takes_any_keyword(self) -> bool:
        return any(p.kind == "variadic keyword" for p in self.parameters)

    @property
    def takes_any_position(self) -> bool:
        return any(p.kind == "variadic positional" for p in self.parameters)

    @property
    def keywords(self) -> tuple[str, ...]:
        """The names that may stand before `=` in a call."""
        return tuple(p.name for p in self.parameters if p.kind in ("positional or keyword", "keyword-only"))

    def takes(self, keyword: str) -> bool:
        return self.takes_any_keyword or keyword in self.keywords

    def lacking(self, positions: int, keywords: Iterable[str]) -> tuple[str, ...]:
        """The required parameters that a call with so many positions and these keywords leaves out."""
        given = set(keywords)
        placed = [p for p in self.parameters if p.kind.startswith("positional")][:positions]
        return tuple(
            p.name for p in self.parameters if p.required and p not in placed and p.name not in given
        )


def signature_of(
    library: Library, thing: Thing | Outside | None, within_class: bool = False
) -> Signature | None:
    """The signature of `thing`; a class gives that of its construction."""
    if not isinstance(thing, Thing) or thing.opaque or not thing.objects:
        return None
    if thing.what == "class":
        return _of_class(library, thing)
    if thing.what == "attribute":
        meant = library.value_of(thing)
        return signature_of(library, meant) if meant is not None and meant.path != thing.path else None
    return _of_function(thing, within_class or isinstance(thing.objects[0].parent, griffe.Class))


def _of_function(thing: Thing, within_class: bool) -> Signature | None:
    """What a function takes by its stub or by its source: either may be behind the other."""
    functions = [found for found in thing.objects if isinstance(found, griffe.Function)]
    keeps = uv.known()["decorators"]["keep_parameters"]
    overloads = [f for f in functions if "overload" in _decorators(f)]
    whole = [f for f in functions if "overload" not in _decorators(f)]
    if any(name not in keeps for function in whole for name in _decorators(function)):
        return None
    if not functions:
        return None
    if len(whole) == 1 and not overloads:
        return Signature(thing.path, _parameters(whole[0], within_class))
    every = [_parameters(function, within_class) for function in (*overloads, *whole)]
    required = set.intersection(*({p.name for p in parameters if p.required} for parameters in every))
    alike = not overloads and len({tuple(p.name for p in parameters) for parameters in every}) == 1
    names: dict[str, Parameter] = {}
    for p in (p for parameters in every for p in parameters):
        if p.name not in names or names[p.name].kind.startswith("variadic"):
            names[p.name] = Parameter(p.name, p.kind, alike and p.name in required)
    if not alike:  # where each position stands differs from one to the other
        names["*"] = Parameter("args", "variadic positional", False)
    return Signature(thing.path, tuple(names.values()))


def _decorators(found: griffe.Function | griffe.Class) -> list[str]:
    return [decorator.callable_path.rpartition(".")[2] for decorator in found.decorators]


def _parameters(function: griffe.Function, within_class: bool) -> tuple[Parameter, ...]:
    taken = list(function.parameters)
    if within_class and "staticmethod" not in _decorators(function) and taken:
        first = taken[0].kind.value if taken[0].kind else ""
        if first.startswith("positional"):
            taken = taken[1:]
    return tuple(Parameter(p.name.lstrip("*"), p.kind.value if p.kind else "", _required(p)) for p in taken)


def _required(parameter: griffe.Parameter) -> bool:
    variadic = parameter.kind is not None and parameter.kind.value.startswith("variadic")
    return parameter.default is None and not variadic


def _of_class(library: Library, thing: Thing) -> Signature | None:
    fields: list[tuple[Thing, griffe.Class]] = []
    for one in library.ancestry(thing):
        if isinstance(one, str):
            return None  # it may define the construction, or be a dataclass and add fields
        if isinstance(one, type):
            if "__init__" in vars(one) or "__new__" in vars(one):
                return _of_fields(thing, fields) if fields else None
            continue
        classes = [found for found in one.objects if isinstance(found, griffe.Class)]
        if not classes or any(_remade(found) for found in classes):
            return None
        own = [f for found in classes for f in _written(found, "__init__")]
        if not own and any(_written(found, "__new__") for found in classes):
            return None
        if own and not fields:
            return _of_function(Thing(f"{one.path}.__init__", one.module, tuple(own)), True)
        found = classes[-1]  # the source, where there is one: stubs leave defaults out
        if "dataclass" in _decorators(found):
            fields.append((one, found))
    return _of_fields(thing, fields) if fields else None


def _written(found: griffe.Class, name: str) -> list[griffe.Object]:
    member = found.members.get(name)
    return [member] if isinstance(member, griffe.Function) else list(found.overloads.get(name) or ())


def _remade(found: griffe.Class) -> bool:
    metaclass = found.keywords.get("metaclass")
    if metaclass is not None and str(metaclass).rpartition(".")[2] not in ("ABCMeta", "type"):
        return True
    return any(name not in uv.known()["decorators"]["keep_classes"] for name in _decorators(found))


def _of_fields(thing: Thing, classes: list[tuple[Thing, griffe.Class]]) -> Signature | None:
    """The construction of a dataclass, with the fields of the dataclasses that it inherits from."""
    taken: dict[str, Parameter] = {}
    for _, found in reversed(classes):
        own = next((d for d in found.decorators if d.callable_path.rpartition(".")[2] == "dataclass"), None)
        written = str(own.value) if own is not None else ""
        if "init=False" in written.replace(" ", ""):
            return None
        only_keywords = "kw_only=True" in written.replace(" ", "")
        for name, member in found.members.items():
            if (
                not isinstance(member, griffe.Attribute)
                or member.annotation is None
                or "property" in member.labels
            ):
                continue
            annotation, value = str(member.annotation), str(member.value or "").replace(" ", "")
            if annotation.endswith("KW_ONLY"):
                only_keywords = True
                continue
            if "ClassVar" in annotation or "instance-attribute" not in member.labels or "init=False" in value:
                continue
            kind = "keyword-only" if only_keywords else "positional or keyword"
            filled = "default=" in value or "default_factory=" in value
            required = not value or (value.partition("(")[0].endswith("field") and not filled)
            taken[name] = Parameter(name, kind, required)
    return Signature(thing.path, tuple(taken.values()))
