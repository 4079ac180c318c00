"""Integrity: data are real: what cannot be loaded ends the run."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from typing import Any

from labgate.bundle import Bundle, Source
from labgate.bundle.syntax import called, children, every, walked
from labgate.checks import Answers, check
from labgate.contract import Contract
from labgate.criteria._samples import reached, splits
from labgate.criteria._training_code import sources_of_training
from labgate.finding import Evidence, Impact, cannot_tell, failed, passed, remarked
from labgate.flow import Flow
from labgate.flow.events import Call, Walk, evidence
from labgate.flow.values import External, Instance, Value, sources

_Function = ast.FunctionDef | ast.AsyncFunctionDef
_Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef

_RANDOM = re.compile(
    r"^(torch\.(randn|rand|randint|normal)(_like)?"
    r"|(np|numpy)\.random\.(randn|rand|randint|random|random_sample|normal|uniform|standard_normal|integers)"
    r"|random\.(random|randint|uniform|gauss|choice|choices)"
    r"|(sklearn\.datasets\.|datasets\.)?make_(classification|blobs|moons|circles|regression)"
    r"|([\w.]+\.)?FakeData|rng\.(normal|uniform|integers|random|standard_normal|choice))$"
)
_CREATES = re.compile(
    r"^(torch\.(randn|rand|randint|normal)(_like)?"
    r"|numpy\.random\.(default_rng\(\)\.)?(randn|rand|randint|random|normal|uniform|standard_normal|integers)"
    r"|sklearn\.datasets\.make_\w+|torchvision\.datasets\.FakeData)(\(\))?$"
)
_NEUTRAL = (
    "torch",
    "numpy",
    "random",
    "builtins",
    "math",
    "torchvision.transforms",
    "PIL.Image.fromarray",
    "typing",
)
_INVENTED = re.compile(r"synthetic|dummy|fake|mock|toy|simulat", re.IGNORECASE)
_DECLARED = re.compile(
    r"synthetic|toy|simulat|artificial|random|gaussian|blobs|moons|mock|dummy", re.IGNORECASE
)
_LOADS = re.compile(
    r"^(load_dataset|load_from_disk|read_csv|read_json|read_parquet|loadtxt|open|urlopen|urlretrieve|fetch_\w+"
    r"|CIFAR\w+|MNIST|\w+MNIST|SVHN|ImageNet|ImageFolder|STL10|Caltech\w+|Food101|snapshot_download|hf_hub_download"
    r"|_?(load|read|download|fetch|get)_\w*(data|split|set|corpus|examples)\w*)$"
)


def _definition(source: Source, name: str) -> _Definition | None:
    assert source.tree is not None
    for node in walked(source.tree):
        if isinstance(node, _Definition) and node.name == name:
            return node
    return None


def _inventions(source: Source, body: list[ast.stmt], depth: int = 3) -> Iterator[ast.Call]:
    """Calls that make up numbers, here or in what is called from here in the same file."""
    for statement in body:
        for node in walked(statement):
            if not isinstance(node, ast.Call):
                continue
            if _RANDOM.match(ast.unparse(node.func)):
                yield node
            elif depth > 0 and (found := _definition(source, called(node))) is not None:
                yield from _inventions(source, found.body, depth - 1)


def _always_leaves(body: list[ast.stmt]) -> bool:
    """Whether a handler ends in an exception, or the end of the process, on every path."""
    if not body:
        return False
    last = body[-1]
    if isinstance(last, ast.Raise):
        return True
    if isinstance(last, ast.Expr) and isinstance(last.value, ast.Call):
        return called(last.value) in ("exit", "_exit", "abort", "error", "Exit", "fail")
    if isinstance(last, ast.If):
        return _always_leaves(last.body) and _always_leaves(last.orelse)
    return False


def _loads(body: list[ast.stmt]) -> Iterator[ast.Call]:
    for statement in body:
        for node in walked(statement):
            if isinstance(node, ast.Call) and _LOADS.match(called(node)):
                yield node


@check("integrity.no-invented-data", "data.no-placeholder-loading", impact=Impact.MISLEADS)
def data_that_cannot_be_had_are_not_invented(bundle: Bundle, contract: Contract, flow: Flow) -> Answers:
    """Where a data set cannot be loaded the run ends; no noise takes its place.

    On a machine without network, a wrong name or a moved data set, the fallback trains on noise, the run ends
    with exit code 0, and its numbers look like the others in the table.

    Bad:
        try:
            data = load_dataset("cifar10")
        except Exception:
            data = TensorDataset(torch.randn(1000, 3, 32, 32), torch.randint(0, 10, (1000,)))
    Good:
        try:
            data = load_dataset("cifar10")
        except OSError as error:
            raise RuntimeError("cifar10 cannot be loaded") from error
    """
    wrong = False
    loading: list[Evidence] = []
    for source in sources_of_training(bundle, contract):
        assert source.tree is not None
        for function, node in _tries(source.tree):
            loads = list(_loads(node.body))
            if not loads:
                continue
            loading.append(bundle.place(source.path, loads[0].lineno, "loads data"))
            for handler, made in _fallbacks(source, node, function):
                wrong = True
                yield failed(
                    "where the data cannot be loaded, invented ones take their place",
                    bundle.place(source.path, loads[0].lineno, "loads the data"),
                    bundle.place(source.path, handler, "goes on without them"),
                    bundle.place(source.path, made.lineno, "makes up others"),
                    do="let the exception end the run",
                )
    found = list(_random_data(bundle, contract, flow))
    for answer in found:
        wrong = True
        yield answer
    if wrong:
        return
    if any(walk.truncated for walk in flow.training):
        yield cannot_tell("the training could not be followed to its end")
    else:
        yield passed("no data are made up", *loading[:2])


def _tries(tree: ast.Module) -> Iterator[tuple[ast.AST, ast.Try]]:
    """Every `try`, with the innermost function that it stands in, or the module."""
    if not every(tree, ast.Try):
        return
    pending: list[tuple[ast.AST, ast.AST]] = [(tree, tree)]
    while pending:
        function, node = pending.pop()
        for child in children(node):
            if isinstance(child, ast.Try):
                yield function, child
            pending.append((child if isinstance(child, _Function) else function, child))


def _fallbacks(source: Source, node: ast.Try, function: ast.AST) -> Iterator[tuple[int, ast.Call]]:
    """Handlers of a `try` that put invented data in place of those that failed to load, and where."""
    flags = {
        target.id
        for statement in node.body
        for part in walked(statement)
        if isinstance(part, ast.Assign)
        for target in part.targets
        if isinstance(target, ast.Name)
    }
    for handler in node.handlers:
        if _always_leaves(handler.body):
            continue
        made = next(_inventions(source, handler.body), None)
        if made is None:
            continue
        if _feeds(source, handler.body):
            yield handler.lineno, made
            return
    if any(not _always_leaves(handler.body) for handler in node.handlers):
        for statement in walked(function):
            later = isinstance(statement, ast.If) and statement.lineno > (node.end_lineno or node.lineno)
            if later and isinstance(statement, ast.If) and _asks_for_failure(statement.test, flags):
                made = next(_inventions(source, statement.body), None)
                if made is not None:
                    yield node.handlers[0].lineno, made
                    return


def _feeds(source: Source, body: list[ast.stmt]) -> bool:
    """Whether what a handler makes is kept: assigned, handed back or added. A random pause is not."""
    for statement in body:
        for node in walked(statement):
            value = getattr(node, "value", None)
            if (
                isinstance(node, ast.Assign | ast.AnnAssign | ast.AugAssign | ast.Return)
                and value is not None
            ) and next(_inventions(source, [ast.Expr(value)]), None) is not None:
                return True
            if isinstance(node, ast.Call) and called(node) in ("append", "extend"):
                given: list[ast.stmt] = [ast.Expr(part) for part in node.args]
                if next(_inventions(source, given), None) is not None:
                    return True
    return False


def _asks_for_failure(test: ast.expr, flags: set[str]) -> bool:
    """`if not loaded`, `if data is None`: for a name that the `try` would have set."""
    if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
        return isinstance(test.operand, ast.Name) and test.operand.id in flags
    if isinstance(test, ast.Compare) and isinstance(test.ops[0], ast.Is):
        return isinstance(test.left, ast.Name) and test.left.id in flags
    return False


def _random_data(bundle: Bundle, contract: Contract, flow: Flow) -> Iterator[Any]:
    """Loaders that are sure to be filled with noise, on the whole run or in the others only."""
    met: dict[tuple[str, int], tuple[Call, External, bool]] = {}
    for walk in flow.training:
        whole = walk.mode == contract.full.name
        for call in walk.of(Call):
            if not call.path.endswith("data.DataLoader") or not reached(call):
                continue
            made = _noise(call)
            if made is None or not call.certain or made.call is None or not made.call.certain:
                continue
            if _declared(bundle, walk, contract):
                continue
            key = (made.call.place.path, made.call.place.line)
            if key not in met or (whole and not met[key][2]):
                met[key] = (call, made, whole)
    told: set[bool] = set()
    for call, made, whole in met.values():
        if whole in told or made.call is None:
            continue
        told.add(whole)
        places = (
            evidence(bundle, made.call.place, "makes up the examples"),
            evidence(bundle, call.place, "loads them"),
        )
        if whole:
            yield failed(
                "the experiment trains on random numbers", *places, do="load the data set that is named"
            )
        elif True not in told:
            yield remarked(
                "the trial trains on random numbers, so it does not show that the data can be loaded",
                *places,
                do="take a few examples of the real data",
            )


def _noise(call: Call) -> External | None:
    """The call that made up a loader's examples, when they hold nothing else."""
    data = call.argument(0, "dataset")
    if data is None or splits(External("loader", None, call)):
        return None
    parts: list[Value] = [data, *call.gave]
    if isinstance(data, Instance):
        parts.extend(data.attrs.values())
    found = [source for part in parts for source in sources(part)]
    if any(not source.path.startswith(_NEUTRAL) for source in found):
        return None
    if any(isinstance(part, Instance) for part in parts[1:]):
        return None
    return next((source for source in found if _CREATES.match(source.path) and source.call is not None), None)


def _declared(bundle: Bundle, walk: Walk, contract: Contract) -> bool:
    """Whether the run's config or the promise says that its data are made up."""
    text = bundle.text(f"{contract.run_folder}/{walk.run_id}.yaml") or ""
    promise = bundle.promise
    promised = " ".join((promise.design, *promise.datasets)) if promise is not None else ""
    return _DECLARED.search(text) is not None or _DECLARED.search(promised) is not None
