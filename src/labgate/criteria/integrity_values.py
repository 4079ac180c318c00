"""Integrity: every number that is reported or drawn was measured."""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Iterator

from labgate.bundle import Bundle
from labgate.bundle.syntax import walked
from labgate.checks import Answers, check
from labgate.contract import Contract
from labgate.criteria._samples import reached
from labgate.criteria._scores import SCORES, root
from labgate.finding import Answer, Impact, cannot_tell, failed, passed, remarked
from labgate.flow import Flow
from labgate.flow.events import Call, evidence
from labgate.flow.values import External, Known, OneOf, Seq, Value, options, sources

_DRAWS = frozenset(
    ("plot", "bar", "barh", "hist", "boxplot", "violinplot", "fill_between", "errorbar", "step")
)
_MATRICES = frozenset(("heatmap", "imshow", "matshow", "ConfusionMatrixDisplay", "pcolormesh"))
_NOISE = re.compile(
    r"^(numpy\.random\.(default_rng\(\)\.|RandomState\(\)\.)?"
    r"(rand|randn|randint|random|random_sample|normal|uniform|standard_normal|integers|beta|binomial|poisson)"
    r"|random\.(random|uniform|gauss|randint|betavariate)|torch\.(rand|randn|randint|normal))\(\)$"
)
_SHAPING = frozenset(
    [
        "array",
        "asarray",
        "clip",
        "list",
        "tuple",
        "astype",
        "tolist",
        "round",
        "cumsum",
        "sort",
        "sorted",
        "abs",
        "flatten",
        "reshape",
        "ravel",
        "float",
        "int",
        "numpy",
        "cpu",
        "copy",
        "deepcopy",
        "DataFrame",
        "Series",
        "mean",
        "std",
        "sum",
    ]
)
_METRIC = re.compile(
    r"(^|[_/.\s-])(acc|accuracy|f1|mcc|auc|auroc|bleu|rouge\w*|em|exact_match|score|loss|perplexity|ppl|mse|mae"
    r"|rmse|wer|precision|recall|reward|r2|iou|map|metric)($|[_/.\s-])",
    re.IGNORECASE,
)


def _evaluation_calls(flow: Flow) -> Iterator[Call]:
    for walk in flow.evaluation:
        for call in walk.of(Call):
            if reached(call):
                yield call


def _noise_in(value: Value, depth: int = 10) -> External | None:
    """The call that made a value up, when nothing measured went into it but as its scale."""
    if depth <= 0:
        return None
    if isinstance(value, OneOf):
        return next((found for option in value.options if (found := _noise_in(option, depth - 1))), None)
    if isinstance(value, Seq):
        return _noise_in(value.items[0], depth - 1) if len(value.items) == 1 else None
    if not isinstance(value, External):
        return None
    if _NOISE.match(value.path):
        return value
    name = value.path.removesuffix("()").rpartition(".")[2]
    if value.call is None or name not in _SHAPING:
        return None
    if value.call.args and isinstance(value.base, External) and "(" not in value.base.path:
        return _noise_in(value.call.args[0], depth - 1)
    return _noise_in(value.base, depth - 1) if value.base is not None else None


def _shown(call: Call) -> Iterator[Value]:
    """The arguments by which a call tests, scores, draws or writes values."""
    tail = call.path.rpartition(".")[2]
    tests = call.path.startswith("scipy.stats.") and tail[:1].islower()
    if tests or SCORES.match(call.path):
        yield from call.args[:2]
    elif tail in _MATRICES:
        yield from call.args[:1]
    elif tail in _DRAWS and ("matplotlib" in call.path or "subplots" in call.path):
        yield from call.args[1:2] if len(call.args) > 1 and tail not in ("hist", "boxplot") else call.args[:1]
    elif call.path in ("json.dump", "json.dumps"):
        yield from call.args[:1]


@check("integrity.no-fabricated-values", impact=Impact.MISLEADS)
def nothing_shown_is_random(bundle: Bundle, contract: Contract, flow: Flow) -> Answers:
    """No number that the evaluation tests, draws or writes comes from a random generator.

    Drawing again from what was measured, for a bootstrap, is no invention; drawing results is. Code that
    makes up what is missing, so that the figure exists, gives one that nobody can tell from a true one.

    Bad:
        correct = np.random.randint(0, 2, size=100)
        p_value = scipy.stats.binomtest(correct.sum(), 100).pvalue
    Good:
        correct = np.array(predictions) == np.array(labels)
        p_value = scipy.stats.binomtest(int(correct.sum()), len(correct)).pvalue
    """
    met: dict[tuple[str, int], tuple[Call, External]] = {}
    seen = False
    for call in _evaluation_calls(flow):
        for value in _shown(call):
            seen = True
            made = _noise_in(value)
            if made is not None and made.call is not None:
                met.setdefault((made.call.place.path, made.call.place.line), (call, made))
    for call, made in met.values():
        assert made.call is not None
        yield failed(
            "random numbers stand where measured ones should",
            evidence(bundle, made.call.place, "makes them up"),
            evidence(bundle, call.place, "shows them"),
            do="leave out what was not measured, or end with an error",
        )
    standing_in = [] if met else list(_stand_ins(bundle, contract))
    for test, made_at in standing_in:
        yield failed(
            "where a value is missing, random numbers take its place",
            bundle.place(made_at[0], made_at[1], "makes them up"),
            bundle.place(made_at[0], test, "when this is so"),
            do="leave out what was not measured, or end with an error",
        )
    if not met and not standing_in:
        yield _nothing(flow, seen, "no random number is tested, drawn or written")


def _stand_ins(bundle: Bundle, contract: Contract) -> Iterator[tuple[int, tuple[str, int]]]:
    """Names that one branch of the evaluation takes from what was measured, and another from a generator."""
    source = bundle.module(contract.evaluate_module)
    if source is None or source.tree is None:
        return
    indices = {
        name.id
        for node in walked(source.tree)
        if isinstance(node, ast.Subscript)
        for name in walked(node.slice)
        if isinstance(name, ast.Name)
    }
    for node in walked(source.tree):
        if not isinstance(node, ast.If | ast.Try):
            continue
        branches = [node.body, node.orelse]
        if isinstance(node, ast.Try):
            branches = [node.body, *(handler.body for handler in node.handlers)]
        given = [dict(_assigned(branch)) for branch in branches]
        for one in given:
            for name, value in one.items():
                others = [other[name] for other in given if other is not one and name in other]
                if name not in indices and _made_up(value) and any(not _made_up(other) for other in others):
                    yield node.lineno, (source.path, value.lineno)


def _assigned(body: list[ast.stmt]) -> Iterator[tuple[str, ast.expr]]:
    for statement in body:
        if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name):
            yield statement.targets[0].id, statement.value


def _made_up(node: ast.expr) -> bool:
    """Whether an expression is a call of a random generator, or one shaped or shifted by constants."""
    if isinstance(node, ast.BinOp):
        sides = (node.left, node.right)
        return any(_made_up(side) for side in sides) and all(
            _made_up(side) or isinstance(side, ast.Constant) for side in sides
        )
    if not isinstance(node, ast.Call):
        return False
    name = ast.unparse(node.func)
    if re.fullmatch(
        r"((np|numpy)\.random|random|rng|torch)\.(randint|integers|rand|randn|random|normal|uniform)", name
    ):
        return True
    if isinstance(node.func, ast.Attribute) and node.func.attr in _SHAPING:
        return _made_up(node.func.value) or any(_made_up(part) for part in node.args[:1])
    return False


def _nothing(flow: Flow, seen: bool, says: str) -> Answer:
    if not flow.evaluation or any(walk.truncated for walk in flow.evaluation):
        return cannot_tell("the evaluation could not be followed to its end")
    return passed(says) if seen else cannot_tell("nothing is seen to be shown")


@check("integrity.no-fabricated-values", impact=Impact.MISLEADS)
def what_is_drawn_was_measured(bundle: Bundle, contract: Contract, flow: Flow) -> Answers:
    """No figure shows numbers that are written in the code.

    An identity matrix drawn as a confusion matrix is the claim of a perfect classifier.

    Bad:
        sns.heatmap(np.eye(2), annot=True)
    Good:
        sns.heatmap(confusion_matrix(labels, predictions), annot=True)
    """
    met: dict[tuple[str, int], tuple[Call, str]] = {}
    seen = False
    for call in _evaluation_calls(flow):
        if call.path.rpartition(".")[2] in _MATRICES and call.args:
            seen = True
            for option in options(call.args[0]):
                what = _literal(option)
                if what:
                    met.setdefault((call.place.path, call.place.line), (call, what))
    for call, what in met.values():
        yield failed(
            f"{what} is drawn as if it had been measured",
            evidence(bundle, call.place, "draws it"),
            do="draw what was logged, and nothing where nothing was",
        )
    if not met:
        if any(walk.truncated for walk in flow.evaluation):
            yield cannot_tell("the evaluation could not be followed to its end")
        else:
            yield passed("no matrix is drawn but from values" if seen else "no matrix is drawn")


def _literal(value: Value) -> str:
    """What a matrix of constants is called; "" when a value is none."""
    value = root(value)
    if isinstance(value, External) and value.path in ("numpy.eye()", "numpy.identity()"):
        return "an identity matrix"
    if isinstance(value, Seq) and not value.open and len(value.items) > 1:
        rows = [row for row in value.items if isinstance(row, Seq) and not row.open and row.items]
        cells = [cell for row in rows for cell in row.items]
        numbers = [c.value for c in cells if isinstance(c, Known) and isinstance(c.value, int | float)]
        if len(rows) == len(value.items) and len(numbers) == len(cells) and any(numbers):
            return "a matrix of constants"
    return ""


@check("integrity.no-fabricated-values", impact=Impact.MISLEADS)
def missing_metrics_stay_missing(bundle: Bundle, contract: Contract, flow: Flow) -> Answers:
    """A metric that was not logged gets no number in its place.

    A default makes the table whole: the method whose run died has 0.93 too, and the comparison goes on.

    Bad:
        accuracy = run.summary.get("test_accuracy", 0.93)
    Good:
        accuracy = run.summary["test_accuracy"]
    """
    invented: dict[tuple[str, int], tuple[Call, str, float]] = {}
    zero: dict[tuple[str, int], tuple[Call, str, float]] = {}
    seen = False
    for call in _evaluation_calls(flow):
        if not call.path.endswith(".get") or not _from_wandb(call):
            continue
        seen = True
        key, default = call.argument(0, "key"), call.argument(1, "default")
        if not isinstance(key, Known) or not isinstance(default, Known) or not _METRIC.search(str(key.value)):
            continue
        number = default.value
        if (
            isinstance(number, bool)
            or not isinstance(number, int | float)
            or not math.isfinite(number)
            or number < 0
        ):
            continue
        (invented if number else zero).setdefault(
            (call.place.path, call.place.line), (call, str(key.value), float(number))
        )
    for call, name, number in invented.values():
        yield failed(
            f"a run that never logged {name!r} counts as {number:g}",
            evidence(bundle, call.place, "puts a number in its place"),
            do="leave it out, or write nan",
        )
    if zero:
        names = ", ".join(dict.fromkeys(key for _, key, _ in zero.values()))
        places = [
            evidence(bundle, call.place, "0 stands for what is missing") for call, _, _ in zero.values()
        ]
        yield remarked(
            f"a run that never logged {names} counts as 0", *places[:6], do="leave it out, or write nan"
        )
    if not invented and not zero:
        if any(walk.truncated for walk in flow.evaluation):
            yield cannot_tell("the evaluation could not be followed to its end")
        else:
            yield passed(
                "no metric has a number to fall back to" if seen else "no metric is asked for with a default"
            )


def _from_wandb(call: Call) -> bool:
    return call.of is not None and any(source.path.startswith("wandb.") for source in sources(call.of))
