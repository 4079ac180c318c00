"""Integrity: a lookup that falls back to a number can find something."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from packaging.version import InvalidVersion, Version

from labgate.bundle import Bundle, Source
from labgate.checks import Answers, check
from labgate.contract import Contract
from labgate.criteria._names import Loop, UnsureError, constants, evaluate, loops, parameter_names, rounds
from labgate.finding import Evidence, Impact, cannot_tell, failed, passed
from labgate.flow import Flow
from labgate.flow.events import Call
from labgate.packages import Packages

_Function = ast.FunctionDef | ast.AsyncFunctionDef
_BASE_LAYER = Version("0.6.3.dev0")
"""From here on PEFT calls the weight that an adapter wraps `….base_layer.weight`."""

_Variable = tuple[str, str, str]
"""A name in a function of a file: (path, function, name)."""


@dataclass
class _Lookup:
    """`scores.get(key, 0.0)` with a key made from a parameter's name."""

    source: Source
    loop: Loop
    call: ast.Call
    holder: _Variable


@dataclass
class _Stored:
    """What is put into a dict: keys by the naming that the model has, and where; `unsure` when some are untold."""

    keys: set[str] = field(default_factory=set)
    places: list[Evidence] = field(default_factory=list)
    unsure: bool = False


class _Names:
    """Which variables are one and the same dict: handed in, handed back, assigned."""

    def __init__(self) -> None:
        self.parent: dict[_Variable, _Variable] = {}

    def find(self, one: _Variable) -> _Variable:
        while (up := self.parent.get(one, one)) != one:
            one = up
        return one

    def same(self, one: _Variable, other: _Variable) -> None:
        self.parent[self.find(one)] = self.find(other)


def _functions(source: Source) -> Iterator[tuple[str, ast.AST]]:
    """Functions of a source by name, and the module itself as ""."""
    assert source.tree is not None
    yield "", source.tree
    for node in ast.walk(source.tree):
        if isinstance(node, _Function):
            yield node.name, node


def _own(tree: ast.AST) -> Iterator[ast.AST]:
    """The nodes of a function or module, less those of the functions inside it."""
    pending = list(ast.iter_child_nodes(tree))
    while pending:
        node = pending.pop()
        yield node
        if not isinstance(node, _Function | ast.ClassDef):
            pending.extend(ast.iter_child_nodes(node))


@check("integrity.lookups-can-hit", impact=Impact.MISLEADS)
def keys_made_from_names_can_match(
    bundle: Bundle, contract: Contract, flow: Flow, packages: Packages
) -> Answers:
    """A key made from a parameter's name by cutting and joining is one that the dict can hold.

    With a default, a key that never matches raises nothing: every lookup gives the default, and what hangs on
    it does not happen. The names are tried: those that the model gives, through the filter that fills the dict
    and through the surgery that asks it. PEFT renames what it wraps: `q.weight` becomes `q.base_layer.weight`.

    Bad:
        scores = {n: p.grad.norm() for n, p in model.named_parameters() if "lora_" not in n}
        weight = scores.get(name.split(".lora_")[0] + ".weight", 0.0)
    Good:
        scores = {n: p.grad.norm() for n, p in model.named_parameters() if "lora_" not in n}
        weight = scores[name.split(".lora_")[0] + ".base_layer.weight"]
    """
    trees = [
        source
        for source in bundle.sources.values()
        if source.tree is not None
        and source.path.startswith("src/")
        and source.module != contract.evaluate_module
    ]
    lookups = [lookup for source in trees for lookup in _lookups(source)]
    if not lookups:
        yield passed("no number is looked up under a key made from a parameter's name")
        return
    same = _aliases(trees)
    for lookup in lookups:
        yield from _decided(bundle, flow, packages, trees, same, lookup)


def _decided(
    bundle: Bundle, flow: Flow, packages: Packages, trees: list[Source], same: _Names, lookup: _Lookup
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
    import difflib

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
    for name, function in _functions(source):
        for loop in loops(function):
            if not loop.name or not _inside_own(function, loop):
                continue
            for node in ast.walk(loop.inside):
                if isinstance(node, ast.Call) and _is_get(node) and _made_from(node.args[0], loop):
                    assert isinstance(node.func, ast.Attribute)
                    holder = node.func.value
                    if isinstance(holder, ast.Name):
                        yield _Lookup(source, loop, node, (source.path, name, holder.id))
                    elif isinstance(holder, ast.Attribute):
                        yield _Lookup(source, loop, node, (source.path, "self", holder.attr))


def _inside_own(function: ast.AST, loop: Loop) -> bool:
    return any(node is loop.inside for node in _own(function))


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
    for node in ast.walk(loop.inside):
        if isinstance(node, ast.Assign) and any(
            isinstance(part, ast.Name) and part.id in made for part in ast.walk(node.value)
        ):
            made |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    return any(isinstance(part, ast.Name) and part.id in made for part in ast.walk(key))


def _asked(lookup: _Lookup, names: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    """Each name that comes by the lookup, with the key that is asked for. Raises UnsureError."""
    assert lookup.source.tree is not None
    for name, met in rounds(lookup.loop, names, constants(lookup.source.tree)):
        for one in met:
            if one.node is lookup.call:
                key = evaluate(lookup.call.args[0], one.env)
                if isinstance(key, str):
                    yield name, key


def _stored(
    bundle: Bundle, trees: list[Source], same: _Names, lookup: _Lookup, names: tuple[str, ...]
) -> _Stored:
    """Everything put under a key into the dict that the lookup asks."""
    found = _Stored()
    wanted = same.find(lookup.holder)
    for source in trees:
        for function_name, function in _functions(source):
            named = list(loops(function))
            for node in _own(function):
                for target, key in _puts(node):
                    variable = _variable(source, function_name, target)
                    if variable is None or same.find(variable) != wanted:
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
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        if node.func.attr in ("update", "setdefault") and node.args:
            yield node.func.value, node.args[0]


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
        if _copies(key):
            return
        loop = next((loop for loop in named if loop.inside is key), None)
        key = key.key
    else:
        loop = next((loop for loop in named if any(inner is node for inner in ast.walk(loop.inside))), None)
    if loop is None or not loop.name:
        found.unsure = True
        return
    found.places.append(bundle.place(source.path, getattr(node, "lineno", 0), "stores under this name"))
    for _, met in rounds(loop, names, constants(source.tree)):
        for one in met:
            if one.node is key:
                try:
                    made = evaluate(key, one.env)
                except UnsureError:
                    found.unsure = True
                    return
                found.keys.add(str(made))


def _copies(node: ast.DictComp) -> bool:
    """`{k: f(v) for k, v in other.items()}` keeps the keys of another dict."""
    part = node.generators[0]
    return (
        isinstance(part.iter, ast.Call)
        and isinstance(part.iter.func, ast.Attribute)
        and part.iter.func.attr == "items"
        and isinstance(part.target, ast.Tuple)
        and isinstance(node.key, ast.Name)
        and isinstance(part.target.elts[0], ast.Name)
        and part.target.elts[0].id == node.key.id
    )


def _variable(source: Source, function: str, node: ast.AST | None) -> _Variable | None:
    if isinstance(node, ast.Name):
        return source.path, function, node.id
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "self":
        return source.path, "self", node.attr
    return None


def _aliases(trees: list[Source]) -> _Names:
    """Which variables are bound to the same dict, or to one with the same keys."""
    same = _Names()
    defined: dict[str, list[tuple[Source, _Function]]] = {}
    for source in trees:
        for _, node in _functions(source):
            if isinstance(node, _Function):
                defined.setdefault(node.name, []).append((source, node))
    for source in trees:
        for name, function in _functions(source):
            for node in _own(function):
                _join(same, source, name, node, defined)
    return same


def _join(
    same: _Names,
    source: Source,
    function: str,
    node: ast.AST,
    defined: dict[str, list[tuple[Source, _Function]]],
) -> None:
    if isinstance(node, ast.Assign | ast.AnnAssign):
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        for target in targets:
            one = _variable(source, function, target)
            if one is not None and node.value is not None:
                for other in _came_from(source, function, node.value, defined):
                    same.same(one, other)
    if isinstance(node, ast.Return) and node.value is not None:
        for other in _came_from(source, function, node.value, defined):
            same.same((source.path, function, "return"), other)
    if isinstance(node, ast.Call):
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        for other_source, called in defined.get(name, ()):
            parameters = [argument.arg for argument in (*called.args.posonlyargs, *called.args.args)]
            if parameters[:1] == ["self"]:
                parameters = parameters[1:]
            given: list[tuple[str, Any]] = list(zip(parameters, node.args, strict=False))
            given += [(keyword.arg or "", keyword.value) for keyword in node.keywords]
            for parameter, argument in given:
                variable = _variable(source, function, argument)
                if variable is not None and parameter:
                    same.same(variable, (other_source.path, called.name, parameter))


def _came_from(
    source: Source, function: str, node: ast.expr, defined: dict[str, list[tuple[Source, _Function]]]
) -> Iterator[_Variable]:
    """The variables that an expression hands on, or whose keys it keeps."""
    variable = _variable(source, function, node)
    if variable is not None:
        yield variable
    elif isinstance(node, ast.DictComp) and _copies(node):
        call = node.generators[0].iter
        assert isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute)
        holder = _variable(source, function, call.func.value)
        if holder is not None:
            yield holder
    elif isinstance(node, ast.Call):
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        for other_source, called in defined.get(name, ()):
            yield other_source.path, called.name, "return"
        if name in ("dict", "copy", "deepcopy") and node.args:
            yield from _came_from(source, function, node.args[0], defined)
