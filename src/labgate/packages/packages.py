"""The fact `packages`: what the experiment requires, what that resolves to, and what the APIs are."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import date
from functools import cache, cached_property
from pathlib import Path
from typing import Any, TypeVar

from packaging.utils import canonicalize_name

from labgate.bundle import Bundle
from labgate.bundle.syntax import every
from labgate.packages import requirements as requirements_of
from labgate.packages import resolution as resolving
from labgate.packages import uv, wheels
from labgate.packages.apis import Library
from labgate.packages.requirements import Entry, Requirements
from labgate.packages.resolution import Resolution
from labgate.packages.signatures import Parameter, Signature, signature_of
from labgate.packages.things import Kind, Outside, Reached, Thing
from labgate.packages.traits import mentions, tuple_length
from labgate.packages.wheels import Wheel

UNKNOWN = "unknown"
Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Lookup:
    """What is known of a dotted name.

    `path` is where it is defined, `what` is "module", "class", "function", "attribute" or "" (it exists and
    more cannot be told). When it is not found, `parent` is its deepest ancestor that exists and `near` are
    names there that look like it. `undefined` comes with "unknown": all classes were read, none defines the
    name, and only a `__getattr__` could answer for it.
    """

    dotted: str
    kind: Kind
    what: str = ""
    path: str = ""
    why: str = ""
    distribution: str = ""
    version: str = ""
    parent: str = ""
    near: tuple[str, ...] = ()
    undefined: bool = False


class Packages:
    """Made by `read`. `problem` says why versions are not known, and is "" when they are.

    `resolution.conflict` is not a problem of ours: it says, in uv's words, why nothing can resolve.
    """

    def __init__(self, bundle: Bundle, requirements: Requirements, resolution: Resolution) -> None:
        self.requirements = requirements
        self.resolution = resolution
        self.unfetched: dict[str, str] = {}
        """Why the wheel of a distribution could not be had, by its name."""
        self._imports = _imports_of(bundle)
        self._own = {source.module.partition(".")[0] for source in bundle.sources.values()}
        self._wheels: dict[str, Wheel] = {}
        self._reading: Library | None = None

    @classmethod
    def none(cls, reason: str, bundle: Bundle | None = None) -> Packages:
        """No versions, because of `reason`; the requirements are read all the same when a bundle is given."""
        bundle = bundle or Bundle.from_files({})
        return cls(bundle, requirements_of.read(bundle), Resolution(problem=reason))

    @property
    def problem(self) -> str:
        return self.resolution.problem

    @property
    def conflict(self) -> str:
        return self.resolution.conflict

    @property
    def resolved(self) -> Mapping[str, str]:
        """The version of each distribution, by its normalised name."""
        return self.resolution.versions

    def version(self, import_name: str) -> str | None:
        """The version of the distribution that provides `import_name`."""
        return self.resolved.get(self.provides(import_name) or "")

    def declares(self, import_name: str) -> Entry | None:
        """The requirement that names the distribution of `import_name` itself."""
        provider = self.provides(import_name)
        return self.requirements.entry(provider) if provider and provider != UNKNOWN else None

    def decoys(self) -> Iterator[tuple[Entry, str]]:
        """Requirements whose distribution is a trap, with the one that was meant."""
        meant = {decoy["name"]: str(decoy["wanted"]) for decoy in uv.known()["decoy"]}
        yield from ((entry, meant[entry.name]) for entry in self.requirements.entries if entry.name in meant)

    def provides(self, import_name: str) -> str | None:
        """The distribution that provides `import_name`; None when none does, "unknown" when untold."""
        declared = {entry.name for entry in self.requirements.entries}
        there = {**dict.fromkeys(declared, ""), **self.resolved}
        root = import_name.partition(".")[0]
        known = uv.known()
        parts = import_name.split(".")
        for length in range(len(parts), 0, -1):
            for name in known["imports"].get(".".join(parts[:length]), ()):
                if name in there:
                    return str(name)
        if root in known["namespaces"]["names"]:
            return UNKNOWN
        plain = canonicalize_name(root)
        if plain in there and plain not in {decoy["name"] for decoy in known["decoy"]}:
            return plain
        if not self.resolved or any(entry.reference for entry in self.requirements.entries):
            return UNKNOWN
        for name, wheel in self._oddly_named().items():
            if root in wheel.roots:
                return name
            if wheel.problem:
                return UNKNOWN
        kin = [name for name in there if len(plain) > 3 and (plain in name.split("-") or plain in name)]
        return UNKNOWN if kin and root not in known["imports"] else None

    def lookup(self, dotted: str) -> Lookup:
        """Whether `dotted`, such as `scipy.stats.binom_test`, exists in the versions that resolve."""
        return self._answer("lookup", dotted, lambda: asdict(self._lookup(dotted)), _lookup_from)

    def signature(self, dotted: str) -> Signature | None:
        """What the callable at `dotted` takes, a class by its construction; None when that cannot be told."""

        def ask() -> dict[str, Any] | None:
            reached = self._find(dotted)
            found = signature_of(self._library, reached.thing) if reached.kind == "exists" else None
            return asdict(found) if found else None

        return self._answer("signature", dotted, ask, _signature_from)

    def returns(self, dotted: str) -> str | None:
        """The path of the class that calling `dotted` gives, or that it is an instance of; None when untold.

        A class gives itself, a function or method its annotated return, an attribute or property its
        annotation; `None` beside a class is left out.
        """

        def ask() -> str | None:
            reached = self._find(dotted)
            if reached.kind != "exists" or not isinstance(reached.thing, Thing):
                return None
            thing = reached.thing
            if thing.what == "attribute":
                thing = self._library.value_of(thing) or thing
            if thing.what == "class":
                return thing.path
            found = self._library.type_of(thing)
            return found.path if found else None

        return self._answer("returns", dotted, ask, _text_from)

    def gives(self, dotted: str) -> int | None:
        """How many items the tuple has that calling `dotted` gives, by its annotation; None when untold."""

        def ask() -> int | None:
            thing = self._find(dotted).thing
            objects = thing.objects if isinstance(thing, Thing) and thing.what == "function" else ()
            lengths = {tuple_length(getattr(found, "returns", None)) for found in objects}
            return lengths.pop() if len(lengths) == 1 else None

        return self._answer("gives", dotted, ask, _count_from)

    def registry(self, dotted: str) -> Mapping[str, str] | None:
        """How the function `dotted` looks up a name among those of its library; None when it does not."""
        return next((one for one in uv.known()["registry"] if dotted in one["calls"]), None)

    def spells(self, root: str, name: str) -> bool | None:
        """Whether any source of the package `root` defines or quotes `name`; None when untold."""

        def ask() -> bool | None:
            thing = self._find(root).thing
            if not isinstance(thing, Thing) or thing.module.folder is None:
                return None
            homes, spelt = mentions(thing.module, name)
            return bool(homes or spelt)

        return self._answer("spells", f"{root} {name}", ask, _truth_from)

    def _lookup(self, dotted: str) -> Lookup:
        root = dotted.partition(".")[0]
        provider = self.provides(root if root not in uv.known()["namespaces"]["names"] else dotted)
        name = provider if provider and provider != UNKNOWN else ""
        version = self.resolved.get(name, "")
        if self.problem or self.conflict:
            return Lookup(dotted, "unknown", why=self.problem or "the requirements do not resolve")
        reached = self._find(dotted)
        if reached.thing is None or isinstance(reached.thing, Outside):
            why = reached.why or self.unfetched.get(name, "") or f"{root} is not unpacked"
            kind: Kind = "exists" if reached.kind == "exists" else "unknown"
            return Lookup(dotted, kind, why=self.unfetched.get(name, why), distribution=name, version=version)
        thing = reached.thing
        release = thing.module.wheel
        if reached.kind == "exists":
            return Lookup(dotted, "exists", thing.what, thing.path, "", release.name, release.version)
        return Lookup(
            dotted,
            reached.kind,
            why=reached.why,
            distribution=release.name,
            version=release.version,
            parent=thing.path,
            near=reached.near,
            undefined=reached.undefined,
        )

    def _find(self, dotted: str) -> Reached:
        reached = self._library.find(dotted)
        if reached.kind == "exists" or "." not in dotted:
            return reached
        # `from hydra.main import main` means the module, though the package calls a function by its name.
        other = self._library.imported(dotted)
        return reached if reached.kind == other.kind or other.kind == "missing" else other

    @property
    def _library(self) -> Library:
        """The wheels of everything that the bundle imports, fetched together on the first question."""
        if self._reading is None:
            roots = sorted(self._imports - self._own - sys.stdlib_module_names)
            providers = {self.provides(root) or "" for root in roots}
            names = {name: self.resolved[name] for name in sorted(providers) if name in self.resolved}
            self._reading = Library(self._fetched(names).values(), more=self._more)
        return self._reading

    def _more(self, root: str) -> Wheel | None:
        name = self.provides(root) if root not in self._own and root not in sys.stdlib_module_names else None
        if name is None or name not in self.resolved:
            return None
        wheel = self._fetched({name: self.resolved[name]})[name]
        return None if wheel.problem else wheel

    def _fetched(self, releases: Mapping[str, str]) -> dict[str, Wheel]:
        lacking = {name: version for name, version in releases.items() if name not in self._wheels}
        if lacking:
            self._wheels.update(wheels.fetch(lacking, python=self.resolution.python))
            self.unfetched.update({n: self._wheels[n].problem for n in lacking if self._wheels[n].problem})
        return {name: self._wheels[name] for name in releases}

    def _oddly_named(self) -> dict[str, Wheel]:
        """The wheels of declared distributions whose import names no table and no name tells."""
        told = {name for names in uv.known()["imports"].values() for name in names}
        imported = {canonicalize_name(root) for root in self._imports}
        odd = [
            e.name
            for e in self.requirements.registered
            if e.name not in told | imported and e.name in self.resolved
        ]
        return self._fetched({name: self.resolved[name] for name in odd})

    # Answers are kept between processes: they cost seconds of parsing, and depend on versions alone.

    def _answer(
        self, question: str, dotted: str, ask: Callable[[], Any], read: Callable[[Any], Answer]
    ) -> Answer:
        key = f"{question} {dotted}"
        if key not in self._answers:
            answer = ask()
            if any("source only" not in why for why in self.unfetched.values()) or not self.resolved:
                return read(json.loads(json.dumps(answer)))
            self._answers[key] = answer
            self._keep()
        return read(self._answers[key])

    @cached_property
    def _answers(self) -> dict[str, Any]:
        try:
            kept = json.loads(self._place.read_text(encoding="utf-8"))
            return kept if isinstance(kept, dict) else {}
        except (OSError, ValueError):
            return {}

    @cached_property
    def _place(self) -> Path:
        question = json.dumps(
            [sorted(self.resolved.items()), self.resolution.python, sorted(self._own), _own_digest()]
        )
        return uv.cache_folder() / "answers" / f"{hashlib.sha256(question.encode()).hexdigest()[:32]}.json"

    def _keep(self) -> None:
        try:
            self._place.parent.mkdir(parents=True, exist_ok=True)
            partial = self._place.with_suffix(f".{id(self)}.partial")
            partial.write_text(json.dumps(self._answers), encoding="utf-8")
            partial.replace(self._place)
        except OSError:
            pass  # a cache that cannot be written costs time, and nothing else


def read(bundle: Bundle, *, as_of: date | None = None, resolve: bool = True) -> Packages:
    """The packages of `bundle`: its own `uv.lock` decides their versions, else the date, else today.

    Asks the package registry through `uv`; what fails on our side stands in `problem`. Never raises.
    """
    requirements = requirements_of.read(bundle)
    if not resolve:
        return Packages(bundle, requirements, Resolution(problem="resolution was left out"))
    resolution = resolving.locked(bundle)
    if resolution is None and requirements.unreadable:
        resolution = Resolution(problem=f"pyproject.toml {requirements.unreadable}")
    if resolution is None:
        try:
            resolution = resolving.resolve(requirements, as_of)
        except (uv.UvMissingError, OSError) as error:
            resolution = Resolution(problem=str(error))
    return Packages(bundle, requirements, resolution)


def _imports_of(bundle: Bundle) -> frozenset[str]:
    return frozenset(name.partition(".")[0] for name in _imported(bundle))


def _imported(bundle: Bundle) -> Iterator[str]:
    import ast

    for source in bundle.sources.values():
        for node in every(source.tree, ast.Import, ast.ImportFrom):
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)
            elif node.module and not node.level:
                yield node.module


def _text_from(answer: str | None) -> str | None:
    return answer


def _truth_from(answer: bool | None) -> bool | None:
    return answer


def _count_from(answer: int | None) -> int | None:
    return answer


def _lookup_from(answer: dict[str, Any]) -> Lookup:
    return Lookup(**{**answer, "near": tuple(answer["near"])})


def _signature_from(answer: dict[str, Any] | None) -> Signature | None:
    if answer is None:
        return None
    return Signature(answer["path"], tuple(Parameter(**p) for p in answer["parameters"]))


@cache
def _own_digest() -> str:
    """Of this package's own code: answers given by older code are not taken."""
    whole = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        whole.update(path.read_bytes())
    return whole.hexdigest()[:16]
