"""Small questions to what was read: bases, exports, decorators, and words anywhere in a wheel."""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from pathlib import Path

from labgate.packages import modules, uv
from labgate.packages.lazily import griffe
from labgate.packages.modules import Module
from labgate.packages.things import Thing
from labgate.packages.wheels import Wheel


def homes(thing: Thing) -> list[Path]:
    """The files that define it."""
    paths = (found.filepath for found in thing.objects)
    return [path for path in paths if isinstance(path, Path)]


def own(found: griffe.Object, name: str) -> griffe.Object | griffe.Alias | None:
    member = found.members.get(name)
    if member is None and isinstance(found, griffe.Class) and found.overloads.get(name):
        return found.overloads[name][0]
    return member


def wildcards(module: Module) -> Iterator[str]:
    for source in module.sources:
        for name, member in source.members.items():
            if name.endswith("*") and isinstance(member, griffe.Alias):
                yield member.target_path.removesuffix(".*")


def exports(module: Module, name: str) -> bool | None:
    """Whether `__all__` lists `name`; None when there is none, or when it is not all written out."""
    listed: list[list[object]] = [list(s.exports) for s in module.sources if s.exports is not None]
    if any(name in exports for exports in listed):
        return True
    whole = listed and all(isinstance(item, str) for exports in listed for item in exports)
    if not whole or any(modules.grows_all(tree) for tree in module.trees):
        return None
    return False


def bases(found: griffe.Class) -> Iterator[str]:
    for base in found.bases:
        if isinstance(base, griffe.ExprSubscript):
            base = base.left
        written = str(base)
        if written.rpartition(".")[2] not in ("object", "Generic", "Protocol"):
            yield written


def getter(thing: Thing) -> str:
    traps = ("__getattr__", "__getattribute__")
    own = any(trap in found.members for found in thing.objects for trap in traps)
    return f"{thing.path} answers for names of its own making" if own else ""


def self_made(thing: Thing) -> str:
    """Why a class may have names that are not written in it; "" when nothing says so."""
    for found in thing.objects:
        if not isinstance(found, griffe.Class):
            continue
        for decorator in found.decorators:
            if decorator.callable_path.rpartition(".")[2] not in uv.known()["decorators"]["keep_classes"]:
                return f"@{decorator.value} may change {thing.path}"
        metaclass = found.keywords.get("metaclass")
        if metaclass is not None and str(metaclass).rpartition(".")[2] not in ("ABCMeta", "type", "EnumMeta"):
            return f"{thing.path} has the metaclass {metaclass}"
        for tree in thing.module.trees:
            if trick := modules.sets_names_of(tree, found.name):
                return f"{thing.path} gets attributes while it runs: {trick}"
    return ""


def single_class(annotation: object) -> str:
    """`X`, `Optional[X]`, `X | None` and their quoted forms as "X"; "" for anything else."""
    written = str(annotation or "").strip().strip("'\"").strip()
    optional = re.fullmatch(r"(?:typing\.|t\.)?Optional\[(.*)\]", written)
    parts = [part.strip().strip("'\"") for part in (optional[1] if optional else written).split("|")]
    parts = [part for part in parts if part != "None"]
    return parts[0] if len(parts) == 1 and re.fullmatch(r"[\w.]+", parts[0]) else ""


def tuple_length(annotation: object) -> int | None:
    """How many items a `tuple[A, B]` has; None for one of any length, and for everything else."""
    if not isinstance(annotation, griffe.ExprSubscript):
        return None
    if str(annotation.left).rpartition(".")[2] not in ("tuple", "Tuple"):
        return None
    items = (
        annotation.slice.elements if isinstance(annotation.slice, griffe.ExprTuple) else [annotation.slice]
    )
    written = [str(item) for item in items]
    if any(item == "..." or item.startswith("*") or "Unpack[" in item for item in written):
        return None
    return len(written)


def standard(path: str) -> type | None:
    """The class of that path in the standard library."""
    home, _, name = path.rpartition(".")
    if home.partition(".")[0] not in sys.stdlib_module_names and home != "builtins":
        return None
    try:
        found = getattr(importlib.import_module(home), name, None)
    except ImportError:
        return None
    found = getattr(found, "__origin__", found)
    return found if isinstance(found, type) else None


def near(name: str, names: Iterable[str]) -> tuple[str, ...]:
    known = sorted({n for n in names if not n.startswith("_")})
    lowered = {n.lower(): n for n in known}
    if name.lower() in lowered:
        return (lowered[name.lower()],)
    return tuple(get_close_matches(name, known, n=3, cutoff=0.72))


def mentions(module: Module, name: str) -> tuple[list[str], set[str]]:
    """The modules under `module` that define `name` at their top, and those that spell it out in quotes."""
    defined = re.compile(
        rf"^(?:class|def|async def) +{name}\b|^{name}\s*(?::[^=\n]+)?=(?!=)".encode(), re.MULTILINE
    )
    quoted = re.compile(rf"""["']{name}["']""".encode())
    wanted = name.encode()
    homes: list[str] = []
    spelt: set[str] = set()
    for path in sorted((module.folder or module.wheel.folder).rglob("*.py")):
        data = path.read_bytes()
        if wanted not in data:
            continue
        parts = path.relative_to(module.wheel.folder).with_suffix("").parts
        dotted = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        if defined.search(data):
            homes.append(dotted)
        if quoted.search(data):
            spelt.add(dotted)
    return homes, spelt


def patched(wheel: Wheel, name: str) -> str:
    """The file of `wheel` that assigns `….name` or sets it by its name; "" when none does."""
    assigned = re.compile(
        rf"\.{re.escape(name)}\b\s*(?::[^=\n]+)?=(?!=)|setattr\([^\n]*['\"]{re.escape(name)}['\"]".encode()
    )
    wanted = name.encode()
    for path in wheel.folder.rglob("*.py"):
        data = path.read_bytes()
        if wanted in data and assigned.search(data):
            return path.relative_to(wheel.folder).as_posix()
    return ""
