"""What the code takes from third-party packages, against the versions that resolve."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass

from labgate.bundle import Bundle, Source
from labgate.bundle.kept import kept
from labgate.bundle.syntax import every
from labgate.checks import Answers, CannotLookError, check
from labgate.finding import Evidence, Impact, cannot_tell, failed, passed
from labgate.flow import Call, Event, Flow, Known, Use, Walk
from labgate.packages import Packages


@dataclass(frozen=True)
class _Met:
    """The same name used at the same place, on one or more walks."""

    event: Event
    path: str
    where: str
    sure: bool


def _uses(flow: Flow) -> list[_Met]:
    """Every outside name that is read, once a place; sure when one walk is sure to get there."""
    found: dict[tuple[str, str, int], list[tuple[Use, Walk]]] = {}
    for walk in flow.walks:
        for use in walk.of(Use):
            found.setdefault((use.path, use.place.path, use.place.line), []).append((use, walk))
    return [_met(path, pairs) for (path, _, _), pairs in found.items()]


@kept
def _calls(flow: Flow) -> list[_Met]:
    """Every call of something outside, once a place, as `_uses`; three checks ask."""
    found: dict[tuple[str, str, int, int], list[tuple[Call, Walk]]] = {}
    for walk in flow.walks:
        for call in walk.of(Call):
            if call.node is not None:
                spot = (call.path, call.place.path, call.place.line, call.place.column)
                found.setdefault(spot, []).append((call, walk))
    return [_met(spot[0], pairs) for spot, pairs in found.items()]


def _met(path: str, pairs: list[tuple[Use, Walk]] | list[tuple[Call, Walk]]) -> _Met:
    sure = [(event, walk) for event, walk in pairs if event.certain and not event.guarded]
    names = list(dict.fromkeys(walk.name for _, walk in sure or pairs))
    where = "; ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
    return _Met((sure or pairs)[0][0], path, where, bool(sure))


def _third_party(path: str) -> bool:
    top = path.partition(".")[0].partition("(")[0]
    return bool(top) and top != "builtins" and top not in sys.stdlib_module_names


def _dotted(path: str, packages: Packages) -> str | None:
    """`wandb.init().log` as the dotted name of what is reached, by the return types that are written down.

    None when a step cannot be told: an item of something, or a call without a return annotation.
    """
    if "[" in path or path.endswith("()"):  # an item of something, or what calling an instance gives
        return None
    first, *steps = path.split("()")
    reached = first
    for step in steps:
        looked = packages.lookup(reached)
        if looked.kind != "exists":
            return None
        made = looked.path or reached if looked.what == "class" else packages.returns(reached)
        if made is None:
            return None
        reached = f"{made}{step}"
    return reached


def _requirement(bundle: Bundle, packages: Packages, root: str) -> list[Evidence]:
    entry = packages.declares(root)
    if entry is None:
        return []
    mended = "; read as its lower bound" if packages.requirements.mended else ""
    return [bundle.place("pyproject.toml", entry.line, f"what resolves here comes of this{mended}")]


def _look(packages: Packages) -> None:
    if packages.problem:
        raise CannotLookError(packages.problem)
    if packages.conflict:
        raise CannotLookError("no versions resolve together, so what they hold cannot be looked up")


@check("complete.fully-functional", "hydra.cli-full", "hydra.cli-evaluate", impact=Impact.BLOCKS)
def names_exist_in_the_resolved_versions(bundle: Bundle, flow: Flow, packages: Packages) -> Answers:
    """Every name and attribute taken from a third-party package exists in the version that resolves.

    Libraries drop functions, and code generators invent them. The name is looked up in the unpacked package:
    nothing of it is imported. Where a module fills itself while it runs, or is compiled, no answer is given.

    Bad:
        from scipy.stats import binom_test
    Good:
        from scipy.stats import binomtest
    """
    _look(packages)
    missing: set[str] = set()
    known, doubted = 0, 0
    for met in sorted(_uses(flow), key=lambda met: (len(met.path), met.path)):
        if not _third_party(met.path) or any(met.path.startswith(f"{name}.") for name in missing):
            continue
        dotted = _dotted(met.path, packages)
        looked = packages.lookup(dotted) if dotted else None
        if looked is None or looked.kind == "unknown":
            doubted += 1
            continue
        if looked.kind == "exists":
            known += 1
            continue
        root = looked.dotted.partition(".")[0]
        place = bundle.place(met.event.place.path, met.event.place.line, "used here")
        name = looked.dotted.rpartition(".")[2] if looked.parent else looked.dotted
        holder = looked.parent or root
        says = f"{looked.distribution or root} {looked.version} has no {looked.dotted}"
        if not met.sure:
            yield cannot_tell(f"{says}; whether the code gets there depends on what it meets", place)
            continue
        missing.add(met.path)
        near = f"; {holder} has {', '.join(looked.near[:3])}" if looked.near else ""
        yield failed(
            f"{says} ({met.where})",
            place,
            *_requirement(bundle, packages, root),
            do=f"use what {holder} {looked.version} offers for {name}{near}, or pin a version that has it",
        )
    if not missing:
        yield passed(f"{known} names found in the resolved packages; {doubted} could not be told")


@check("complete.fully-functional", "hydra.cli-full", "hydra.cli-evaluate", impact=Impact.BLOCKS)
def arguments_fit_the_resolved_versions(bundle: Bundle, flow: Flow, packages: Packages) -> Answers:
    """Every call of a third-party function gives what its parameters take, in the version that resolves.

    Bad:
        LoraConfig(r=8, dropout=0.1)
    Good:
        LoraConfig(r=8, lora_dropout=0.1)
    """
    _look(packages)
    known, failures = 0, 0
    for met in _calls(flow):
        call = met.event
        assert isinstance(call, Call)
        if not _third_party(met.path) or met.path.endswith("()"):
            continue  # what calling an object takes is not written down with its class
        dotted = _dotted(met.path, packages)
        signature = packages.signature(dotted) if dotted else None
        if signature is None or "._C." in signature.path:
            continue  # stubs of compiled code leave overloads out
        known += 1
        for says in _misfits(call, signature):
            place = bundle.place(call.place.path, call.place.line, "called here")
            root = met.path.partition(".")[0]
            whole = f"{signature.path} of {root} {packages.version(root)} {says}"
            if not met.sure:
                yield cannot_tell(f"{whole}; whether the code gets there depends on what it meets", place)
                continue
            failures += 1
            takes = ", ".join(signature.keywords[:12])
            yield failed(
                f"TypeError: {whole} ({met.where})",
                place,
                *_requirement(bundle, packages, root),
                do=f"it takes {takes}" if takes else "call it with what it takes",
            )
    if not failures:
        yield passed(f"{known} calls agree with the signatures that could be read")


@check("complete.fully-functional", "hydra.cli-full", "hydra.cli-evaluate", impact=Impact.BLOCKS)
def results_are_unpacked_as_they_come(bundle: Bundle, flow: Flow, packages: Packages) -> Answers:
    """What a third-party function gives has as many parts as names are there to take them.

    Bad:
        top, left, height, width = RandomErasing.get_params(image, scale, ratio)
    Good:
        top, left, height, width, value = RandomErasing.get_params(image, scale, ratio)
    """
    _look(packages)
    names = {source.path: _unpackings(source) for source in bundle.sources.values()}
    known, failures = 0, 0
    for met in _calls(flow):
        place = met.event.place
        taken = names.get(place.path, {}).get((place.line, place.column))
        dotted = _dotted(met.path, packages) if taken and _third_party(met.path) else None
        gives = packages.gives(dotted) if dotted else None
        if gives is None:
            continue
        known += 1
        if gives == taken:
            continue
        root = met.path.partition(".")[0]
        says = f"{met.path} of {root} {packages.version(root)} gives {gives} values, and {taken} are taken"
        shown = bundle.place(place.path, place.line, "unpacked here")
        if not met.sure:
            yield cannot_tell(f"{says}; whether the code gets there depends on what it meets", shown)
            continue
        failures += 1
        yield failed(
            f"ValueError: {says} ({met.where})",
            shown,
            *_requirement(bundle, packages, root),
            do=f"take {gives} values",
        )
    if not failures:
        yield passed(f"{known} results of known length are unpacked as they come")


def _unpackings(source: Source) -> dict[tuple[int, int], int]:
    """Where a call stands whose result is unpacked, and into how many names."""
    found = {}
    for node in every(source.tree, ast.Assign):
        if not isinstance(node.value, ast.Call):
            continue
        for target in node.targets:
            if isinstance(target, ast.Tuple | ast.List):
                if not any(isinstance(name, ast.Starred) for name in target.elts):
                    found[node.value.lineno, node.value.col_offset] = len(target.elts)
    return found


@check("complete.fully-functional", "model.external-models-used", impact=Impact.BLOCKS)
def registered_names_exist(bundle: Bundle, flow: Flow, packages: Packages) -> Answers:
    """A model that is asked of a library by name is one that this library registers.

    A registry is searched while the code runs, so a wrong name is an error of the first run. Names are looked
    for in the sources of the version that resolves.

    Bad:
        timm.create_model("cifar_resnet20")
    Good:
        timm.create_model("resnet18")
    """
    _look(packages)
    found, failures = 0, 0
    for met in _calls(flow):
        call, registry = met.event, packages.registry(met.path)
        assert isinstance(call, Call)
        name = call.argument(0, registry["argument"]) if registry else None
        if registry is None or not isinstance(name, Known) or not isinstance(name.value, str):
            continue
        wanted = name.value.partition(registry["tag"])[0]
        own = any(registry["registers"] in source.text for source in bundle.sources.values())
        if own or not wanted or set(name.value) & set(registry["elsewhere"]):
            continue
        root = met.path.partition(".")[0]
        spelt = packages.spells(root, wanted)
        found += spelt is True
        if spelt is not False:
            continue
        says = f"{root} {packages.version(root)} registers nothing called {wanted!r}"
        place = bundle.place(call.place.path, call.place.line, "asked for here")
        if met.sure:
            failures += 1
            yield failed(
                f"{says} ({met.where})",
                place,
                *_requirement(bundle, packages, root),
                do=f"ask for a name that {root} lists, or build the model from the parts that it has",
            )
        else:
            yield cannot_tell(f"{says}; whether the code gets there depends on what it meets", place)
    if not failures:
        yield passed(f"{found} names asked of a registry are found in its library")


def _misfits(call: Call, signature: object) -> Iterator[str]:
    from labgate.packages import Signature

    assert isinstance(signature, Signature)
    for name in call.kwargs:
        if not signature.takes(name):
            yield f"takes no argument '{name}'"
    if call.spread:
        return
    places = [p for p in signature.parameters if p.kind.startswith("positional")]
    if len(call.args) > len(places) and not signature.takes_any_position:
        yield f"takes {len(places)} positional arguments and is given {len(call.args)}"
    lacking = signature.lacking(len(call.args), call.kwargs)
    if lacking:
        yield f"is not given {', '.join(lacking)}"
