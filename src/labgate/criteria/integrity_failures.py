"""Integrity: a failure ends the run, and is seen."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from labgate.bundle import Bundle, Source
from labgate.bundle.syntax import called, every, walked
from labgate.checks import Answers, check
from labgate.contract import Contract
from labgate.criteria._training_code import defined, sources_of_training
from labgate.finding import Evidence, Impact, failed, passed, remarked
from labgate.flow import Flow
from labgate.flow.events import Call, Started, Walk, evidence
from labgate.flow.values import Known

_Function = ast.FunctionDef | ast.AsyncFunctionDef


@check("integrity.failures-are-seen", impact=Impact.MISLEADS)
def a_failed_training_ends_the_run(bundle: Bundle, contract: Contract, flow: Flow) -> Answers:
    """When training fails, the command fails.

    Whoever waits for the run looks at its exit code. A broad `except` around the training, or a child whose
    exit code nobody asks for, turns a crash in the first minute into a success without results.

    Bad:
        try:
            train(cfg)
        except Exception as error:
            print(error)
    Good:
        train(cfg)
    """
    wrong = False
    unseen: dict[tuple[str, int], Call] = {}
    seen: list[Evidence] = []
    for walk in flow.training:
        for call, _ in _children(walk):
            told = call.path in ("subprocess.call", "os.system") and _is_statement(bundle, call)
            if told or (call.path == "subprocess.run" and _ignored(bundle, call)):
                unseen.setdefault((call.place.path, call.place.line), call)
            else:
                seen.append(evidence(bundle, call.place, "hands on the child's failure"))
    for call in unseen.values():
        wrong = True
        yield failed(
            "nobody asks for the exit code of the child that trains: where it fails, the command ends with 0",
            evidence(bundle, call.place, "starts it"),
            do="pass check=True",
        )
    for source in sources_of_training(bundle, contract):
        for node in every(source.tree, ast.Try):
            trains = next(_trains(bundle, source, node.body), None)
            if trains is None:
                continue
            for handler in node.handlers:
                if _broad(handler) and not _hands_on(handler):
                    wrong = True
                    yield failed(
                        "an exception of the training is caught, and the run goes on as if it had trained",
                        bundle.place(source.path, handler.lineno, "catches it"),
                        bundle.place(source.path, trains.lineno, "trains"),
                        do="let it end the run, or end with `raise` after what has to be done",
                    )
    if not wrong:
        yield passed("nothing hides a failure of the training", *list(dict.fromkeys(seen))[:2])


def _children(walk: Walk) -> Iterator[tuple[Call, Started]]:
    """Calls that start a module of the bundle as a child."""
    calls: dict[tuple[str, int, int], Call] = {}
    for event in walk.of(Call, Started):
        if isinstance(event, Call):
            if event.path.startswith(("subprocess.", "os.system")):
                calls[event.place.path, event.place.line, event.place.column] = event
        elif event.stack:
            last = event.stack[-1]
            call = calls.get((last.path, last.line, last.column))
            if call is not None:
                yield call, event


def _ignored(bundle: Bundle, call: Call) -> bool:
    """`subprocess.run(…)` without `check=True` whose result nobody looks at."""
    check_ = call.argument(None, "check")
    if call.spread or (check_ is not None and not (isinstance(check_, Known) and not check_.value)):
        return False
    if _is_statement(bundle, call):
        return True
    source = bundle.sources.get(call.place.path)
    if source is None or source.tree is None:
        return False
    for function in walked(source.tree):
        if isinstance(function, _Function | ast.Module):
            for node in walked(function):
                if (
                    isinstance(node, ast.Assign)
                    and node.value is call.node
                    and isinstance(node.targets[0], ast.Name)
                ):
                    name = node.targets[0].id
                    uses = sum(isinstance(n, ast.Name) and n.id == name for n in walked(source.tree))
                    return uses == 1
    return False


def _is_statement(bundle: Bundle, call: Call) -> bool:
    source = bundle.sources.get(call.place.path)
    if source is None or source.tree is None or call.node is None:
        return False
    return any(node.value is call.node for node in every(source.tree, ast.Expr))


def _trains(bundle: Bundle, source: Source, body: list[ast.stmt], depth: int = 3) -> Iterator[ast.Call]:
    """Calls in a block that train: a backward pass, or a function that makes one."""
    for statement in body:
        for node in walked(statement):
            if not isinstance(node, ast.Call):
                continue
            name = called(node)
            words = ast.unparse(node.func).lower() if isinstance(node.func, ast.Attribute) else ""
            if words.endswith(".backward") or ("trainer" in words and words.endswith(".train")):
                yield node
            elif depth > 0 and isinstance(node.func, ast.Name):
                found = defined(bundle, source, name)
                if (
                    found is not None
                    and next(_trains(bundle, found[0], found[1].body, depth - 1), None) is not None
                ):
                    yield node


def _broad(handler: ast.ExceptHandler) -> bool:
    if handler.type is None:
        return True
    kinds = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    return any(
        getattr(kind, "id", getattr(kind, "attr", "")) in ("Exception", "BaseException") for kind in kinds
    )


def _hands_on(handler: ast.ExceptHandler) -> bool:
    """Whether a handler may raise or end the process: then somebody sees it."""
    for statement in handler.body:
        for node in walked(statement):
            if isinstance(node, ast.Raise):
                return True
            if isinstance(node, ast.Call) and called(node) in ("exit", "_exit", "abort", "Exit"):
                return True
    return False


@check("integrity.failures-are-seen", impact=Impact.REMARKS)
def exceptions_are_not_passed_over(bundle: Bundle, contract: Contract) -> Answers:
    """No broad `except` passes over whatever went wrong without a word.

    `except Exception: pass` hides the misspelt name as well as the missing file; examples that fail to load
    vanish from the data set.

    Bad:
        for row in rows:
            try:
                examples.append(parse(row))
            except Exception:
                continue
    Good:
        for row in rows:
            examples.append(parse(row))
    """
    found: list[Evidence] = []
    for source in sources_of_training(bundle, contract):
        for node in every(source.tree, ast.Try):
            if not _is_cleanup(node.body):
                for handler in node.handlers:
                    silent = all(isinstance(part, ast.Pass | ast.Continue) for part in handler.body)
                    if silent and _broad(handler):
                        found.append(bundle.place(source.path, handler.lineno, "passes over every exception"))
    if found:
        yield remarked(
            "exceptions of every kind are passed over without a word",
            *found[:6],
            do="catch the exception that is meant, and say what is left out",
        )
    else:
        yield passed("no exception is passed over without a word")


def _is_cleanup(body: list[ast.stmt]) -> bool:
    """A block that only closes, removes or imports something: what fails there matters to nobody."""
    quiet = (
        "close",
        "finish",
        "shutdown",
        "cleanup",
        "remove",
        "unlink",
        "empty_cache",
        "destroy_process_group",
    )
    for statement in body:
        if isinstance(statement, ast.Import | ast.ImportFrom | ast.Delete):
            continue
        done = statement.value if isinstance(statement, ast.Expr) else None
        name = called(done) if isinstance(done, ast.Call) else ""
        if name not in quiet and not name.startswith(("set_", "seed", "use_")):
            return False
    return True
