"""The training of one walk: where it steps, the loops around it, and what ends them early."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property

from labgate.bundle import Bundle, Source
from labgate.bundle.kept import kept
from labgate.bundle.syntax import every, walked
from labgate.criteria._tracing import search_spans
from labgate.flow import Call, ConfigRead, Entered, Known, Test, Walk
from labgate.flow.events import Event, Place

LISTS_OF_STEPS = ("trange", "range")
_STEP = re.compile(r"\.backward$|(?:[Oo]ptim\w*(?:\.\w+)*\(\)|GradScaler\(\))\.(?:step|zero_grad)$")


@dataclass(frozen=True)
class Loop:
    """A loop around a training step; `step` is the line inside it that leads to the step."""

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
    """A test that ends a loop around the step after `batches` rounds; None when the number is not known.

    `at_least` where its counter does not count every round: there may be more of them.
    """

    test: Test
    loop: Loop
    batches: int | None
    at_least: bool = False


@kept
def course_of(walk: Walk, bundle: Bundle) -> Course:
    """What the walk trains."""
    return Course(bundle, walk)


class Course:
    """What one walk trains: `search` is the training inside its trials, `final` the training besides."""

    def __init__(self, bundle: Bundle, walk: Walk) -> None:
        self.walk = walk
        spans = search_spans(walk)
        self.searches = [call for call, _, _ in spans if is_reached(call)]
        """The calls that start a search of hyper-parameters."""
        self._inside = {id(event) for _, first, end in spans for event in walk.events[first:end]}
        self.search, self.final = Training(bundle, self, True), Training(bundle, self, False)
        calls = [call for call in walk.of(Call) if _STEP.search(call.path) and is_reached(call)]
        for training in (self.search, self.final):
            mine = [call for call in calls if self.in_search(call) == training.searching]
            # what is called on a value that nothing is known of is not seen: one of these three mostly is
            for name in (".backward", ".step", ".zero_grad"):
                training.steps = training.steps or [call for call in mine if call.path.endswith(name)]

    def in_search(self, event: Event) -> bool:
        """Whether an event happens inside a trial of a search."""
        return id(event) in self._inside


@dataclass
class Training:
    """The steps of one walk that belong to its search of hyper-parameters, or those that do not."""

    bundle: Bundle
    course: Course
    searching: bool
    steps: list[Call] = field(default_factory=list)

    @property
    def walk(self) -> Walk:
        return self.course.walk

    @cached_property
    def loops(self) -> list[Loop]:
        """The loops around the first step, the outermost first."""
        if not self.steps:
            return []
        found = []
        for frame in (*self.steps[0].stack, self.steps[0].place):
            source = self.bundle.sources.get(frame.path)
            if source is not None and frame.line:
                line = frame.line if frame != self.steps[0].place else _backward_near(source, frame.line)
                found += [Loop(source, node, line) for node in _around(source, frame.line)]
        return found

    def inside(self, event: Event) -> bool:
        """Whether an event belongs to this training, and not to the search, or the other way round."""
        return self.course.in_search(event) == self.searching and is_reached(event)

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
                        yield Limit(test, loop, _rounds(self, loop, branch), _skips_rounds(loop, branch))
                        break


def is_reached(event: Event) -> bool:
    """Whether the command comes by; functions that it does not reach are looked at for themselves."""
    return event.certain or (bool(event.stack) and event.stack[0].line > 0)


def _backward_near(source: Source, line: int) -> int:
    """The line of `backward()` in the innermost loop around a step, or the step's own."""
    for loop in reversed(_around(source, line)):
        for node in every(loop, ast.Call):
            if _is(node, "backward"):
                return node.lineno
    return line


@kept
def _around(source: Source, line: int) -> list[ast.For | ast.While]:
    """The loops whose body holds a line, the outermost first; none outside the function that holds it."""
    functions = every(source.tree, ast.FunctionDef)
    inner = max((n.lineno for n in functions if n.lineno <= line <= (n.end_lineno or 0)), default=0)
    loops = [
        node
        for node in every(source.tree, ast.For, ast.While)
        if node.body[0].lineno <= line <= (node.body[-1].end_lineno or 0) and node.lineno >= inner
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
        left_at = limit - ahead + (1 if isinstance(op, ast.Gt) else 0)
        whole = max(0, left_at - first)  # rounds that were finished before
        return whole + (1 if branch.lineno > loop.step else 0)
    return None


def _skips_rounds(loop: Loop, branch: ast.If) -> bool:
    """Whether a counter of the test is raised in some rounds only, as one of optimizer steps may be."""
    names = {_name(node) for node in walked(branch.test)} - {""}
    return any(
        isinstance(part, ast.AugAssign) and _name(part.target) in names
        for node in walked(loop.node)
        if isinstance(node, ast.If)
        for statement in (*node.body, *node.orelse)
        for part in walked(statement)
    )


def _first_value(loop: Loop, branch: ast.If, counter: str) -> int | None:
    """What the counter holds at the branch in the first round; None when it cannot be told."""
    node = loop.node
    if isinstance(node, ast.For) and any(
        isinstance(t, ast.Name) and t.id == counter for t in walked(node.target)
    ):
        calls = [c for c in walked(node.iter) if isinstance(c, ast.Call) and _is(c, "enumerate")]
        if not calls:
            return None
        start = next((keyword.value for keyword in calls[0].keywords if keyword.arg == "start"), None)
        if len(calls[0].args) > 1:
            start = calls[0].args[1]
        if start is None:
            return 0
        return int(start.value) if isinstance(start, ast.Constant) and isinstance(start.value, int) else None
    for part in (p for statement in node.body for p in walked(statement)):
        counts = isinstance(part, ast.AugAssign) and isinstance(part.op, ast.Add)
        if not counts or not isinstance(part, ast.AugAssign) or _name(part.target) != counter:
            continue
        if isinstance(part.value, ast.Constant) and part.value.value == 1:
            return 1 if part.lineno < branch.lineno else 0
    return None


def _number(training: Training, loop: Loop, node: ast.expr) -> int | None:
    """The integer that an expression is worth, by the text, the config or the arguments of the function."""
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, int) and not isinstance(node.value, bool) else None
    name = _name(node)
    for read in training.walk.of(ConfigRead):
        here = read.place.path == loop.source.path and read.place.line == node.lineno
        if not here or read.key.rpartition(".")[2] != name or not training.inside(read):
            continue
        if isinstance(read.value, Known):
            return read.value.value if isinstance(read.value.value, int) else None
    if isinstance(node, ast.Name):
        within = _function_around(loop)
        for entered in training.walk.of(Entered):
            value = entered.args.get(name)
            mine = entered.name.rpartition(".")[2] == within and training.inside(entered)
            if mine and isinstance(value, Known) and isinstance(value.value, int):
                return value.value
        for part in every(loop.source.tree, ast.Assign):
            if any(_name(target) == name for target in part.targets):
                found = _constant(part.value)
                if found is not None:
                    return found
    return None


def _function_around(loop: Loop) -> str:
    """The name of the innermost function that holds a loop; "" at a module's top."""
    line = loop.node.lineno
    functions = every(loop.source.tree, ast.FunctionDef)
    around = [node for node in functions if node.lineno <= line <= (node.end_lineno or 0)]
    return max(around, key=lambda node: node.lineno).name if around else ""


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
