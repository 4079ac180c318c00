"""Integrity: a score compares what was predicted with what is true."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from labgate.bundle import Bundle, Source
from labgate.bundle.syntax import every, walked
from labgate.checks import Answers, check
from labgate.contract import Contract
from labgate.criteria._samples import reached
from labgate.criteria._scores import SAME, SCORES, root
from labgate.finding import Evidence, Impact, failed, passed
from labgate.flow import Flow
from labgate.flow.events import Call, Put, Walk, evidence
from labgate.flow.values import External, Known, OneOf, Seq, Unknown, Value

_TRUTH = re.compile(r"(^|_)(y_?true|trues?|labels?|targets?|golds?|references?|truths?)($|_)", re.IGNORECASE)
_GUESS = re.compile(r"(^|_)(y_?preds?|preds?|predictions?|predicted|y_?hat)($|_)", re.IGNORECASE)


@check("integrity.no-fabricated-values", impact=Impact.MISLEADS)
def predictions_are_compared_with_labels(bundle: Bundle, contract: Contract, flow: Flow) -> Answers:
    """What a score compares are two things: what was predicted, and what is true.

    Labels that were copied from the predictions give a perfect confusion matrix, whatever the model does.

    Bad:
        labels = predictions.copy()
        matrix = confusion_matrix(labels, predictions)
    Good:
        labels = run.summary["test_labels"]
        matrix = confusion_matrix(labels, predictions)
    """
    wrong: set[tuple[str, int]] = set()
    fine: list[Evidence] = []
    for walk in flow.walks:
        for call in walk.of(Call):
            if (
                not SCORES.match(call.path)
                or not reached(call)
                or (call.place.path, call.place.line) in wrong
            ):
                continue
            left = call.argument(0, "y_true", "references")
            right = call.argument(1, "y_pred", "predictions")
            if left is None or right is None:
                continue
            if _identical(left, right) and not _written(walk, left, right):
                wrong.add((call.place.path, call.place.line))
                yield failed(
                    f"{call.path.rpartition('.')[2]} compares a value with itself",
                    evidence(bundle, call.place, "compares"),
                    *_copies(bundle, call.place.path),
                    do="compare the predictions with the labels that were logged",
                )
            else:
                fine.append(evidence(bundle, call.place, "compares"))
    for source in bundle.sources.values():
        if source.tree is None or not source.path.startswith("src/") or wrong:
            continue
        for function, node, names in _labels_from_predictions(source):
            wrong.add((source.path, node.lineno))
            yield failed(
                f"the labels {names[0]} are a copy of the predictions {names[1]}",
                bundle.place(source.path, node.lineno, "copies them"),
                *[bundle.place(source.path, line, "compares them") for line in _compared(function, *names)],
                do="log the labels, and read them back",
            )
    if not wrong:
        yield passed("no score compares a value with itself", *list(dict.fromkeys(fine))[:3])


def _identical(left: Value, right: Value) -> bool:
    one, other = root(left), root(right)
    if isinstance(one, Unknown | OneOf | Known) or isinstance(other, Unknown | OneOf | Known):
        return False
    if isinstance(one, Seq) and isinstance(other, Seq):
        return one is other
    return isinstance(one, External) and one == other and (one is other or not one.path.endswith("[]"))


def _written(walk: Walk, *values: Value) -> bool:
    """Whether items of one of the values were set since it was copied."""
    puts: Iterator[Put] = walk.of(Put)
    return any(put.of == value for put in puts for value in values)


def _copies(bundle: Bundle, path: str) -> list[Evidence]:
    source = bundle.sources.get(path)
    if source is None or source.tree is None:
        return []
    return [bundle.place(path, node.lineno, "copies it") for _, node, _ in _labels_from_predictions(source)]


def _labels_from_predictions(source: Source) -> Iterator[tuple[ast.AST, ast.Assign, tuple[str, str]]]:
    """`labels = predictions.copy()`, left as it is until the two are compared."""
    assert source.tree is not None
    for function in every(source.tree, ast.FunctionDef):
        for node in every(function, ast.Assign):
            if not isinstance(node.targets[0], ast.Name):
                continue
            label, guess = node.targets[0].id, _copied(node.value)
            if not (_TRUTH.search(label) and not _GUESS.search(label) and _GUESS.search(guess)):
                continue
            if _TRUTH.search(guess) or _changed(function, label, node.lineno):
                continue
            if any(True for _ in _compared(function, label, guess)):
                yield function, node, (label, guess)


def _copied(node: ast.expr) -> str:
    """The name that an expression is a copy of."""
    while True:
        if isinstance(node, ast.Name):
            return node.id
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in SAME:
            node = (
                node.args[0]
                if node.args and node.func.attr in ("array", "asarray", "deepcopy")
                else node.func.value
            )
        elif isinstance(node, ast.Call) and getattr(node.func, "id", "") in SAME and node.args:
            node = node.args[0]
        elif isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Slice):
            if node.slice.lower or node.slice.upper or node.slice.step:
                return ""
            node = node.value
        else:
            return ""


def _changed(function: ast.AST, name: str, after: int) -> bool:
    """Whether a name is bound or written to again."""
    for node in walked(function):
        if (
            isinstance(node, ast.Name)
            and node.id == name
            and isinstance(node.ctx, ast.Store)
            and node.lineno > after
        ):
            return True
        if (
            isinstance(node, ast.Subscript)
            and isinstance(node.ctx, ast.Store)
            and getattr(node.value, "id", "") == name
        ):
            return True
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and getattr(node.func.value, "id", "") == name
        ) and node.func.attr in ("append", "extend", "insert", "pop", "sort", "reverse", "shuffle"):
            return True
    return False


def _compared(function: ast.AST, *names: str) -> Iterator[int]:
    """Lines on which a call, or a comparison, takes both names."""
    for node in every(function, ast.Call, ast.Compare):
        parts = node.args if isinstance(node, ast.Call) else [node.left, *node.comparators]
        inside = [{n.id for n in every(part, ast.Name)} for part in parts]
        if all(any(name in part for part in inside) for name in names):
            yield node.lineno
