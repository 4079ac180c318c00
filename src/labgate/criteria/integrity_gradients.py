"""Integrity: every gradient that is read belongs to this step alone, and has its true size."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator

from labgate.bundle import Bundle, Source
from labgate.bundle.syntax import called, every, walked
from labgate.checks import Answers, check
from labgate.contract import Contract
from labgate.criteria._names import Loop, UnsureError, constants, loops, parameter_names, rounds
from labgate.criteria._optimizers import optimizers
from labgate.criteria._samples import reached
from labgate.criteria._training_code import Function, around, defined, sources_of_training
from labgate.finding import Evidence, Impact, cannot_tell, failed, passed
from labgate.flow import Flow
from labgate.flow.events import Call, evidence
from labgate.flow.values import Known

_CLIPS = ("clip_grad_norm_", "clip_grad_value_")


def _visited(flow: Flow) -> set[tuple[str, int]]:
    return {
        (event.place.path, event.place.line)
        for walk in flow.training
        for event in walk.events
        if reached(event)
    }


def _runs(visited: set[tuple[str, int]], source: Source, node: ast.AST) -> bool:
    first, last = getattr(node, "lineno", 0), getattr(node, "end_lineno", 0)
    return any((source.path, line) in visited for line in range(first, last + 1))


def _calls(tree: ast.AST, *names: str) -> Iterator[ast.Call]:
    """Calls of methods or functions of these names."""
    for node in every(tree, ast.Call):
        if called(node) in names:
            yield node


def _gradient_reads(tree: ast.AST, parameter: str = "") -> Iterator[ast.Attribute]:
    """Where the value of `parameter.grad` is used; asking whether there is one uses nothing of it."""
    idle: set[int] = set()
    for node in every(tree, ast.Assert, ast.Compare, ast.Attribute, ast.If, ast.IfExp):
        if isinstance(node, ast.Assert):
            idle.update(id(inner) for inner in walked(node))
        elif isinstance(node, ast.Compare) and isinstance(node.ops[0], ast.Is | ast.IsNot):
            idle.add(id(node.left))
        elif isinstance(node, ast.Attribute) and node.attr in (
            "zero_",
            "detach_",
            "device",
            "dtype",
            "shape",
        ):
            idle.update(id(inner) for inner in walked(node.value))
        elif isinstance(node, ast.If | ast.IfExp):
            idle.update(id(inner) for inner in walked(node.test))
    for node in every(tree, ast.Attribute):
        if node.attr == "grad" and isinstance(node.ctx, ast.Load):
            holder = node.value
            if id(node) in idle or (
                isinstance(holder, ast.Name) and holder.id in ("torch", "autograd", "jax")
            ):
                continue
            if isinstance(holder, ast.Attribute) and holder.attr == "autograd":
                continue
            if not parameter or (isinstance(holder, ast.Name) and holder.id == parameter):
                yield node


def _clears(tree: ast.AST) -> Iterator[ast.AST]:
    """Where gradients are cleared by another than an optimizer."""
    for call in _calls(tree, "zero_grad"):
        holder = call.func.value if isinstance(call.func, ast.Attribute) else call.func
        if "opt" not in ast.unparse(holder).lower():
            yield call
    for node in every(tree, ast.Assign, ast.Attribute):
        if isinstance(node, ast.Assign):
            if any(isinstance(part, ast.Attribute) and part.attr == "grad" for part in node.targets):
                yield node
        elif node.attr == "zero_" and "grad" in ast.unparse(node.value):
            yield node


@check("integrity.gradients-cleared", impact=Impact.MISLEADS)
def gradients_that_are_read_are_cleared(bundle: Bundle, contract: Contract, flow: Flow) -> Answers:
    """A parameter whose gradient is read is one whose gradient is cleared after each step.

    `optimizer.zero_grad()` clears what the optimizer holds. A weight outside it that requires a gradient adds
    up the gradients of all steps so far, and what is computed from them (importances, norms) is of that sum.

    Bad:
        optimizer = torch.optim.AdamW([p for n, p in model.named_parameters() if "adapter" in n])
        loss.backward()
        scores = {n: p.grad.pow(2).sum() for n, p in model.named_parameters() if "adapter" not in n}
        optimizer.zero_grad()
    Good:
        optimizer = torch.optim.AdamW([p for n, p in model.named_parameters() if "adapter" in n])
        loss.backward()
        scores = {n: p.grad.pow(2).sum() for n, p in model.named_parameters() if "adapter" not in n}
        model.zero_grad()
    """
    trees = list(sources_of_training(bundle, contract))
    steps = [
        (source, call)
        for source in trees
        if source.tree is not None
        for call in _calls(source.tree, "zero_grad")
    ]
    cleared = [
        bundle.place(source.path, getattr(node, "lineno", 0), "clears them")
        for source in trees
        if source.tree is not None
        for node in _clears(source.tree)
    ]
    stepping = _stepping(bundle, flow)
    if stepping and not steps and not cleared:
        yield failed(
            "gradients are never cleared: every step applies the sum of all gradients so far",
            *stepping[:2],
            do="call optimizer.zero_grad() in every step",
        )
        return
    if cleared:
        yield passed("gradients are cleared, those outside the optimizer too", *cleared[:2])
        return
    zeroed = [bundle.place(s.path, call.lineno, "clears what the optimizer holds") for s, call in steps[:2]]
    visited = _visited(flow)
    reads = [
        (source, loop, read)
        for source in trees
        if source.tree is not None
        for loop in loops(source.tree)
        for read in _gradient_reads(loop.inside, loop.parameter)
        if _runs(visited, source, loop.inside)
    ]
    if not reads:
        if stepping:
            yield passed("no gradient is read but by the optimizer, which is cleared", *zeroed)
        else:
            yield cannot_tell("no optimizer step is seen")
        return
    wrapped = "peft" if _uses(flow, "get_peft_model") else ""
    try:
        yield from _stale(bundle, flow, reads, zeroed, parameter_names(wrapped), trees)
    except UnsureError as error:
        place = bundle.place(reads[0][0].path, reads[0][2].lineno, "reads gradients")
        yield cannot_tell(
            f"which parameters this reads and the optimizer holds is not decided by names: {error}", place
        )


def _stale(
    bundle: Bundle,
    flow: Flow,
    reads: list[tuple[Source, Loop, ast.Attribute]],
    zeroed: list[Evidence],
    names: tuple[str, ...],
    trees: list[Source],
) -> Answers:
    held = optimizers(bundle, flow)
    where = [bundle.place(s.path, read.lineno, "reads the gradient") for s, _, read in reads]
    if held is None or not held:
        yield cannot_tell("what the optimizer holds cannot be followed", *where[:1])
        return
    inside: set[str] = set()
    for optimizer in held:
        inside |= optimizer.holds(names)
    requiring, forced = _requiring(bundle, trees, names)
    outside = tuple(name for name in names if name not in inside)
    stale: list[Evidence] = []
    doubtful = False
    for source, loop, read in reads:
        assert source.tree is not None
        for name, met in rounds(loop, outside, constants(source.tree)):
            sure = [one.sure for one in met if read in one.nodes]
            doubtful = doubtful or bool(sure)
            if any(sure) and name in requiring:
                stale.append(
                    bundle.place(source.path, read.lineno, "reads the gradient of weights outside it")
                )
                break
    groups = [
        bundle.place(group.source.path, _line(group.loop.inside), "chooses what the optimizer holds")
        for optimizer in held
        for group in optimizer.groups
    ]
    if stale and forced:
        yield failed(
            "gradients of weights that the optimizer does not hold are read and never cleared:"
            " each step sees the sum of all before",
            *dict.fromkeys(stale),
            *zeroed,
            *forced[:1],
            *groups[:1],
            *held[0].places,
            do="call model.zero_grad() instead of optimizer.zero_grad()",
        )
    elif doubtful:
        yield cannot_tell(
            "weights outside the optimizer may have gradients that nothing clears", *where[:1], *groups[:1]
        )
    else:
        yield passed("every gradient that is read is one that the optimizer clears", *where[:1], *zeroed)


def _line(node: ast.AST) -> int:
    return getattr(node, "lineno", 0)


def _requiring(
    bundle: Bundle, trees: list[Source], names: tuple[str, ...]
) -> tuple[set[str], list[Evidence]]:
    """Names whose parameters are told to require a gradient, and where; none when some are told otherwise."""
    found: set[str] = set()
    places: list[Evidence] = []
    for source in trees:
        assert source.tree is not None
        for loop in loops(source.tree):
            tellings = {node: told for node in walked(loop.inside) if (told := _told(node)) is not None}
            if not tellings:
                continue
            if False in tellings.values():
                return set(), []
            for name, met in rounds(loop, names, constants(source.tree)):
                if any(one.sure and not one.nodes.isdisjoint(tellings) for one in met):
                    found.add(name)
            places += [
                bundle.place(source.path, _line(node), "makes them require a gradient") for node in tellings
            ]
    return found, list(dict.fromkeys(places))


def _told(node: ast.AST) -> bool | None:
    """Whether `node` sets `requires_grad`, and to what."""
    value: ast.expr | None = None
    if isinstance(node, ast.Assign) and len(node.targets) == 1:
        target = node.targets[0]
        if isinstance(target, ast.Attribute) and target.attr == "requires_grad":
            value = node.value
    elif (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == "requires_grad_"
    ):
        value = node.args[0] if node.args else ast.Constant(True)
    if value is None:
        return None
    return value.value is True if isinstance(value, ast.Constant) else False


def _uses(flow: Flow, name: str) -> bool:
    return any(call.path.endswith(f".{name}") for walk in flow.training for call in walk.of(Call))


def _stepping(bundle: Bundle, flow: Flow) -> list[Evidence]:
    """Where an optimizer of torch's takes a step."""
    found = {}
    for walk in flow.training:
        for call in walk.of(Call):
            steps = call.path.startswith("torch.optim.") and call.path.endswith("().step")
            other = "lr_scheduler" in call.path or "swa_utils" in call.path
            if steps and not other and reached(call):
                found[call.place.path, call.place.line] = evidence(bundle, call.place, "takes a step")
    return list(found.values())


@check("integrity.gradients-cleared", impact=Impact.MISLEADS)
def scaled_gradients_are_unscaled_first(bundle: Bundle, contract: Contract, flow: Flow) -> Answers:
    """Gradients of a scaled loss are read, clipped or logged only after `scaler.unscale_(optimizer)`.

    A GradScaler multiplies the loss by 65,536 or so: before `unscale_` every gradient is that much too large,
    clipping clips always, and one overflow leaves inf in whatever adds gradients up.

    Bad:
        scaler.scale(loss).backward()
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        scaler.step(optimizer)
    Good:
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        scaler.step(optimizer)
    """
    scales: dict[tuple[str, int], Call] = {}
    for walk in flow.training:
        for call in walk.of(Call):
            scaled = call.path.endswith("GradScaler().scale") and reached(call) and call.node is not None
            if scaled and _enabled(walk.of(Call)) is not False:
                scales.setdefault((call.place.path, call.place.line), call)
    if not scales:
        yield passed("no gradient is scaled")
        return
    wrong = False
    for call in scales.values():
        source = bundle.sources[call.place.path]
        function = around(source, call.node) if call.node is not None else source.tree
        assert function is not None
        until = _unscaled(function, call.place.line)
        for line, label in _uses_between(bundle, source, function, call.place.end_line, until):
            wrong = True
            yield failed(
                "gradients are used while they are still multiplied by the scaler's factor",
                bundle.place(source.path, line, label),
                evidence(bundle, call.place, "scales them"),
                *([bundle.place(source.path, until, "unscales them, too late")] if until < 10**6 else []),
                do="call scaler.unscale_(optimizer) first; divide weights outside the optimizer by hand",
            )
    if not wrong:
        places = [evidence(bundle, call.place, "scales the gradients") for call in scales.values()]
        yield passed("scaled gradients are not read before they are unscaled", *places[:2])


def _enabled(calls: Iterator[Call]) -> bool | None:
    """Whether the walk's GradScaler is on; None when that depends on something unknown."""
    for call in calls:
        if call.path.endswith(".GradScaler"):
            given = call.argument(None, "enabled")
            if isinstance(given, Known):
                return bool(given.value)
            return True if given is None else None
    return None


def _unscaled(function: ast.AST, line: int) -> int:
    """The first line after `line` that unscales the gradients: by `unscale_`, or by the step itself."""
    lines = []
    for call in _calls(function, "unscale_", "step"):
        holder = ast.unparse(call.func.value).lower() if isinstance(call.func, ast.Attribute) else ""
        if call.lineno > line and ("unscale_" in ast.unparse(call.func) or "scaler" in holder):
            lines.append(call.lineno)
    return min(lines, default=10**6)


def _uses_between(
    bundle: Bundle, source: Source, function: ast.AST, first: int, last: int
) -> Iterator[tuple[int, str]]:
    """Lines after `first` and before `last` that use gradients, or call a function that does."""

    def between(node: ast.AST) -> bool:
        return first < _line(node) < last

    met: set[int] = set()
    for read in _gradient_reads(function):
        if between(read) and read.lineno not in met:
            met.add(read.lineno)
            yield read.lineno, "reads a gradient"
    for call in _calls(function, *_CLIPS):
        if between(call) and call.lineno not in met:
            met.add(call.lineno)
            yield call.lineno, "clips by their size"
    for node in walked(function):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and between(node):
            found = defined(bundle, source, node.func.id)
            if found is not None and node.lineno not in met and _reads_inside(found[1]):
                met.add(node.lineno)
                yield node.lineno, f"{node.func.id} reads gradients"


def _reads_inside(function: Function) -> bool:
    backward: Callable[[ast.AST], bool] = lambda tree: any(_calls(tree, "backward"))  # noqa: E731
    return not backward(function) and (any(_gradient_reads(function)) or any(_calls(function, *_CLIPS)))
