"""Integrity: the search and the choice of the best can find what they look for, alike for every method."""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Iterator

from labgate.bundle import Bundle
from labgate.bundle.syntax import FUNCTIONS, every
from labgate.checks import Answers, check
from labgate.contract import Contract
from labgate.criteria._objectives import return_statements, returns
from labgate.criteria._samples import reached
from labgate.finding import Evidence, Impact, cannot_tell, failed, passed, remarked
from labgate.flow import Flow
from labgate.flow.events import Call, evidence
from labgate.flow.values import External, Known, options

_HIGHER = re.compile(
    r"(^|_)(acc|accuracy|f1|mcc|auc|auroc|bleu|rouge\w*|em|exact_match|reward|r2|map|iou)(_|$)"
)
_LOWER = re.compile(r"(^|_)(loss|nll|perplexity|ppl|mse|mae|rmse|wer|cer|fid|error|err)(_|$)")
_Function = ast.FunctionDef | ast.AsyncFunctionDef


def _wanted(node: ast.expr | None) -> str:
    """`maximize` or `minimize`, by the name of what is handed back; "" when it says neither."""
    if (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "float"
        and node.args
    ):
        node = node.args[0]
    if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant):
        name = str(node.slice.value)
    elif isinstance(node, ast.Attribute):
        name = node.attr
    else:
        name = getattr(node, "id", "")
    name = name.lower()
    up, down = _HIGHER.search(name), _LOWER.search(name)
    return "" if bool(up) == bool(down) else ("maximize" if up else "minimize")


def _searches(flow: Flow, contract: Contract) -> Iterator[tuple[Call, Call]]:
    """Each search that is run in full, with the call that made its study."""
    met: set[tuple[str, int]] = set()
    for walk in flow.training:
        if walk.mode != contract.full.name:
            continue
        for call in walk.of(Call):
            if not call.path.endswith("create_study().optimize") or not reached(call):
                continue
            study = call.of
            while isinstance(study, External) and study.call is None:
                study = study.base
            made = study.call if isinstance(study, External) else None
            if made is not None and call.gave and (call.place.path, call.place.line) not in met:
                met.add((call.place.path, call.place.line))
                yield call, made


@check("integrity.search-can-find", impact=Impact.MISLEADS)
def the_search_looks_for_the_better(bundle: Bundle, contract: Contract, flow: Flow) -> Answers:
    """The objective measures something, and the study's direction is that of the better.

    A study that minimises accuracy picks the worst trial; one whose objective gives a constant picks the
    first. Both run to the end and look like a search.

    Bad:
        study = optuna.create_study(direction="minimize")
        study.optimize(lambda trial: train(trial)["val_accuracy"], n_trials=20)
    Good:
        study = optuna.create_study(direction="maximize")
        study.optimize(lambda trial: train(trial)["val_accuracy"], n_trials=20)
    """
    fine: list[Evidence] = []
    wrong = False
    for call, made in _searches(flow, contract):
        here = evidence(bundle, call.place, "runs the search")
        constant = [value for value in call.gave if isinstance(value, Known)]
        if constant and len(constant) == len(call.gave) and call.certain:
            wrong = True
            yield failed(
                f"the objective gives {constant[0].value!r} in every trial, so the search chooses nothing",
                *returns(bundle, call),
                here,
                do="hand back the metric that the trial measured",
            )
            continue
        direction = made.argument(None, "direction")
        said = (
            {str(o.value).lower() for o in options(direction) if isinstance(o, Known)}
            if direction
            else {"minimize"}
        )
        wants = {_wanted(node.value) for _, node in return_statements(bundle, call)}
        if len(said) == 1 and len(wants) == 1 and wants <= {"maximize", "minimize"} and said != wants:
            wrong = True
            told = "" if direction else " (which is Optuna's default)"
            yield failed(
                f"the study is told to {said.pop()}{told} a value that is better when it is "
                f"{'higher' if wants == {'maximize'} else 'lower'}",
                evidence(bundle, made.place, "makes the study"),
                *returns(bundle, call),
                do=f'write direction="{wants.pop()}"',
            )
            continue
        fine.append(here)
    if fine:
        yield passed("the search's objective is measured, and its direction does not contradict it", *fine)
    elif not wrong:
        truncated = any(walk.truncated for walk in flow.training)
        yield (
            cannot_tell("the training could not be followed") if truncated else passed("nothing is searched")
        )


@check("integrity.search-can-find", impact=Impact.REMARKS)
def the_search_is_seeded(bundle: Bundle, contract: Contract, flow: Flow) -> Answers:
    """The sampler of a study has a seed.

    Without one, the same command chooses other hyper-parameters each time, and nobody can repeat the result.

    Bad:
        study = optuna.create_study(direction="maximize")
    Good:
        study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=seed))
    """
    found = list(_searches(flow, contract))
    if not found:
        yield passed("nothing is searched")
    for _, made in found:
        sampler = made.argument(1, "sampler")
        calls = [o.call for o in options(sampler) if isinstance(o, External) and o.call] if sampler else []
        seeded = [
            c for c in calls if c.argument(None, "seed") is not None or "Grid" in c.path or "Brute" in c.path
        ]
        here = evidence(bundle, made.place, "makes the study")
        if seeded and len(seeded) == len(calls):
            yield passed("the search is seeded", here)
        elif sampler is not None and not calls and not isinstance(sampler, Known):
            yield cannot_tell("where the sampler comes from is not settled by reading", here)
        else:
            yield remarked(
                "the search has no seed, so another run chooses other hyper-parameters",
                here,
                do="pass sampler=optuna.samplers.TPESampler(seed=cfg.training.seed)",
            )


@check("integrity.search-can-find", impact=Impact.MISLEADS)
def the_best_can_change(bundle: Bundle, contract: Contract) -> Answers:
    """The first value that `best` is compared with lets a real one be better.

    With `best_loss = 0.0` and `if loss < best_loss`, no epoch is ever the best: nothing is saved, and the
    summary shows the start value.

    Bad:
        best_loss = float("-inf")
        for epoch in range(epochs):
            if loss < best_loss:
                best_loss = loss
    Good:
        best_loss = float("inf")
        for epoch in range(epochs):
            if loss < best_loss:
                best_loss = loss
    """
    fine: list[Evidence] = []
    wrong = False
    for source in bundle.sources.values():
        if source.tree is None or not source.path.startswith("src/"):
            continue
        for function in every(source.tree, *FUNCTIONS):
            for test, name, lower, kept in _comparisons(function):
                start = _start(function, name)
                if start is None:
                    continue
                place = bundle.place(source.path, test.lineno, "compares with it")
                if _stuck(start[0], lower, kept):
                    wrong = True
                    yield failed(
                        f"{name} starts at {start[0]}, and no {kept or 'value'} is"
                        f" ever {'less' if lower else 'more'}",
                        bundle.place(source.path, start[1], "starts it"),
                        place,
                        do=f'start it at float("{"" if lower else "-"}inf")',
                    )
                else:
                    fine.append(place)
    if not wrong:
        yield passed("what is kept as the best can change", *fine[:2])


def _comparisons(function: _Function) -> Iterator[tuple[ast.Compare, str, bool, str]]:
    """`if value < best:` … `best = value`: the test, `best`, whether less is better, and the value's name."""
    for node in every(function, ast.If):
        if not isinstance(node.test, ast.Compare) or len(node.test.ops) != 1:
            continue
        op, left, right = node.test.ops[0], node.test.left, node.test.comparators[0]
        if not isinstance(op, ast.Lt | ast.Gt | ast.LtE | ast.GtE):
            continue
        less = isinstance(op, ast.Lt | ast.LtE)
        for best, value, lower in ((right, left, less), (left, right, not less)):
            if isinstance(best, ast.Name) and any(_sets(part, best.id, value) for part in node.body):
                yield node.test, best.id, lower, getattr(value, "id", "")


def _sets(node: ast.stmt, name: str, value: ast.expr) -> bool:
    return (
        isinstance(node, ast.Assign)
        and any(isinstance(target, ast.Name) and target.id == name for target in node.targets)
        and ast.dump(node.value) == ast.dump(value)
    )


def _start(function: _Function, name: str) -> tuple[float, int] | None:
    """The number that `name` starts with, when all other assignments only keep a better one."""
    found: list[tuple[float, int]] = []
    for node in every(function, ast.Assign):
        if any(isinstance(t, ast.Name) and t.id == name for t in node.targets):
            number = _number(node.value)
            if number is not None:
                found.append((number, node.lineno))
    return found[0] if len(found) == 1 else None


def _number(node: ast.expr) -> float | None:
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        inner = _number(node.operand)
        return None if inner is None else -inner
    if (
        isinstance(node, ast.Constant)
        and isinstance(node.value, int | float)
        and not isinstance(node.value, bool)
    ):
        return float(node.value)
    if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "float" and node.args:
        given = node.args[0]
        if isinstance(given, ast.Constant) and str(given.value).strip("+-").lower() in ("inf", "infinity"):
            return -math.inf if str(given.value).startswith("-") else math.inf
    if isinstance(node, ast.Attribute) and node.attr == "inf":
        return math.inf
    return None


def _stuck(start: float, lower: bool, value: str) -> bool:
    """Whether nothing real is better than `start`."""
    if math.isinf(start):
        return lower is (start < 0)
    bounded = _HIGHER.search(value.lower()) is not None and "reward" not in value and "r2" not in value
    if lower:
        return (
            start <= 0
            and re.search(r"(^|_)(loss|perplexity|ppl|mse|mae|rmse|wer|cer|error)(_|$)", value.lower())
            is not None
        )
    return bounded and start >= 100
