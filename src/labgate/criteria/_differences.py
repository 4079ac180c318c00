"""What a run does otherwise in a mode for trying out than in the whole experiment."""

from __future__ import annotations

import ast

from labgate.bundle import Bundle
from labgate.bundle.syntax import walked
from labgate.contract import Contract
from labgate.criteria._training import is_reached
from labgate.finding import Evidence
from labgate.flow import ConfigRead, ConfigWrite, Known, Test, Walk
from labgate.flow.events import Place, evidence


def differences(
    bundle: Bundle, contract: Contract, walk: Walk, whole: Walk
) -> list[tuple[Evidence, int | None]]:
    """What a trial does otherwise than the whole run, besides what the contract lists: (place, number).

    The number is a setting's new value, or one that stands in the branch.
    """
    listed = {key for mode in contract.modes for key in (*mode.sets, *mode.overrides)}
    plain = {key.rpartition(".")[2] for key in listed} | {"mode", "wandb"}
    found: dict[str, tuple[Evidence, int | None]] = {}
    before = {(e.place, e.key, repr(e.value)) for e in whole.of(ConfigWrite)}
    for write in walk.of(ConfigWrite):
        if (write.place, write.key, repr(write.value)) in before or not is_reached(write):
            continue
        if write.key.rpartition(".")[2] in plain or write.key.startswith("wandb."):
            continue
        number = write.value.value if isinstance(write.value, Known) else None
        counts = isinstance(number, int) and ("batch" in write.key or "step" in write.key)
        place = evidence(bundle, write.place, f"sets {write.key} in a trial")
        found[f"{place}{write.key}"] = (place, int(number) if counts and isinstance(number, int) else None)
    came: dict[object, set[bool | None]] = {}
    for test in whole.of(Test):
        came.setdefault((test.place, id(test.node)), set()).add(test.came)
    for test in walk.of(Test):
        if not is_reached(test):
            continue
        if test.came is None and _asks_for_mode(test, contract):
            found[str(test.place)] = (evidence(bundle, test.place, "may go another way in a trial"), None)
        if test.came in came.get((test.place, id(test.node)), ()):
            continue
        keys = {r.key.rpartition(".")[2] for r in walk.of(ConfigRead) if spans(r.place, test.place)}
        if _only_sets(bundle, test, plain) or (keys and keys <= plain - {"mode", "trial_mode"}):
            continue
        place = evidence(bundle, test.place, "goes another way in a trial")
        found[str(place)] = (place, _number_in(bundle, test))
    return list(found.values())


def spans(place: Place, other: Place) -> bool:
    return place.path == other.path and other.line <= place.line <= max(other.line, other.end_line)


def _asks_for_mode(test: Test, contract: Contract) -> bool:
    """Whether an undecided test speaks of a mode: of its name, or of a variable that is called so."""
    words = {mode.name for mode in contract.modes} | {"mode"}
    for node in walked(test.node):
        said = getattr(node, "id", None) or getattr(node, "attr", None) or getattr(node, "value", None)
        if isinstance(said, str) and any(word in said.lower() for word in words):
            return True
    return False


def _statement(bundle: Bundle, test: Test) -> ast.If | ast.IfExp | None:
    source = bundle.sources.get(test.place.path)
    for node in source.nodes if source is not None else ():
        if isinstance(node, ast.If | ast.IfExp) and node.test is test.node:
            return node
    return None


def _only_sets(bundle: Bundle, test: Test, plain: set[str]) -> bool:
    """Whether a branch does nothing but set what the contract lists, raise and print."""
    node = _statement(bundle, test)
    if not isinstance(node, ast.If):
        return False
    for statement in node.body if test.came else node.orelse:
        if isinstance(statement, ast.Raise | ast.Pass):
            continue
        if isinstance(statement, ast.Assign):
            names = {tail(target) for target in statement.targets}
            if names <= plain:
                continue
        if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call):
            call = statement.value
            words = {a.value for a in call.args if isinstance(a, ast.Constant) and isinstance(a.value, str)}
            if tail(call.func) in ("print", "info", "set_struct") or any(
                w.rpartition(".")[2] in plain for w in words
            ):
                continue
        return False
    return True


def tail(node: ast.expr) -> str:
    if isinstance(node, ast.Attribute):
        return node.attr
    if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant):
        return str(node.slice.value)
    return node.id if isinstance(node, ast.Name) else ""


def _number_in(bundle: Bundle, test: Test) -> int | None:
    """The integer that a branch gives to a name that speaks of batches or steps."""
    node = _statement(bundle, test)
    source = bundle.sources.get(test.place.path)
    if isinstance(node, ast.IfExp) and source is not None:
        taken = node.body if test.came else node.orelse
        whole = source.line(node.lineno).lower()
        if (
            isinstance(taken, ast.Constant)
            and isinstance(taken.value, int)
            and ("batch" in whole or "step" in whole)
        ):
            return None if "batch_size" in whole else taken.value
    if isinstance(node, ast.If):
        for statement in node.body if test.came else node.orelse:
            if isinstance(statement, ast.Assign) and isinstance(statement.value, ast.Constant):
                name = tail(statement.targets[0]).lower()
                number = statement.value.value
                if isinstance(number, int) and ("batch" in name or "step" in name) and "size" not in name:
                    return number
    return None
