"""Where on a walk an event lies: in code that is reached, in a loop, in a search."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterable, Iterator

from labgate.bundle import Bundle, Source
from labgate.bundle.kept import kept
from labgate.bundle.syntax import called, children
from labgate.checks import CannotLookError
from labgate.finding import Evidence
from labgate.flow import Flow
from labgate.flow.config import ListNode, Node
from labgate.flow.events import Call, Entered, Event, Fault, Place, Walk, evidence
from labgate.flow.values import (
    External,
    Instance,
    Known,
    Map,
    OneOf,
    Seq,
    Text,
    Value,
    options,
    text_of,
)

_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_LOOPS = (ast.For, ast.AsyncFor, ast.While)
_CHOICES = (ast.If, *_LOOPS, ast.With, ast.Try, ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)

Loop = tuple[str, int]
"""The path and the line of a `for` or `while`."""


def evaluation_walk(flow: Flow) -> Walk:
    """The walk of the evaluation. Raises CannotLookError when there is nothing to follow."""
    if not flow.evaluation:
        raise CannotLookError("there is no evaluation")
    walk = flow.evaluation[0]
    if not any(event.place.line for event in walk.events):
        raise CannotLookError(f"{walk.module} does nothing that could be followed")
    return walk


def run_ids(walk: Walk) -> list[str]:
    """The run ids on the evaluation's command line; none when its command takes none."""
    for word in walk.argv:
        key, equals, text = word.partition("=")
        if key == "run_ids" and equals:
            found: list[str] = json.loads(text)
            return found
    return []


def nodes_at(bundle: Bundle, place: Place) -> tuple[ast.AST, ...]:
    """The nodes of the file that span the line of `place`, the outermost first."""
    source = bundle.sources.get(place.path)
    return _on_line(source, place.line) if source is not None else ()


@kept
def _on_line(source: Source, line: int) -> tuple[ast.AST, ...]:
    found: list[ast.AST] = []
    pending: list[ast.AST] = [source.tree] if source.tree is not None else []
    while pending:
        for child in children(pending.pop()):
            first = getattr(child, "lineno", None)
            if first is not None and first <= line <= (child.end_lineno or first):  # type: ignore[attr-defined]
                found.append(child)
                pending.append(child)
    return tuple(found)


def reached(bundle: Bundle, event: Event) -> bool:
    """Whether the command comes by: functions that nobody calls are followed too, on their own."""
    first = event.stack[0] if event.stack else event.place
    return not _in_function(bundle, first)


def _in_function(bundle: Bundle, place: Place) -> bool:
    source = bundle.sources.get(place.path)
    return source is not None and _line_in_function(source, place.line)


@kept
def _line_in_function(source: Source, line: int) -> bool:
    return any(isinstance(node, _FUNCTIONS) for node in _on_line(source, line))


def loops_around(bundle: Bundle, event: Event) -> set[Loop]:
    """The loops whose body the event lies in, or the calls that lead to it do."""
    found = set()
    for place in (*event.stack, event.place):
        for node in nodes_at(bundle, place):
            if isinstance(node, _LOOPS) and node.body[0].lineno <= place.line:
                found.add((place.path, node.lineno))
    return found


def unit_of(bundle: Bundle, place: Place) -> Place:
    """The statement at `place`, the tests of one if-elif chain as one: what it names are alternatives."""
    chosen: ast.AST | None = None
    for node in nodes_at(bundle, place):
        if not isinstance(node, ast.stmt):
            continue
        if isinstance(node, ast.If) and _in_tests(node, place.line):
            return Place(place.path, node.lineno, 0, node.end_lineno or node.lineno)
        if not isinstance(node, _CHOICES) or place.line < _body_line(node):
            chosen = node
    line = chosen.lineno if isinstance(chosen, ast.stmt) else place.line
    return Place(place.path, line)


def chain_of(bundle: Bundle, place: Place) -> Place:
    """The expression that tries what stands at `place` among others: `a.get(x) or a.get(y)`.

    When its value goes to a name, other attempts at that name, in the same function, belong to it as well.
    """
    path = [node for node in nodes_at(bundle, place) if _spans(node, place)]
    chosen: ast.AST | None = None
    for parent, node in zip([*reversed(path[:-1]), None], reversed(path), strict=True):
        chosen = node
        if isinstance(parent, ast.Assign) and isinstance(parent.targets[0], ast.Name):
            function = next((n.lineno for n in reversed(path) if isinstance(n, _FUNCTIONS)), 0)
            return Place(f"{place.path}:{parent.targets[0].id}", function)
        if not isinstance(parent, ast.BoolOp | ast.IfExp | ast.Attribute | ast.Subscript) and not _hands_on(
            parent
        ):
            break
    line, column = getattr(chosen, "lineno", place.line), getattr(chosen, "col_offset", place.column)
    return Place(place.path, line, column)


def _hands_on(node: ast.AST | None) -> bool:
    """Whether a call gives back, in some form, its only or last argument: `float(x)`, `d.get(k, x)`."""
    if not isinstance(node, ast.Call):
        return False
    name = called(node)
    return name in ("get", "float", "int", "str", "round", "next")


def _spans(node: ast.AST, place: Place) -> bool:
    """Whether the node holds the very spot, its column too."""
    if not isinstance(node, ast.expr | ast.stmt):
        return False
    first, last = (node.lineno, node.col_offset), (node.end_lineno or 0, node.end_col_offset or 0)
    return first <= (place.line, place.column) < last


def _in_tests(node: ast.If, line: int) -> bool:
    """Whether `line` lies in the test of this `if` or of one of its `elif`."""
    while True:
        if node.test.lineno <= line <= (node.test.end_lineno or node.test.lineno):
            return True
        if len(node.orelse) != 1 or not isinstance(node.orelse[0], ast.If):
            return False
        node = node.orelse[0]


def _body_line(node: ast.stmt) -> int:
    body = getattr(node, "body", None)
    return body[0].lineno if body else node.lineno


@kept
def search_spans(walk: Walk) -> list[tuple[Call, int, int]]:
    """Each call that runs a search, with the range of indices of the events inside it."""
    found = []
    for index, event in enumerate(walk.events):
        if not isinstance(event, Call) or not _searches(event):
            continue
        depth, end = len(event.stack), index + 1
        while end < len(walk.events) and _deeper(walk.events[end], depth):
            end += 1
        found.append((event, index + 1, end))
    return found


def _deeper(event: Event, depth: int) -> bool:
    """Whether an event lies in a call from `depth`; one that a library makes has no line of its own."""
    calls_back = isinstance(event, Entered) and not event.place.line and len(event.stack) == depth
    return calls_back or len(event.stack) > depth


def _searches(call: Call) -> bool:
    return (call.path.endswith(".optimize") and call.path.startswith("optuna")) or (
        call.path.endswith("_study().optimize")
    )


def cut(walk: Walk) -> str:
    """Why the walk does not come to the end of the code; empty when it does."""
    if walk.truncated:
        return walk.truncated
    for fault in walk.of(Fault):
        if fault.key == "raise" and fault.certain and not fault.guarded:
            return f"the code stops at {fault.place.path}:{fault.place.line}"
    return ""


def parts_of(value: Value, depth: int = 8) -> Iterator[Value]:
    """`value` and all that it holds."""
    yield value
    if depth <= 0:
        return
    held: Iterable[Value] = ()
    if isinstance(value, OneOf):
        held = value.options
    elif isinstance(value, Seq):
        held = value.items[:64]
    elif isinstance(value, Map | Node):
        held = list(value.items.values())[:64]
    elif isinstance(value, ListNode):
        held = value.items[:64]
    elif isinstance(value, Instance):
        held = list(value.attrs.values())[:64]
    for part in held:
        yield from parts_of(part, depth - 1)


def texts(value: Value | None) -> Iterator[Known | Text]:
    """The strings that `value` may be, as far as they are known."""
    for option in options(value) if value is not None else ():
        text = text_of(option)
        if isinstance(text, Text) or isinstance(text.value, str):
            yield text


def caller(bundle: Bundle, event: Event) -> list[Evidence]:
    """The line that calls the function in which the event lies; none at the top of a file."""
    if not event.stack or not _in_function(bundle, event.stack[-1]):
        return []
    return [evidence(bundle, event.stack[-1], "called from here")]


def holder(call: Call) -> External | None:
    """The outside object whose method is called."""
    return call.of if isinstance(call.of, External) else None
