"""Integrity: the search and the choice of the best can find what they look for, alike for every method."""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

from labgate.bundle import BrokenFileError, Bundle, Source
from labgate.bundle.promise import role_of
from labgate.checks import Answers, check
from labgate.compose import Compositions
from labgate.contract import Contract
from labgate.criteria._samples import reached
from labgate.finding import Evidence, Impact, cannot_tell, failed, passed, remarked
from labgate.flow import Flow
from labgate.flow.events import Call, evidence
from labgate.flow.values import External, Known, options

_HIGHER = re.compile(
    r"(^|_)(acc|accuracy|f1|mcc|auc|auroc|bleu|rouge\w*|em|exact_match|reward|r2|map|iou)(_|$)"
)
_LOWER = re.compile(r"(^|_)(loss|nll|perplexity|ppl|mse|mae|rmse|wer|cer|fid|error|err)(_|$)")
_ALIKE = re.compile(
    r"(identical|same|equal|matched)\s+(?:[\w-]+\s+){0,3}?(hyper-?parameters?|search budget|tuning budget|"
    r"search space|number of trials|optimi[sz]ation settings)",
    re.IGNORECASE,
)
_AMONG = re.compile(
    r"baselines?\b|\b(all|both|every|each) (methods?|runs?|models?|variants?)|across|compar", re.IGNORECASE
)
_ELSEWHERE = re.compile(r"\W*(to|as|from|of)\b[^.]{0,30}(paper|original|prior|previous)", re.IGNORECASE)
_Function = ast.FunctionDef | ast.AsyncFunctionDef


def _wanted(node: ast.expr | None) -> str:
    """`maximize` or `minimize`, by the name of what is handed back; "" when it says neither, or is computed."""
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

    A study that minimises accuracy picks the worst trial; one whose objective gives a constant picks the first.
    Both run to the end and look like a search.

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
                *_returns(bundle, call),
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
        wants = {_wanted(node.value) for _, node in _return_statements(bundle, call)}
        if len(said) == 1 and len(wants) == 1 and wants <= {"maximize", "minimize"} and said != wants:
            wrong = True
            told = "" if direction else " (which is Optuna's default)"
            yield failed(
                f"the study is told to {said.pop()}{told} a value that is better when it is "
                f"{'higher' if wants == {'maximize'} else 'lower'}",
                evidence(bundle, made.place, "makes the study"),
                *_returns(bundle, call),
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


def _return_statements(bundle: Bundle, call: Call) -> Iterator[tuple[Source, ast.Return]]:
    """Where the objective that is handed to `optimize` hands back its value."""
    source = bundle.sources.get(call.place.path)
    given = call.node.args[0] if call.node is not None and call.node.args else None
    name = getattr(given, "id", "")
    if isinstance(given, ast.Lambda):
        body = given.body
        name = getattr(body.func, "id", "") if isinstance(body, ast.Call) else ""
        if not name and source is not None:
            yield source, ast.copy_location(ast.Return(body), body)
    if source is None or source.tree is None or not name:
        return
    for node in ast.walk(source.tree):
        if isinstance(node, _Function) and node.name == name:
            nested = [inner for part in node.body for inner in ast.walk(part) if isinstance(inner, _Function)]
            hidden = {id(inner) for function in nested for inner in ast.walk(function)}
            for inner in ast.walk(node):
                if isinstance(inner, ast.Return) and id(inner) not in hidden:
                    yield source, inner


def _returns(bundle: Bundle, call: Call) -> list[Evidence]:
    return [
        bundle.place(s.path, node.lineno, "the objective's value")
        for s, node in _return_statements(bundle, call)
    ]


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


# -- what the run configs let each method search


@check("integrity.fair-comparison", impact=Impact.REMARKS)
def every_method_searches_as_much(bundle: Bundle, contract: Contract, compositions: Compositions) -> Answers:
    """Proposed and baseline get as many trials, and the same ranges for what they share.

    The method with more trials, or a range that fits it better, wins by the search. Where the design promises
    equal hyper-parameters, that is no longer the experiment that was promised.

    Bad:
        trials = {"proposed": 30, "baseline": 20}
    Good:
        trials = {"proposed": 30, "baseline": 30}
    """
    runs = {run: path for run, path in compositions.run_paths.items() if path}
    values = {
        run: value for run, path in runs.items() if (value := _mapping(compositions.bundle, path)) is not None
    }
    roles = {run: _role(bundle, run, value) for run, value in values.items()}
    pairs = [
        (ours, theirs)
        for ours in values
        for theirs in values
        if roles[ours] == "proposed" and roles[theirs] == "baseline" and _comparable(values, ours, theirs)
    ]
    if not pairs:
        yield cannot_tell("no proposed run and baseline with the same model and data set are known")
        return
    promised = _promise(bundle)
    equal = True
    met: set[tuple[str, ...]] = set()
    for ours, theirs in pairs:
        differences = list(_differences(values[ours], values[theirs]))
        kind = tuple(says for says, _ in differences)
        if not differences or kind in met:
            continue
        met.add(kind)
        equal = False
        places = [
            compositions.bundle.place(
                runs[run], compositions.bundle.key_line(runs[run], *keys), f"of {run[:40]}"
            )
            for _, keys in differences
            for run in (ours, theirs)
        ]
        yield (failed if promised else remarked)(
            f"the search is not alike: {'; '.join(kind)}",
            *dict.fromkeys(places),
            *promised,
            do="give every run the same n_trials, and the same range for a hyper-parameter that they share",
            **({"impact": Impact.MISLEADS} if promised else {}),
        )
    if equal:
        ours, theirs = pairs[0]
        yield passed(
            "proposed and baseline search alike",
            *(
                compositions.bundle.place(runs[run], compositions.bundle.key_line(runs[run], "optuna"))
                for run in pairs[0]
            ),
        )


def _role(bundle: Bundle, run: str, value: Mapping[str, Any]) -> str | None:
    promised = bundle.promise.run(run) if bundle.promise is not None else None
    return (promised.role if promised else None) or role_of(run, str(value.get("method", "")))


def _comparable(values: Mapping[str, Mapping[str, Any]], one: str, other: str) -> bool:
    def about(run: str, key: str) -> Any:
        part = values[run].get(key)
        return part.get("name") if isinstance(part, Mapping) else part

    return all(about(one, key) == about(other, key) for key in ("model", "dataset"))


def _promise(bundle: Bundle) -> list[Evidence]:
    """Where the design promises equal settings."""
    promise = bundle.promise
    if promise is None:
        return []
    for text in (promise.design, promise.method, promise.hypothesis):
        for found in _ALIKE.finditer(text):
            around = text[max(0, found.start() - 80) : found.end() + 60]
            if _AMONG.search(around) and not _ELSEWHERE.match(text, found.end()):
                quote = " ".join(text[max(0, found.start() - 40) : found.end() + 40].split())
                return [Evidence(promise.origin or "promise", 0, quote, "promises them equal")]
    return []


def _differences(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> Iterator[tuple[str, tuple[str, ...]]]:
    """What the searches of two runs do not share, each with the key."""
    one, other = _optuna(ours), _optuna(theirs)
    if one is None or other is None:
        return
    mine, others = one.get("n_trials"), other.get("n_trials")
    if isinstance(mine, int) and isinstance(others, int) and mine != others:
        yield f"{mine} against {others} trials", ("optuna", "n_trials")
    for space in ("search_space", "search_spaces"):
        left, right = one.get(space), other.get(space)
        if not isinstance(left, Mapping) or not isinstance(right, Mapping):
            continue
        for key in {**left, **right}:
            where = ("optuna", space, str(key))
            if key in left and key in right:
                if left[key] != right[key]:
                    yield f"{key} from {_range(left[key])} against {_range(right[key])}", where
            elif _shared(ours, str(key)) and _shared(theirs, str(key)):
                yield f"{key} is searched for the {'proposed' if key in left else 'baseline'} alone", where


def _optuna(value: Mapping[str, Any]) -> Mapping[str, Any] | None:
    found = value.get("optuna")
    return found if isinstance(found, Mapping) else None


def _range(space: object) -> str:
    if isinstance(space, Mapping):
        if "choices" in space:
            return str(space["choices"])
        return f"{space.get('low')}…{space.get('high')}"
    return str(space)


def _shared(value: Mapping[str, Any], key: str) -> bool:
    """Whether a run has that hyper-parameter at all, by its path or in its training section."""
    part: object = value
    for step in key.split("."):
        part = part.get(step) if isinstance(part, Mapping) else None
    training = value.get("training")
    return part is not None or (isinstance(training, Mapping) and key in training)


def _mapping(bundle: Bundle, path: str) -> Mapping[str, Any] | None:
    try:
        value = bundle.yaml(path)
    except BrokenFileError:
        return None
    return value if isinstance(value, Mapping) else None


@check("integrity.fair-comparison", impact=Impact.REMARKS)
def more_than_one_seed_is_run(bundle: Bundle, contract: Contract, compositions: Compositions) -> Answers:
    """A comparison rests on more than one seed.

    Two runs of the same method differ by the seed alone, often by more than two methods do.

    Bad:
        seeds = [42]
    Good:
        seeds = [0, 1, 2]
    """
    runs = {run: path for run, path in compositions.run_paths.items() if path}
    seeds: dict[str, tuple[object, str, tuple[str, ...]]] = {}
    for run, path in runs.items():
        value = _mapping(compositions.bundle, path) or {}
        for keys, found in _leaves(value):
            if keys[-1] in ("seeds", "seed_list", "num_seeds", "n_seeds", "repeats", "num_runs"):
                yield passed(
                    "several seeds are run",
                    compositions.bundle.place(path, compositions.bundle.key_line(path, *keys)),
                )
                return
            if keys[-1] == "seed":
                seeds[run] = (found, path, keys)
    if not seeds:
        yield cannot_tell("no run config names a seed")
    elif len({str(seed) for seed, _, _ in seeds.values()}) == 1:
        places = [
            compositions.bundle.place(p, compositions.bundle.key_line(p, *keys))
            for _, p, keys in seeds.values()
        ]
        seed = next(iter(seeds.values()))[0]
        yield remarked(
            f"every run has one seed, {seed}", *places[:2], do="run several seeds, and report their spread"
        )
    else:
        yield passed("the runs differ in their seeds")


def _leaves(
    value: Mapping[str, Any], above: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], object]]:
    for key, part in value.items():
        if isinstance(part, Mapping):
            yield from _leaves(part, (*above, str(key)))
        else:
            yield (*above, str(key)), part


# -- keeping the best


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
        for function in ast.walk(source.tree):
            if not isinstance(function, _Function):
                continue
            for test, name, lower, kept in _comparisons(function):
                start = _start(function, name)
                if start is None:
                    continue
                place = bundle.place(source.path, test.lineno, "compares with it")
                if _stuck(start[0], lower, kept):
                    wrong = True
                    yield failed(
                        f"{name} starts at {start[0]}, and no {kept or 'value'} is ever {'less' if lower else 'more'}",
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
    for node in ast.walk(function):
        if not isinstance(node, ast.If) or not isinstance(node.test, ast.Compare) or len(node.test.ops) != 1:
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
    for node in ast.walk(function):
        if isinstance(node, ast.Assign) and any(
            isinstance(t, ast.Name) and t.id == name for t in node.targets
        ):
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
