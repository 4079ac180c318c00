"""What an experiment says it needs: the dependencies of `pyproject.toml`, each with its line.

Two shapes are read. The valid one is PEP 621's array of PEP 508 strings. The broken one, frequent in
generated code, is Poetry's: a table under `[project.dependencies]` or `[tool.poetry.dependencies]`, with
carets. It is read *as mended*, the way real pipelines mended it: a caret or tilde becomes its lower bound, so
that questions about the packages can still be asked. `mended` says so, and `faults` lists what had to be.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import canonicalize_name

from labgate.bundle import BrokenFileError, Bundle

PATH = "pyproject.toml"

FaultKind = Literal["table", "caret", "elsewhere", "entry", "shape"]
"""`table`: dependencies written as a table. `caret`: a range of Poetry's. `elsewhere`: only in a table that a
standard installer never reads. `entry`: no PEP 508 requirement for another reason. `shape`: neither array nor
table."""


@dataclass(frozen=True)
class Entry:
    """One requirement. `name` is normalised, `specifier` is PEP 440, `raw` is what the file says.

    `reference` is the address of a requirement that names a URL, a repository or a folder.
    """

    name: str
    specifier: str = ""
    line: int = 0
    raw: str = ""
    extras: tuple[str, ...] = ()
    marker: str = ""
    reference: str = ""

    def __str__(self) -> str:
        extras = f"[{','.join(self.extras)}]" if self.extras else ""
        marker = f" ; {self.marker}" if self.marker else ""
        return f"{self.name}{extras}{self.specifier}{marker}"


@dataclass(frozen=True)
class Fault:
    """One thing that keeps a standard installer from reading the dependencies; `line` is 1-based."""

    kind: FaultKind
    says: str
    line: int
    raw: str = ""


@dataclass(frozen=True)
class Requirements:
    """`requires_python` is what the file demands, as it stands; `table` the key the entries came from."""

    entries: tuple[Entry, ...] = ()
    mended: bool = False
    faults: tuple[Fault, ...] = ()
    requires_python: str = ""
    table: str = ""
    unreadable: str = field(default="", compare=False)
    """Why the file could not be read at all."""

    def entry(self, name: str) -> Entry | None:
        wanted = canonicalize_name(name)
        return next((entry for entry in self.entries if entry.name == wanted), None)

    @property
    def registered(self) -> tuple[Entry, ...]:
        """The entries that a package registry can answer for."""
        return tuple(entry for entry in self.entries if not entry.reference)


def read(bundle: Bundle) -> Requirements:
    """The dependencies of `pyproject.toml`. Never raises: see `unreadable` and `faults`."""
    try:
        document = bundle.toml(PATH)
    except BrokenFileError as error:
        return Requirements(unreadable=error.says)
    project = _table(document, "project")
    poetry = _table(document, "tool", "poetry")
    reader = _Reader(bundle)
    python = project.get("requires-python") or ""
    own = project.get("dependencies")
    theirs = poetry.get("dependencies")
    groups = _table(document, "dependency-groups").get("dev")
    if isinstance(own, list):
        entries = [*reader.array(own), *reader.array(groups if isinstance(groups, list) else [])]
        key = "project.dependencies"
    elif isinstance(own, dict):
        line = reader.header("project", "dependencies")
        reader.faults.append(Fault("table", "the dependencies are a table, not an array", line))
        entries, key = list(reader.poetry(own, "project", "dependencies")), "project.dependencies"
    elif own is not None:
        line = bundle.key_line(PATH, "project", "dependencies")
        reader.faults.append(Fault("shape", f"the dependencies are {_kind(own)}, not an array", line))
        entries, key = [], "project.dependencies"
    elif isinstance(theirs, dict):
        line = reader.header("tool", "poetry", "dependencies")
        if "dependencies" not in (project.get("dynamic") or ()):
            reader.faults.append(Fault("elsewhere", "the dependencies stand where only Poetry looks", line))
        entries, key = (
            list(reader.poetry(theirs, "tool", "poetry", "dependencies")),
            "tool.poetry.dependencies",
        )
        python = python or _constraint(theirs.get("python"))
    else:
        entries, key = [], ""
    return Requirements(
        tuple(entries),
        bool(reader.faults),
        tuple(reader.faults),
        python if isinstance(python, str) else "",
        key,
    )


class _Reader:
    """Turns what stands in the file into entries, and keeps the faults that it meets."""

    def __init__(self, bundle: Bundle) -> None:
        self.bundle = bundle
        self.lines = (bundle.text(PATH) or "").splitlines()
        self.faults: list[Fault] = []

    def header(self, *keys: str) -> int:
        """The line of `[a.b]`, else of the key."""
        written = re.compile(
            r"\s*\[\s*" + r"\s*\.\s*".join(rf"[\"']?{re.escape(k)}[\"']?" for k in keys) + r"\s*\]"
        )
        found = next((n for n, line in enumerate(self.lines, 1) if written.match(line)), 0)
        return found or self.bundle.key_line(PATH, *keys)

    def array(self, items: list[object]) -> Iterator[Entry]:
        seen: dict[str, int] = {}
        for item in items:
            if isinstance(item, dict) and set(item) == {"include-group"}:
                continue
            if not isinstance(item, str):
                line = self.header("project", "dependencies")
                self.faults.append(Fault("entry", f"{item!r} is {_kind(item)}, not a requirement", line))
                continue
            line = seen[item] = self._written(item, seen.get(item, 0))
            try:
                yield _entry(Requirement(item), line, item)
                continue
            except InvalidRequirement as error:
                mended = _mended(item)
                kind: FaultKind = "caret" if mended and re.search(r"[\^~](?!=)", item) else "entry"
                self.faults.append(Fault(kind, str(error).partition("\n")[0].strip(), line, item))
            if mended:
                yield Entry(mended.name, mended.specifier, line, item, mended.extras)

    def poetry(self, table: Mapping[str, object], *keys: str) -> Iterator[Entry]:
        for name, value in table.items():
            if name == "python" and keys[0] == "tool":
                continue
            line = self.bundle.key_line(PATH, *keys, name)
            raw = self.lines[line - 1].strip() if 0 < line <= len(self.lines) else name
            wanted = value[0] if isinstance(value, list) and value else value
            constraint = _constraint(wanted)
            fields = wanted if isinstance(wanted, dict) else {}
            if fields.get("optional") is True:
                continue
            if re.search(r"[\^~](?!=)", constraint):
                says = f"{constraint!r} is a range that only Poetry understands"
                self.faults.append(Fault("caret", says, line, raw))
            reference = next(
                (str(fields[key]) for key in ("git", "url", "path", "file") if key in fields), ""
            )
            extras = fields.get("extras")
            yield Entry(
                canonicalize_name(name),
                lower_bound(constraint),
                line,
                raw,
                tuple(str(e) for e in extras) if isinstance(extras, list) else (),
                reference=reference,
            )

    def _written(self, item: str, after: int) -> int:
        """The line after `after` on which `item` stands in quotes."""
        shapes = (f'"{item}"', f"'{item}'", '"' + item.replace('"', '\\"') + '"')
        for number, line in enumerate(self.lines[after:], after + 1):
            if any(shape in line for shape in shapes):
                return number
        return self.bundle.key_line(PATH, "project", "dependencies")


def _entry(requirement: Requirement, line: int, raw: str) -> Entry:
    return Entry(
        canonicalize_name(requirement.name),
        str(requirement.specifier),
        line,
        raw,
        tuple(sorted(requirement.extras)),
        str(requirement.marker or ""),
        requirement.url or "",
    )


def _mended(item: str) -> Entry | None:
    """`name ^1.2` or `name = "^1.2"` as an entry; None when it is neither."""
    parts = re.match(
        r"\s*([A-Za-z0-9][\w.-]*)\s*(?:\[([\w ,.-]*)\])?\s*=?\s*['\"]?\s*([\^~<>=!*\d][^;'\"]*)?['\"]?", item
    )
    if not parts:
        return None
    extras = tuple(e.strip() for e in (parts[2] or "").split(",") if e.strip())
    return Entry(canonicalize_name(parts[1]), lower_bound(parts[3] or ""), extras=extras)


def lower_bound(constraint: str) -> str:
    """A constraint of Poetry's as PEP 440, a caret or tilde as its lower bound: `^1.2.3` gives `>=1.2.3`."""
    first = constraint.partition("||")[0].strip()
    parts = []
    for part in (p.strip() for p in first.split(",")):
        if part in ("", "*"):
            continue
        if part[0] in "^~" and not part.startswith("~="):
            part = ">=" + part[1:].strip().rstrip(".*")
        elif part[0].isdigit():
            part = "==" + part
        elif part[0] == "=" and not part.startswith("=="):
            part = "=" + part
        parts.append(part)
    try:
        return str(SpecifierSet(",".join(parts)))
    except InvalidSpecifier:
        return ""


def _constraint(value: object) -> str:
    if isinstance(value, dict):
        value = value.get("version", "")
    return value if isinstance(value, str) else ""


def _table(document: Mapping[str, Any], *keys: str) -> Mapping[str, Any]:
    for key in keys:
        document = document.get(key, {}) if isinstance(document, dict) else {}
    return document if isinstance(document, dict) else {}


def _kind(value: object) -> str:
    names = {str: "a string", bool: "a truth value", int: "a number", float: "a number", list: "an array"}
    return names.get(type(value), "a table" if isinstance(value, dict) else "a date")
