"""The training of one walk: where it steps, the loops around it, and what ends them early."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property

from labgate.bundle import Bundle, Source
from labgate.flow import Call, ConfigRead, Entered, Known, Test, Walk
from labgate.flow.events import Event, Place

SEARCHES = ("optuna.",)
LISTS_OF_STEPS = ("trange", "range")


@dataclass(frozen=True)
class Loop:
    """A loop around a training step, `depth` calls deep; `step` is the line inside it that leads to the step."""

    source: Source
    node: ast.For | ast.While
    step: int

    @property
    def place(self) -> Place:
        return Place(self.source.path, self.node.lineno)

    @cached_property
    def of_epochs(self) -> bool:
        """Whether a round of it is an epoch, by what it is called."""
        if not isinstance(self.node, ast.For):
            return False
        return "epoch" in (ast.unparse(self.node.target) + ast.unparse(self.node.iter)).lower()


@dataclass(frozen=True)
class Limit:
    """A test that ends a loop around the step after `batches` rounds; None when the number is not known."""

    test: Test
    loop: Loop
    batches: int | None


@dataclass
class Training:
    """The steps of one walk that belong to its search of hyper-parameters, or those that do not."""

    bundle: Bundle
    walk: Walk
    searching: bool
    steps: list[Call] = field(default_factory=list)

    @cached_property
    def loops(self) -> list[Loop]:
        """The loops around the first step, the outermost first."""
        if not self.steps:
            return []
        found = []
        for frame in (*self.steps[0].stack, self.steps[0].place):
            source = self.bundle.sources.get(frame.path)
            if source is not None and frame.line:
                found += [Loop(source, node, frame.line) for node in _around(source, frame.line)]
        return found

    def inside(self, event: Event) -> bool:
        """Whether an event belongs to this training, and not to the search, or the other way round."""
        return in_search(self.walk, event) == self.searching and is_reached(event)

    def epochs(self) -> tuple[int, Place] | None:
        """How many epochs the epoch loop does, and where that is said; None when it is not known."""
        for loop in self.loops:
            if loop.of_epochs and isinstance(loop.node, ast.For):
                for call in self.walk.of(Call):
                    if self.inside(call) and _within(call.place, loop) and call.path.endswith(LISTS_OF_STEPS):
                        numbers = [
                            a.value for a in call.args if isinstance(a, Known) and isinstance(a.value, int)
                        ]
                        if len(numbers) == len(call.args) and numbers:
                            return len(range(*numbers[:3])), call.place
        return None

    def bounded(self) -> tuple[int, Place] | None:
        """How many rounds the loop over batches does by its head: `islice(loader, 2)`, `while step < 2`."""
        for loop in reversed(self.loops):
            if loop.of_epochs:
                continue
            if isinstance(loop.node, ast.While):
                test = loop.node.test
                if isinstance(test, ast.Compare) and isinstance(test.ops[0], ast.Lt):
                    number = _number(self, loop, test.comparators[0])
                    if number is not None:
                        return number, loop.place
                continue
            for call in self.walk.of(Call):
                if self.inside(call) and _within(call.place, loop) and call.path == "itertools.islice":
                    stop = call.argument(1)
                    if isinstance(stop, Known) and isinstance(stop.value, int):
                        return stop.value, call.place
        return None

    def limits(self) -> Iterator[Limit]:
        """The tests that may end a loop around the step in this training."""
        for loop in self.loops:
            for branch in _breaks(loop):
                for test in self.walk.of(Test):
                    same = test.place.path == loop.source.path and test.node is branch.test
                    if same and test.came is not False and self.inside(test):
                        yield Limit(test, loop, _rounds(self, loop, branch))
                        break


def trainings(bundle: Bundle, walk: Walk) -> tuple[Training, Training]:
    """The search of a walk, and the training besides; either may be without a step."""
    search, final = Training(bundle, walk, True), Training(bundle, walk, False)
    for call in walk.of(Call):
        if call.path.endswith(".backward") and is_reached(call):
            (search if in_search(walk, call) else final).steps.append(call)
    return search, final


def searches(walk: Walk) -> list[Call]:
    """The calls that start a search of hyper-parameters."""
    return [
        c
        for c in walk.of(Call)
        if c.path.startswith(SEARCHES) and c.path.endswith(".optimize") and is_reached(c)
    ]


def in_search(walk: Walk, event: Event) -> bool:
    """Whether an event happens inside a trial of a search."""
    starts = {(call.place.path, call.place.line) for call in searches(walk)}
    return any((frame.path, frame.line) in starts for frame in event.stack)


def is_reached(event: Event) -> bool:
    """Whether the command comes by; functions that it does not reach are looked at for themselves."""
    return event.certain or (bool(event.stack) and event.stack[0].line > 0)


def _around(source: Source, line: int) -> list[ast.For | ast.While]:
    """The loops whose body holds a line, the outermost first; none outside the function that holds it."""
    inner = max(
        (
            n.lineno
            for n in source.nodes
            if isinstance(n, ast.FunctionDef) and n.lineno <= line <= (n.end_lineno or 0)
        ),
        default=0,
    )
    loops = [
        node
        for node in source.nodes
        if isinstance(node, ast.For | ast.While)
        and node.body[0].lineno <= line <= (node.body[-1].end_lineno or 0)
        and node.lineno >= inner
    ]
    return sorted(loops, key=lambda node: node.lineno)


def _within(place: Place, loop: Loop) -> bool:
    assert isinstance(loop.node, ast.For)
    head = loop.node.iter
    return place.path == loop.source.path and head.lineno <= place.line <= (head.end_lineno or head.lineno)


def _breaks(loop: Loop) -> Iterator[ast.If]:
    """The branches directly in a loop's body that leave it."""
    todo: list[ast.stmt] = list(loop.node.body)
    while todo:
        statement = todo.pop(0)
        if isinstance(statement, ast.If):
            if any(isinstance(inner, ast.Break | ast.Return) for inner in statement.body):
                yield statement
            todo[:0] = [*statement.body, *statement.orelse]
        elif isinstance(statement, ast.With | ast.Try):
            todo[:0] = statement.body


def _rounds(training: Training, loop: Loop, branch: ast.If) -> int | None:
    """After how many rounds that branch leaves the loop at the latest."""
    parts = branch.test.values if isinstance(branch.test, ast.BoolOp) else [branch.test]
    for part in parts:
        if not isinstance(part, ast.Compare) or len(part.ops) != 1:
            continue
        ahead = 0
        left = part.left
        if (
            isinstance(left, ast.BinOp)
            and isinstance(left.op, ast.Add)
            and isinstance(left.right, ast.Constant)
        ):
            ahead, left = int(left.right.value or 0) if isinstance(left.right.value, int) else 0, left.left
        counter = (
            left.id if isinstance(left, ast.Name) else left.attr if isinstance(left, ast.Attribute) else ""
        )
        limit = _number(training, loop, part.comparators[0])
        op = part.ops[0]
        if not counter or limit is None or not isinstance(op, ast.GtE | ast.Gt | ast.Eq):
            continue
        first = _first_value(loop, branch, counter)
        if first is None:
            continue
        met_at = (
            limit - ahead + (1 if isinstance(op, ast.Gt) else 0)
        )  # the counter's value when the loop is left
        whole = max(0, met_at - first)  # rounds that were finished before
        return whole + (1 if branch.lineno > loop.step else 0)
    return None


def _first_value(loop: Loop, branch: ast.If, counter: str) -> int | None:
    """What the counter holds at the branch in the first round; None when it cannot be told."""
    node = loop.node
    if isinstance(node, ast.For) and any(
        isinstance(t, ast.Name) and t.id == counter for t in ast.walk(node.target)
    ):
        start = next((k.value for call in ast.walk(node.iter) if isinstance(call, ast.Call) and _is(call, "enumerate")
                      for k in call.keywords if k.arg == "start"), None)  # fmt: skip
        calls = [c for c in ast.walk(node.iter) if isinstance(c, ast.Call) and _is(c, "enumerate")]
        if not calls:
            return None
        if len(calls[0].args) > 1:
            start = calls[0].args[1]
        if start is None:
            return 0
        return int(start.value) if isinstance(start, ast.Constant) and isinstance(start.value, int) else None
    for part in (p for statement in node.body for p in ast.walk(statement)):
        if isinstance(part, ast.AugAssign) and isinstance(part.op, ast.Add) and _name(part.target) == counter:
            if isinstance(part.value, ast.Constant) and part.value.value == 1:
                return 1 if part.lineno < branch.lineno else 0
    return None


def _number(training: Training, loop: Loop, node: ast.expr) -> int | None:
    """The integer that an expression is worth, by the text, the config or the arguments of the function."""
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, int) and not isinstance(node.value, bool) else None
    for read in training.walk.of(ConfigRead):
        if read.place.path == loop.source.path and read.place.line == node.lineno and training.inside(read):
            if read.key.rpartition(".")[2] == _name(node) and isinstance(read.value, Known):
                return read.value.value if isinstance(read.value.value, int) else None
    name = _name(node)
    if isinstance(node, ast.Name):
        for entered in training.walk.of(Entered):
            value = entered.args.get(name)
            if isinstance(value, Known) and isinstance(value.value, int) and training.inside(entered):
                return value.value
        for part in loop.source.nodes:
            if isinstance(part, ast.Assign) and any(_name(target) == name for target in part.targets):
                found = _constant(part.value)
                if found is not None:
                    return found
    return None


def _constant(node: ast.expr) -> int | None:
    """An integer literal, or `2 if trial else None`, where the other way is no limit at all."""
    if isinstance(node, ast.IfExp):
        both = [node.body, node.orelse]
        numbers = [n for part in both if (n := _constant(part)) is not None]
        free = [ast.unparse(part) in ("None", "float('inf')", "math.inf") for part in both]
        return numbers[0] if len(numbers) == 1 and any(free) else None
    if isinstance(node, ast.Constant) and isinstance(node.value, int) and not isinstance(node.value, bool):
        return node.value
    return None


def _name(node: ast.AST) -> str:
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""


def _is(call: ast.Call, name: str) -> bool:
    return _name(call.func) == name
