"""Does a dotted name exist in the packages that resolve? Followed through imports, stubs and bases.

Three answers: it exists; it is missing; or it cannot be told, because a module is compiled, a namespace is
filled while it runs, or a base class is out of sight. Only what was read whole may be called missing.
"""

from __future__ import annotations

import ast
import builtins
import inspect
import re
import sys
from collections.abc import Callable, Iterable, Iterator

from labgate.packages import getters, modules, traits, uv
from labgate.packages.lazily import griffe
from labgate.packages.modules import Module
from labgate.packages.things import Outside, Reached, Thing
from labgate.packages.wheels import Wheel

DEEPEST = 40
"""Imports followed in a row before giving up."""

MODULE_OWN = frozenset(dir(sys)) & {"__name__", "__doc__", "__package__", "__loader__", "__spec__"} | {
    "__file__", "__path__", "__version__", "__all__", "__dict__", "__builtins__",
}  # fmt: skip


class Library:
    """The unpacked wheels, by import root; `more` is asked once for each root that is not among them."""

    def __init__(
        self, wheels: Iterable[Wheel] = (), more: Callable[[str], Wheel | None] | None = None
    ) -> None:
        self._roots: dict[str, list[Wheel]] = {}
        for wheel in wheels:
            self.add(wheel)
        self._more = more
        self._asked: set[str] = set()
        self._modules: dict[str, Module | None] = {}

    def add(self, wheel: Wheel) -> None:
        for root in wheel.roots:
            shelf = self._roots.setdefault(root, [])
            if wheel not in shelf:
                shelf.append(wheel)

    def holds(self, root: str) -> bool:
        if root not in self._roots and root not in self._asked and self._more is not None:
            self._asked.add(root)
            wheel = self._more(root)
            if wheel is not None and not wheel.problem:
                self.add(wheel)
        return root in self._roots

    def module(self, dotted: str) -> Module | None:
        if dotted not in self._modules:
            root = dotted.partition(".")[0]
            shelf = self._roots[root] if self.holds(root) else []
            found = [module for wheel in shelf if (module := modules.locate(wheel, dotted))]
            found.sort(key=lambda module: not module.files)
            self._modules[dotted] = found[0] if found else None
        return self._modules[dotted]

    def find(self, dotted: str, seen: frozenset[str] = frozenset()) -> Reached:
        """Follow `dotted` from its root. `thing` is the deepest that was reached."""
        if f"?{dotted}" in seen or len(seen) > DEEPEST:
            return Reached("unknown", None, f"{dotted} leads back to itself")
        first, *rest = dotted.split(".")
        module = self.module(first)
        if module is None:
            if first in sys.stdlib_module_names:
                return Reached("exists", Outside(dotted))
            return Reached("unknown", Outside(dotted), f"{first} is not unpacked")
        thing: Thing | Outside = Thing(first, module)
        for name in rest:
            step = self.member(thing, name, seen | {f"?{dotted}"})
            if step.kind != "exists":
                return Reached(step.kind, step.thing or thing, step.why, step.near, step.undefined)
            assert step.thing is not None
            thing = step.thing
        return Reached("exists", thing)

    def imported(self, target: str, seen: frozenset[str] = frozenset()) -> Reached:
        """What `from a.b import c` means by `a.b.c`: modules go before what a package calls by their name."""
        parts = target.split(".")
        for cut in range(len(parts) - 1, 0, -1):
            module = self.module(".".join(parts[:cut]))
            if module is None:
                continue
            thing: Thing | Outside = Thing(module.dotted, module)
            for name in parts[cut:]:
                step = self.member(thing, name, seen)
                if step.kind != "exists" or step.thing is None:
                    return Reached(step.kind, step.thing or thing, step.why, step.near, step.undefined)
                thing = step.thing
            return Reached("exists", thing)
        return self.find(target, seen)

    def member(self, thing: Thing | Outside, name: str, seen: frozenset[str] = frozenset()) -> Reached:
        """`thing.name`."""
        if isinstance(thing, Outside):
            return Reached("unknown", thing, f"{thing.path} lies outside the unpacked packages")
        if thing.opaque:
            return Reached("unknown", thing, f"what {thing.path} is cannot be read")
        if not thing.objects:
            return self._of_module(thing, name, seen)
        if thing.what == "class":
            return self._of_class(thing, name, seen)
        if thing.what == "attribute":
            meant = self.value_of(thing, seen) or self.type_of(thing, seen)
            if meant is not None and meant != thing:
                return self.member(meant, name, seen)
        return Reached(
            "unknown", thing, f"{thing.path} is a {thing.what}, whose own attributes are not followed"
        )

    # Modules

    def _of_module(self, thing: Thing, name: str, seen: frozenset[str]) -> Reached:
        module = thing.module
        path = f"{module.dotted}.{name}"
        if path in seen or len(seen) > DEEPEST:
            return Reached("unknown", thing, f"{path} leads back to itself")
        seen = seen | {path}
        written = self._written(module, name, seen)
        if written is not None:
            return written
        if name in MODULE_OWN:
            return Reached("exists", Thing(path, module, opaque=True))
        if module.folder is not None or module.compiled:
            child = self.module(path)
            if child is not None:
                return Reached("exists", Thing(path, child, opaque=child.compiled and not child.files))
        if module.habits.lazy:
            return self._from_table(thing, name, seen)
        doubts = ""
        for target in traits.wildcards(module):
            step = self._through_wildcard(target, name, seen)
            if step.kind == "exists":
                return step
            if step.kind == "unknown":
                doubts = step.why
        return self._absent_from_module(thing, name, doubts)

    def _written(self, module: Module, name: str, seen: frozenset[str]) -> Reached | None:
        """What `module` defines or imports as `name`; several definitions of one kind are kept together."""
        objects: list[griffe.Object] = []
        followed: Reached | None = None
        for source in module.sources:
            found = source.members.get(name)
            if isinstance(found, griffe.Alias):
                step = self.imported(found.target_path, seen)
                better = followed is None or isinstance(followed.thing, Outside) or followed.kind != "exists"
                if better:
                    followed = step
            elif found is not None:
                objects.append(found)
            else:
                objects.extend(source.overloads.get(name) or ())
        path = f"{module.dotted}.{name}"
        if objects:
            kind = objects[0].kind
            return Reached("exists", Thing(path, module, tuple(o for o in objects if o.kind is kind)))
        if followed is None:
            return None
        # The import line is there: if it could not work, importing the module would fail long before.
        if followed.kind != "exists":
            return Reached("exists", Thing(path, module, opaque=True))
        return followed

    def _through_wildcard(self, target: str, name: str, seen: frozenset[str]) -> Reached:
        module = self.module(target)
        reached = Reached("exists", Thing(target, module)) if module else self.find(target, seen)
        if reached.kind != "exists" or not isinstance(reached.thing, Thing) or reached.thing.opaque:
            return Reached(
                "unknown", reached.thing, f"{target}, from which everything is imported, cannot be read"
            )
        if reached.thing.objects:
            return Reached("unknown", reached.thing, f"{target} is no module")
        step = self._of_module(reached.thing, name, seen)
        exported = traits.exports(reached.thing.module, name)
        if step.kind == "exists" and (exported is False or (exported is None and name.startswith("_"))):
            return Reached("missing", reached.thing)
        return step

    def _from_table(self, thing: Thing, name: str, seen: frozenset[str]) -> Reached:
        """A name of a module that is made of a table: it is there when the table, or an `__all__` that feeds
        it, names it. A name that the whole package neither defines nor spells out cannot be in one."""
        path = f"{thing.module.dotted}.{name}"
        homes, spelt = traits.mentions(thing.module, name)
        if name in thing.module.habits.words or spelt & set(homes):
            for home in homes:
                step = self.imported(f"{home}.{name}", seen)
                if step.kind == "exists" and len(homes) == 1:
                    return step
            return Reached("exists", Thing(path, thing.module, opaque=True))
        if homes or spelt:
            return Reached("unknown", thing, f"{thing.module.dotted} is loaded lazily")
        return Reached(
            "missing", thing, near=traits.near(name, (*thing.module.names(), *thing.module.habits.words))
        )

    def _absent_from_module(self, thing: Thing, name: str, doubts: str) -> Reached:
        module = thing.module
        habits = module.habits
        path = f"{module.dotted}.{name}"
        if name in habits.bound or name in habits.stored:
            return Reached("exists", Thing(path, module, opaque=True))
        if not module.files:
            doubts = (
                f"{module.dotted} is compiled"
                if module.compiled
                else f"{module.dotted} has no source of its own"
            )
        elif module.compiled and not any(p.suffix == ".pyi" for p in module.files):
            doubts = f"{module.dotted} is compiled"
        elif module.unread:
            doubts = f"{module.dotted} could not be parsed"
        elif habits.dynamic and not (habits.getter and self._refused(module, habits.getter, name)):
            doubts = f"{module.dotted} fills its namespace while it runs: {habits.dynamic}"
        elif habits.getter is not None:
            answer = getters.answers(habits.getter, name, self._literals(module))
            if answer:
                return Reached("exists", Thing(path, module, opaque=True))
            if answer is None:
                doubts = f"{module.dotted} has a __getattr__ that decides while it runs"
        injected = uv.known()["injected"].get(module.dotted)
        if injected is not None and re.fullmatch(injected, name):
            doubts = f"compiled code puts such names into {module.dotted}"
        if not doubts and (patch := traits.patched(module.wheel, name)):
            doubts = f"{patch} assigns something of that name"
        if doubts:
            return Reached("unknown", thing, doubts)
        return Reached("missing", thing, near=traits.near(name, module.names()))

    def _refused(self, module: Module, getter: ast.FunctionDef, name: str) -> bool:
        literals = self._literals(module)
        return getters.answers(getter, name, literals) is False and getters.mentions(getter, name, literals)

    def _literals(self, module: Module) -> dict[str, frozenset[str]]:
        """Collections of strings that `module` writes out, or imports from where they are written out."""
        found: dict[str, frozenset[str]] = {}
        for source, tree in zip(module.sources, module.trees, strict=False):
            found.update(getters.collections_in(tree))
            for name, member in source.members.items():
                if isinstance(member, griffe.Alias) and name not in found and name.startswith("_"):
                    home, _, origin = member.target_path.rpartition(".")
                    other = self.module(home) if home else None
                    for there in other.trees if other is not None and other is not module else ():
                        if origin in (written := getters.collections_in(there)):
                            found[name] = written[origin]
        return found

    # Classes

    def _of_class(self, thing: Thing, name: str, seen: frozenset[str]) -> Reached:
        path = f"{thing.path}.{name}"
        doubts = getter = ""
        names: list[str] = []
        for one in self.ancestry(thing, seen):
            if isinstance(one, str):
                doubts = doubts or one
                continue
            if isinstance(one, type):
                if any(name in vars(base) for base in one.mro() + list(inspect.getmro(type(one)))):
                    return Reached("exists", Thing(path, thing.module, opaque=True))
                if any(
                    trap in vars(base)
                    for base in one.__mro__[:-1]
                    for trap in ("__getattr__", "__getattribute__")
                ):
                    doubts = doubts or f"{one.__name__} answers for names of its own making"
                continue
            found = [m for o in one.objects if (m := traits.own(o, name)) is not None]
            if found:
                if any(isinstance(m, griffe.Alias) for m in found):
                    return Reached("exists", Thing(path, one.module, opaque=True))
                objects = tuple(m for m in found if isinstance(m, griffe.Object))
                return Reached("exists", Thing(f"{one.path}.{name}", one.module, objects))
            if name in one.module.habits.stored:
                return Reached("exists", Thing(path, one.module, opaque=True))
            if all(path.suffix == ".pyi" for path in traits.homes(one)):
                doubts = doubts or f"{one.path} is compiled, and its stub may leave things out"
            getter = getter or traits.getter(one)
            doubts = doubts or traits.self_made(one)
            names += [n for o in one.objects for n in o.members]
        if hasattr(object, name) or name in ("__dict__", "__module__", "__name__", "__qualname__", "mro"):
            return Reached("exists", Thing(path, thing.module, opaque=True))
        if not doubts and (patch := traits.patched(thing.module.wheel, name)):
            doubts = f"{patch} assigns something of that name"
        if doubts or getter:
            near = traits.near(name, names)
            return Reached("unknown", thing, doubts or getter, near, undefined=not doubts)
        return Reached("missing", thing, near=traits.near(name, names))

    def ancestry(self, thing: Thing, seen: frozenset[str] = frozenset()) -> Iterator[Thing | type | str]:
        """The class, then its bases, depth first. A type stands for one of the standard library, a string for
        one that is out of sight, and says why."""
        done: set[str] = set()
        todo: list[Thing] = [thing]
        while todo:
            one = todo.pop(0)
            if one.path in done:
                continue
            done.add(one.path)
            yield one
            inner: list[Thing] = []
            for written in dict.fromkeys(
                b for o in one.objects if isinstance(o, griffe.Class) for b in traits.bases(o)
            ):
                base = self.in_scope(one, written, seen)
                if isinstance(base, Thing) and base.what == "attribute":
                    base = self.value_of(base, seen)
                if isinstance(base, Thing) and base.what == "class":
                    inner.append(base)
                elif isinstance(base, Outside) and (kind := traits.standard(base.path)) is not None:
                    yield kind
                else:
                    yield f"a base of {one.path}, {written}, is out of sight"
            todo = inner + todo

    def in_scope(
        self, thing: Thing, written: str, seen: frozenset[str] = frozenset()
    ) -> Thing | Outside | None:
        """What the dotted expression `written` means where `thing` is defined."""
        if not re.fullmatch(r"[\w.]+", written):
            return None
        first, *rest = written.split(".")
        step = self._written(thing.module, first, seen)
        if step is None:
            if hasattr(builtins, first) and not rest:
                return Outside(f"builtins.{first}")
            step = self._of_module(Thing(thing.module.dotted, thing.module), first, seen)
        for name in rest:
            if step.kind != "exists" or step.thing is None:
                return None
            if isinstance(step.thing, Outside):
                step = Reached("exists", Outside(f"{step.thing.path}.{name}"))
            else:
                step = self.member(step.thing, name, seen)
        return step.thing if step.kind == "exists" else None

    # Attributes

    def value_of(self, thing: Thing, seen: frozenset[str] = frozenset()) -> Thing | None:
        """What an attribute is another name for: `init = sdk.init`."""
        for found in thing.objects:
            value = found.value if isinstance(found, griffe.Attribute) else None
            if isinstance(value, (griffe.ExprName, griffe.ExprAttribute)) and f"={thing.path}" not in seen:
                meant = self.in_scope(thing, str(value), seen | {f"={thing.path}"})
                if isinstance(meant, Thing) and not meant.opaque:
                    return meant
        return None

    def type_of(self, thing: Thing, seen: frozenset[str] = frozenset()) -> Thing | None:
        """The class that an attribute's annotation, or a function's return annotation, names."""
        for found in thing.objects:
            if isinstance(found, griffe.Attribute):
                annotation = found.annotation
            elif isinstance(found, griffe.Function) and not found.labels & {"async"}:
                annotation = found.returns
            else:
                continue
            written = traits.single_class(annotation)
            if written in ("Self", "typing.Self") and isinstance(found.parent, griffe.Class):
                return self._sibling(thing, found.parent.name)
            if written and f":{thing.path}" not in seen:
                meant = self.in_scope(thing, written, seen | {f":{thing.path}"})
                if isinstance(meant, Thing) and meant.what == "class":
                    return meant
        return None

    def _sibling(self, thing: Thing, name: str) -> Thing | None:
        step = self._of_module(Thing(thing.module.dotted, thing.module), name, frozenset())
        return step.thing if step.kind == "exists" and isinstance(step.thing, Thing) else None
