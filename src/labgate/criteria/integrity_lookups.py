"""Integrity: a lookup that falls back to a number can find something."""

from __future__ import annotations

import ast
import difflib
from collections.abc import Iterator
from dataclasses import dataclass, field

from packaging.version import InvalidVersion, Version

from labgate.bundle import Bundle, Source
from labgate.bundle.syntax import every, walked
from labgate.checks import Answers, check
from labgate.contract import Contract
from labgate.criteria._names import Loop, UnsureError, constants, evaluate, loops, parameter_names, rounds
from labgate.criteria._same_dicts import (
    Names,
    Variable,
    aliases,
    keeps_keys,
    named_functions,
    own,
    own_statements,
    variable,
)
from labgate.criteria._training_code import sources_of_training
from labgate.finding import Evidence, Impact, cannot_tell, failed, passed
from labgate.flow import Flow
from labgate.flow.events import Call
from labgate.packages import Packages

_Function = ast.FunctionDef | ast.AsyncFunctionDef
_BASE_LAYER = Version("0.6.3.dev0")
"""From here on PEFT calls the weight that an adapter wraps `….base_layer.weight`."""


@dataclass
class _Lookup:
    """`scores.get(key, 0.0)` with a key made from a parameter's name."""

    source: Source
    loop: Loop
    call: ast.Call
    holder: Variable


@dataclass
class _Stored:
    """What is put into a dict: keys by the model's naming, and where; `unsure` when some are untold."""

    keys: set[str] = field(default_factory=set)
    places: list[Evidence] = field(default_factory=list)
    unsure: bool = False


@check("integrity.lookups-can-hit", impact=Impact.MISLEADS)
def keys_made_from_names_can_match(
    bundle: Bundle, contract: Contract, flow: Flow, packages: Packages
) -> Answers:
    """A key made from a parameter's name by cutting and joining is one that the dict can hold.

    With a default, a key that never matches raises nothing: every lookup gives the default, and what hangs on
    it does not happen. The names are tried: those that the model gives, through the filter that fills the
    dict and through the surgery that asks it. PEFT renames what it wraps: `q.weight` becomes
    `q.base_layer.weight`.

    Bad:
        scores = {n: p.grad.norm() for n, p in model.named_parameters() if "lora_" not in n}
        weight = scores.get(name.split(".lora_")[0] + ".weight", 0.0)
    Good:
        scores = {n: p.grad.norm() for n, p in model.named_parameters() if "lora_" not in n}
        weight = scores[name.split(".lora_")[0] + ".base_layer.weight"]
    """
    trees = list(sources_of_training(bundle, contract))
    lookups = [lookup for source in trees for lookup in _lookups(source)]
    if not lookups:
        yield passed("no number is looked up under a key made from a parameter's name")
        return
    same = aliases(trees)
    for lookup in lookups:
        yield from _decided(bundle, flow, packages, trees, same, lookup)


def _decided(
    bundle: Bundle, flow: Flow, packages: Packages, trees: list[Source], same: Names, lookup: _Lookup
) -> Answers:
    here = bundle.place(lookup.source.path, lookup.call.lineno, "asks for a name made from another")
    wrapped, why = _naming(bundle, flow, packages)
    if not wrapped:
        yield cannot_tell(why, here)
        return
    tried = []
    for naming in wrapped:
        names = parameter_names(naming)
        stored = _stored(bundle, trees, same, lookup, names)
        try:
            asked = list(_asked(lookup, names))
        except UnsureError as error:
            yield cannot_tell(f"the key that is asked for is not made from the name alone: {error}", here)
            return
        if stored.unsure or not stored.keys or not asked:
            yield cannot_tell("what the dict holds is not settled by reading", here, *stored.places[:2])
            return
        tried.append((any(key in stored.keys for _, key in asked), asked[0], stored))
    if all(hit for hit, _, _ in tried):
        yield passed("the keys that are asked for are among those stored", here, *tried[0][2].places[:2])
    elif any(hit for hit, _, _ in tried):
        yield cannot_tell(
            f"whether the keys match depends on the version of PEFT, which is not known: {why}", here
        )
    else:
        _, (name, key), stored = tried[0]
        near = _nearest(key, stored.keys)
        yield failed(
            f"the lookup never finds anything: {name} is asked for as {key!r}, stored is {near!r};"
            " every answer is the default",
            here,
            *stored.places[:3],
            *_version(bundle, packages),
            do="make the key from the names that the model has, and look it up without a default",
        )


def _nearest(key: str, keys: set[str]) -> str:
    found = difflib.get_close_matches(key, sorted(keys), 1, 0.0)
    return found[0] if found else ""


def _version(bundle: Bundle, packages: Packages) -> list[Evidence]:
    entry = packages.declares("peft")
    version = packages.version("peft")
    if entry is None or version is None:
        return []
    return [bundle.place("pyproject.toml", entry.line, f"resolves to {version}, which renames what it wraps")]


def _naming(bundle: Bundle, flow: Flow, packages: Packages) -> tuple[list[str], str]:
    """The namings that the model may have; with both of PEFT's, why it is not known which."""
    uses = any(
        call.path in ("peft.get_peft_model", "peft.PeftModel.from_pretrained")
        for walk in flow.training
        for call in walk.of(Call)
    )
    if not uses:
        return [], "the names of the model's parameters are its own"
    version = packages.version("peft")
    if version is None:
        return ["peft", "old-peft"], packages.problem or packages.conflict or "it does not resolve"
    try:
        return ["peft" if Version(version) >= _BASE_LAYER else "old-peft"], ""
    except InvalidVersion:
        return ["peft", "old-peft"], f"{version} is no version"


def _lookups(source: Source) -> Iterator[_Lookup]:
    if "named_parameters" not in source.text or ".get(" not in source.text:
        return
    for name, function in named_functions(source):
        for loop in loops(function):
            if not loop.name or loop.inside not in own(function):
                continue
            for node in every(loop.inside, ast.Call):
                if _is_get(node) and _made_from(node.args[0], loop):
                    assert isinstance(node.func, ast.Attribute)
                    holder = variable(source, name, node.func.value)
                    if holder is not None:
                        yield _Lookup(source, loop, node, holder)


def _is_get(node: ast.Call) -> bool:
    """`something.get(key, number)`."""
    if not (isinstance(node.func, ast.Attribute) and node.func.attr == "get" and len(node.args) == 2):
        return False
    default = node.args[1]
    if isinstance(default, ast.UnaryOp):
        default = default.operand
    return isinstance(default, ast.Constant) and isinstance(default.value, int | float)


def _made_from(key: ast.expr, loop: Loop) -> bool:
    """Whether a key is the loop's name, or a variable that the loop makes from it."""
    made = {loop.name}
    for node in every(loop.inside, ast.Assign):
        if any(name.id in made for name in every(node.value, ast.Name)):
            made |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    return any(name.id in made for name in every(key, ast.Name))


def _asked(lookup: _Lookup, names: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    """Each name that comes by the lookup, with the key that is asked for. Raises UnsureError."""
    assert lookup.source.tree is not None
    for name, met in rounds(lookup.loop, names, constants(lookup.source.tree)):
        for one in met:
            if lookup.call in one.nodes:
                key = evaluate(lookup.call.args[0], one.env)
                if isinstance(key, str):
                    yield name, key


def _stored(
    bundle: Bundle, trees: list[Source], same: Names, lookup: _Lookup, names: tuple[str, ...]
) -> _Stored:
    """Everything put under a key into the dict that the lookup asks."""
    found = _Stored()
    wanted = same.find(lookup.holder)
    for source in trees:
        for function_name, function in named_functions(source):
            named = list(loops(function))
            for node in own_statements(function):
                for target, key in _puts(node):
                    held = variable(source, function_name, target)
                    if held is None or same.find(held) != wanted:
                        continue
                    _gather(bundle, source, node, key, named, names, found)
    return found


def _puts(node: ast.AST) -> Iterator[tuple[ast.expr, ast.expr | ast.DictComp]]:
    """`target[key] = …`, `target = {key: …}` and what else fills a dict."""
    if isinstance(node, ast.Assign):
        for target in node.targets:
            if isinstance(target, ast.Subscript):
                yield target.value, target.slice
            elif isinstance(node.value, ast.DictComp):
                yield target, node.value
            elif isinstance(node.value, ast.Dict):
                for key in node.value.keys:
                    if key is not None:
                        yield target, key
    elif isinstance(node, ast.AnnAssign) and isinstance(node.value, ast.DictComp):
        yield node.target, node.value
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.args:
        yield from [(node.func.value, node.args[0])] if node.func.attr in ("update", "setdefault") else []


def _gather(
    bundle: Bundle,
    source: Source,
    node: ast.AST,
    key: ast.expr | ast.DictComp,
    named: list[Loop],
    names: tuple[str, ...],
    found: _Stored,
) -> None:
    assert source.tree is not None
    if isinstance(key, ast.DictComp):
        if keeps_keys(key):
            return
        loop = next((loop for loop in named if loop.inside is key), None)
        key = key.key
    else:
        loop = next((loop for loop in named if any(inner is node for inner in walked(loop.inside))), None)
    if loop is None or not loop.name:
        found.unsure = True
        return
    found.places.append(bundle.place(source.path, getattr(node, "lineno", 0), "stores under this name"))
    for _, met in rounds(loop, names, constants(source.tree)):
        for one in met:
            if key in one.nodes:
                try:
                    made = evaluate(key, one.env)
                except UnsureError:
                    found.unsure = True
                    return
                found.keys.add(str(made))
